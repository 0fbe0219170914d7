"""The recorder: what it accepts, what it makes of it, and where it refuses."""

import pytest

from d_engine.testing.checkers import (
    Action,
    CompareAndSwap,
    Get,
    Handle,
    History,
    HistoryError,
    Operation,
    Outcome,
    Put,
    Scan,
)
from d_engine.testing.checkers.history import distinct


def test_events_are_numbered_by_default() -> None:
    history: History[Action] = History()
    write = history.invoke("a", Put(b"k", 1))
    read = history.invoke("b", Get(b"k"), session=3)
    history.ok(read, 1, 7)
    history.ok(write, revision=7)
    assert history.operations() == (
        Operation(0, "a", 0, Put(b"k", 1), 0, 3, Outcome.OK, None, 7),
        Operation(1, "b", 3, Get(b"k"), 1, 2, Outcome.OK, 1, 7),
    )


def test_any_clock_and_any_action_will_do() -> None:
    times = iter((5, 5, 9))
    history: History[str] = History(lambda: next(times))
    first, second = history.invoke("a", "up"), history.invoke("a", "down")
    history.fail(second)
    history.unknown(first)
    assert [operation.outcome for operation in history] == [Outcome.UNKNOWN, Outcome.FAILED]
    assert [operation.completed for operation in history] == [None, 9]


def test_what_has_not_ended_is_unknown() -> None:
    history: History[Action] = History()
    history.invoke("a", Put(b"k", 1))
    (operation,) = history.operations()
    assert operation.outcome is Outcome.UNKNOWN
    assert operation.completed is None
    assert len(history) == 1


def test_precedence_is_strict() -> None:
    early = Operation(0, "a", 0, "x", 1, 4, Outcome.OK)
    touching = Operation(1, "a", 0, "x", 4, 6, Outcome.OK)
    late = Operation(2, "a", 0, "x", 5, 6, Outcome.OK)
    open_for_ever = Operation(3, "a", 0, "x", 0, None, Outcome.UNKNOWN)
    assert early.precedes(late)
    assert not early.precedes(touching)
    assert not open_for_ever.precedes(late)


def test_an_operation_reads_well() -> None:
    assert (
        str(Operation(4, "a", 1, "up", 2, 5, Outcome.OK, b"v", 9))
        == "#4 a/1 [2, 5] up ok -> b'v' at revision 9"
    )
    assert str(Operation(4, "a", 1, "up", 2, None, Outcome.UNKNOWN)) == "#4 a/1 [2, ...] up unknown"


def test_impossible_operations_are_refused() -> None:
    with pytest.raises(HistoryError, match="before its invocation"):
        Operation(0, "a", 0, "x", 5, 4, Outcome.OK)
    with pytest.raises(HistoryError, match="exactly the unknown"):
        Operation(0, "a", 0, "x", 5, None, Outcome.OK)
    with pytest.raises(HistoryError, match="exactly the unknown"):
        Operation(0, "a", 0, "x", 5, 6, Outcome.UNKNOWN)


def test_an_operation_ends_once() -> None:
    history: History[str] = History()
    handle = history.invoke("a", "x")
    history.fail(handle)
    with pytest.raises(HistoryError, match="ended twice"):
        history.ok(handle)


def test_only_what_was_invoked_can_end() -> None:
    history: History[str] = History()
    for handle in (0, -1):
        with pytest.raises(HistoryError, match="was invoked"):
            history.ok(Handle(handle))


def test_the_history_has_a_limit() -> None:
    history: History[str] = History(max_operations=2)
    history.invoke("a", "x")
    history.invoke("a", "x")
    with pytest.raises(HistoryError, match="full: 2"):
        history.invoke("a", "x")


def test_two_histories_do_not_mix() -> None:
    operation = Operation(0, "a", 0, "x", 5, 6, Outcome.OK)
    with pytest.raises(HistoryError, match="index 0"):
        distinct([operation, operation])


def test_none_cannot_be_stored() -> None:
    with pytest.raises(ValueError, match="absent"):
        Put(b"k", None)
    with pytest.raises(ValueError, match="absent"):
        CompareAndSwap(b"k", 1, None)


def test_a_scan_knows_its_range() -> None:
    assert b"b" in Scan(b"b", b"c")
    assert b"c" not in Scan(b"b", b"c")
    assert b"zzz" in Scan(b"b")
    assert b"a" not in Scan(b"b")
    assert "b" not in Scan()
    with pytest.raises(ValueError, match="at least 1"):
        Scan(limit=0)
