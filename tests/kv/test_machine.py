"""The state machine as its replica sees it: commands in, results out, queries, snapshots, digests."""

import pytest

from d_engine.format.errors import InvalidRequestError, InvariantViolation, SnapshotError
from d_engine.format.state_machine import ApplyContext, Replacement, StateMachine
from d_engine.kv import commands, queries, results
from d_engine.kv.key_value import KeyValue
from d_engine.kv.leases import LeaseTable
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.successor import Successor

CONTEXT = ApplyContext(index=1, term=1, log_time=0)


def apply(machine: StateMachine, *encoded: bytes) -> list[bytes]:
    return machine.apply(encoded, CONTEXT)


def filled(count: int) -> KvStateMachine:
    machine = KvStateMachine()
    apply(machine, *(commands.encode_put(b"%d" % number, b"v%d" % number) for number in range(count)))
    return machine


def test_put_answers_with_its_revision() -> None:
    machine = KvStateMachine()
    first, second = apply(machine, commands.encode_put(b"a", b"1"), commands.encode_put(b"b", b"2"))
    assert results.decode_put(first) == results.PutResult(1)
    assert results.decode_put(second) == results.PutResult(2)
    assert machine.store.get(b"b") == KeyValue(b"b", b"2", 2, 2, 1)


def test_put_answers_with_the_previous_entry_if_asked() -> None:
    machine = KvStateMachine()
    put = commands.encode_put(b"a", b"1", want_previous=True)
    first, second = apply(machine, put, put)
    assert results.decode_put(first) == results.PutResult(1)
    assert results.decode_put(second) == results.PutResult(2, KeyValue(b"a", b"1", 1, 1, 1))


def test_empty_keys_and_values_are_legal() -> None:
    machine = KvStateMachine()
    put = commands.encode_put(b"", b"", want_previous=True)
    answers = apply(machine, put, put, commands.encode_delete(b""))
    assert results.decode_put(answers[1]).previous == KeyValue(b"", b"", 1, 1, 1)
    assert results.decode_delete(answers[2]) == results.DeleteResult(3, True)


def test_a_key_written_again_after_its_deletion_starts_anew() -> None:
    machine = KvStateMachine()
    put, delete = commands.encode_put(b"a", b"1"), commands.encode_delete(b"a", want_previous=True)
    deleted = apply(machine, put, put, delete, put)[2]
    assert results.decode_delete(deleted) == results.DeleteResult(3, True, KeyValue(b"a", b"1", 1, 2, 2))
    assert machine.store.get(b"a") == KeyValue(b"a", b"1", 4, 4, 1)


def test_deleting_an_absent_key_does_not_raise_the_revision() -> None:
    machine = filled(3)
    (answer,) = apply(machine, commands.encode_delete(b"none", want_previous=True))
    assert results.decode_delete(answer) == results.DeleteResult(3, False)
    assert machine.revision == 3


@pytest.mark.parametrize("expected", [None, b"", b"v2"])
def test_a_failed_comparison_does_not_raise_the_revision(expected: bytes | None) -> None:
    machine = filled(3)
    (answer,) = apply(machine, commands.encode_compare_and_swap(b"1", expected, b"new"))
    assert results.decode_compare_and_swap(answer) == results.CompareAndSwapResult(3, False)
    assert machine.store.get(b"1") == KeyValue(b"1", b"v1", 2, 2, 1)


def test_compare_and_swap_writes_if_the_value_is_the_expected_one() -> None:
    machine = filled(3)
    swap = commands.encode_compare_and_swap(b"1", b"v1", b"new")
    answers = apply(machine, swap, swap)
    assert [results.decode_compare_and_swap(answer) for answer in answers] == [
        results.CompareAndSwapResult(4, True),
        results.CompareAndSwapResult(4, False),
    ]
    assert machine.store.get(b"1") == KeyValue(b"1", b"new", 2, 4, 2)


def test_compare_and_swap_expecting_nothing_creates() -> None:
    machine = KvStateMachine()
    create = commands.encode_compare_and_swap(b"lock", None, b"")
    answers = apply(machine, create, create)
    assert [results.decode_compare_and_swap(answer).succeeded for answer in answers] == [True, False]


def test_an_unreadable_command_is_answered_and_has_no_effect() -> None:
    machine = filled(1)
    before = machine.digest()
    answers = apply(machine, b"", b"\xff\x00\x00\x00", commands.encode_put(b"key", b"")[:-1])
    for answer, text in zip(answers, ["too short", "unknown kind 255", "runs past"], strict=True):
        with pytest.raises(InvalidRequestError, match=text):
            results.decode_put(answer)
    assert machine.digest() == before


def test_a_query_is_answered_from_one_moment() -> None:
    machine = filled(3)
    answer = queries.decode_entries(machine.query(queries.encode_get_entries([b"2", b"none", b"0"])))
    assert answer.revision == 3
    assert answer.entries == (KeyValue(b"2", b"v2", 3, 3, 1), None, KeyValue(b"0", b"v0", 1, 1, 1))


def test_written_and_restored_states_are_equal() -> None:
    machine, other = filled(3000), filled(10)
    pieces = list(machine.chunks(machine.view()))
    assert max(map(len, pieces)) <= 64 * 1024
    stream = b"".join(pieces)
    other.restore(stream[offset : offset + 1001] for offset in range(0, len(stream), 1001))
    assert other.digest() == machine.digest()
    assert other.revision == 3000
    put = commands.encode_put(b"5", b"x")
    assert apply(other, put) == apply(machine, put)
    assert other.digest() == machine.digest()


def test_a_foreign_view_is_refused() -> None:
    with pytest.raises(InvariantViolation):
        KvStateMachine().chunks(object())


def test_a_failed_restore_changes_nothing() -> None:
    machine = filled(100)
    before = machine.digest()
    (piece,) = filled(200).chunks(filled(200).view())
    with pytest.raises(SnapshotError):
        machine.restore(iter([piece[:-1]]))
    assert (machine.digest(), machine.store.epoch) == (before, 0)


def test_every_part_of_the_state_shows_in_the_digest() -> None:
    base = filled(3)
    for command in (
        commands.encode_put(b"0", b"v0"),
        commands.encode_put(b"0", b"other"),
        commands.encode_put(b"new", b""),
        commands.encode_delete(b"0"),
    ):
        machine = filled(3)
        assert machine.digest() == base.digest()
        apply(machine, command)
        assert machine.digest() != base.digest()


def test_order_of_arrival_shows_in_nothing_but_the_revisions() -> None:
    """Same keys, values and revisions, written down in different orders: equal digests."""
    forward, backward = KvStateMachine(), KvStateMachine()
    entries = [KeyValue(b"%04d" % number, b"", number + 1, number + 1, 1) for number in range(2000)]
    for entry in entries:
        forward.store.put(entry.key, entry.value)
    backward.store.become(2000, Successor(entries), LeaseTable())
    assert backward.digest() == forward.digest()


def test_a_restore_in_steps_changes_the_state_at_one_of_them() -> None:
    """What is read stands beside what is served, and what was served is let go of a little at a time."""
    source, target = KvStateMachine(), KvStateMachine()
    context = ApplyContext(1, 1, 0)
    source.apply([commands.encode_put(b"new%05d" % number, b"x" * 100) for number in range(3000)], context)
    target.apply([commands.encode_put(b"old%05d" % number, b"y") for number in range(2000)], context)
    before, wanted = target.digest(), source.digest()
    view = target.view()

    steps, count = target.restoring(source.chunks(source.view())), 0
    replacement: Replacement | None = None
    while replacement is None:
        try:
            next(steps)
            count += 1
        except StopIteration as end:
            replacement = end.value
        assert target.digest() == before
    assert count > 5
    assert target.digest() == before
    rest = replacement()
    assert target.digest() == wanted
    assert sum(1 for _ in rest) > 1000
    assert target.digest() == wanted
    assert view.count == 2000
    target.apply([commands.encode_put(b"new00001", b"z"), commands.encode_put(b"zzz", b"z")], context)
    assert target.store.count == 3001
