"""The watch checker: legal histories pass, each planted violation is found."""

import pytest

from d_engine import Event, KeyValue, WatchBatch
from d_engine.testing.checkers.watches import check_watch

A1 = Event(b"a", b"1", "put", 1, 1, 1)
A2 = Event(b"a", b"2", "put", 2, 1, 2, 0, KeyValue(b"a", b"1", 1, 1, 1))
B2 = Event(b"b", b"", "put", 2, 2, 1)
C3 = Event(b"c", b"", "put", 3, 3, 1)
A4 = Event(b"a", None, "deleted", 4, 0, 0, 0, KeyValue(b"a", b"2", 1, 2, 2))
WRITTEN = (A1, A2, B2, C3, A4)


def batch(*events: Event) -> WatchBatch:
    return WatchBatch(events[0].revision, events)


def mark(revision: int) -> WatchBatch:
    return WatchBatch(revision, ())


def wanted(event: Event) -> bool:
    return event.key in (b"a", b"b")


@pytest.mark.parametrize(
    ("after", "told"),
    [
        (0, []),
        (0, [batch(A1), batch(A2, B2), batch(A4)]),
        (0, [batch(A1), mark(1), batch(A2, B2), mark(3), batch(A4), mark(4), mark(9)]),
        (1, [batch(A2, B2), mark(2)]),
        (2, [mark(3), batch(A4)]),
        (7, [mark(7)]),
    ],
)
def test_what_is_true_passes(after: int, told: list[WatchBatch]) -> None:
    assert check_watch(WRITTEN, told, wanted, after) == ()


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ([batch(A1), batch(A4)], "revision 2 are missing at 4"),
        ([batch(A2, B2)], "revision 1 are missing at 2"),
        ([batch(A1), batch(A1)], "revision 1 came after"),
        ([batch(A1), batch(A2, B2), batch(A1)], "revision 1 came after"),
        ([batch(A1), batch(A2)], "at revision 2 came"),
        ([batch(A1), batch(A2), batch(B2)], "at revision 2 came"),
        ([batch(A1), batch(B2, A2)], "at revision 2 came"),
        ([batch(A1), batch(Event(b"a", b"2", "put", 2, 1, 2), B2)], "at revision 2 came"),
        ([batch(A1), batch(A2, B2), batch(C3)], "at revision 3 came"),
        ([batch(A1), mark(2)], "revision 2 are missing at 2"),
        ([batch(A1), batch(A2, B2), mark(1)], "a mark at 1 came after"),
    ],
    ids=["gap", "lost", "twice", "back", "part", "split", "order", "previous", "unwanted", "early", "fallen"],
)
def test_what_is_not_is_found(told: list[WatchBatch], message: str) -> None:
    found = check_watch(WRITTEN, told, wanted)
    assert any(message in str(violation) for violation in found)
    assert {violation.invariant for violation in found} == {"I10"}
