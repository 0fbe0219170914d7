"""What a watch told, held against what was written (I10).

The workload: everything that is written is known, as the events of all keys in order, from a replica's history or from
a watch of everything. A watch's batches are recorded as they came, over all its resumptions; a batch without events is
a progress mark.

* *Ordered, unique*: revisions rise from batch to batch.
* *Reliable*: a batch or a mark at a revision says that everything wanted up to there has come before, or comes with it.
* *Atomic*: a batch has exactly the wanted events of its revision, as they were written, previous entries included.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Protocol, TypeVar

from d_engine.testing.checkers.violation import Findings, Violation

CHECKER = "watch"
DEFAULT_MAX_VIOLATIONS = 20


class Dated(Protocol):
    """An event, of whatever kind: equal events are the same change with the same entry before it."""

    @property
    def revision(self) -> int: ...


EventT = TypeVar("EventT", bound=Dated)
_EventT_co = TypeVar("_EventT_co", bound=Dated, covariant=True)


class Told(Protocol[_EventT_co]):
    """A batch that came out of a watch."""

    @property
    def revision(self) -> int: ...

    @property
    def events(self) -> Sequence[_EventT_co]: ...


def check_watch(
    written: Iterable[EventT],
    told: Iterable[Told[EventT]],
    wants: Callable[[EventT], bool],
    after: int = 0,
    max_violations: int = DEFAULT_MAX_VIOLATIONS,
) -> tuple[Violation, ...]:
    """`written`: every event, by rising revision, with previous entries. `told`: what came out of a watch that asked
    for previous entries, and began behind revision `after`. `wants`: whether it asked for such an event.

    Example::

        written = [Event(b"a", b"1", "put", 1), Event(b"b", b"2", "put", 2), Event(b"a", None, "deleted", 3)]
        told = [WatchBatch(1, (written[0],)), WatchBatch(2, ()), WatchBatch(3, (written[2],))]
        require(check_watch(written, told, lambda event: event.key == b"a"))
    """
    findings = Findings(CHECKER, max_violations)
    expected: dict[int, list[EventT]] = {}
    for event in written:
        if event.revision > after and wants(event):
            expected.setdefault(event.revision, []).append(event)
    due = iter(sorted(expected))
    next_due = next(due, None)
    known = after
    for batch in told:
        revision = batch.revision
        if batch.events and revision <= known:
            findings.add("I10", f"revision {revision} came after the watch was true up to {known}")
            continue
        if not batch.events and revision < known:
            findings.add("I10", f"a mark at {revision} came after the watch was true up to {known}")
            continue
        while next_due is not None and next_due < revision + (not batch.events):
            findings.add("I10", f"the events of revision {next_due} are missing at {revision}")
            next_due = next(due, None)
        if batch.events:
            if next_due == revision:
                next_due = next(due, None)
            if list(batch.events) != expected.get(revision, []):
                findings.add(
                    "I10",
                    f"at revision {revision} came {batch.events}, written was {expected.get(revision, [])}",
                )
        known = revision
    return findings.done()
