"""Lists that only grow at the end: every read is a prefix of the longest, and their order is that of real time.

The workload: clients append elements to a few lists, each element once, and read whole lists. Because a list tells the
whole order of the writes to it, what a register hides becomes visible, and the check is cheap and exact (Kingsbury and
Alvaro, "Elle: inferring isolation anomalies from experimental observations", VLDB 2020, section 3, list-append). Here
each operation touches one list, so that no cycles have to be searched:

* no element twice (an append applied twice), none that was not appended, or whose append failed;
* every read is a prefix of the longest read of its list, so that there is one order;
* that order agrees with real time: an append that ended before another began comes first; a linearizable read has
  every append that was acknowledged and everything that was seen before it began.

An acknowledged element that no later linearizable read has is lost (I5); if no such read came, that is reported too.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from d_engine.testing.checkers._real_time import highest_before
from d_engine.testing.checkers.actions import Consistency
from d_engine.testing.checkers.history import HistoryError, Operation, Outcome, distinct
from d_engine.testing.checkers.violation import Findings, Violation

CHECKER = "append"
DEFAULT_MAX_VIOLATIONS = 20

Element: TypeAlias = Hashable


@dataclass(frozen=True, slots=True)
class ListAppend:
    """Append an element that no other append to the list `key` has. The result is not looked at."""

    key: Hashable
    element: Element


@dataclass(frozen=True, slots=True)
class ListRead:
    """Read the list `key`. Result: its elements, first one first, as a sequence."""

    key: Hashable
    consistency: Consistency = Consistency.LINEARIZABLE


ListAction: TypeAlias = ListAppend | ListRead

_Record = Operation[ListAction]


def check_append(
    operations: Iterable[Operation[ListAction]], *, max_violations: int = DEFAULT_MAX_VIOLATIONS
) -> tuple[Violation, ...]:
    """Judge a history of `ListAppend` and `ListRead`. Lists are empty at first.

    At most `max_violations` are returned.

    Example::

        history = History()
        history.ok(history.invoke("anna", ListAppend("queue", "a")))
        history.ok(history.invoke("ben", ListAppend("queue", "b")))
        history.ok(history.invoke("anna", ListRead("queue")), result=["a", "b"])
        require(check_append(history.operations()))
    """
    findings = Findings(CHECKER, max_violations)
    lists: dict[Hashable, _List] = {}
    for operation in distinct(operations):
        lists.setdefault(operation.action.key, _List(operation.action.key)).add(operation)
    for one in lists.values():
        one.judge(findings)
    return findings.done()


@dataclass(slots=True)
class _List:
    """All that happened to one list."""

    key: Hashable
    appends: dict[Element, _Record] = field(default_factory=dict)
    reads: list[_Record] = field(default_factory=list)
    contents: dict[int, Sequence[Element]] = field(default_factory=dict)
    positions: dict[Element, int] = field(default_factory=dict)

    def add(self, operation: _Record) -> None:
        action = operation.action
        if isinstance(action, ListAppend):
            if action.element in self.appends:
                raise HistoryError(
                    f"{action.element!r} is appended twice to {self.key!r}: they cannot be told apart"
                )
            self.appends[action.element] = operation
        elif operation.outcome is Outcome.OK:
            if not isinstance(operation.result, Sequence) or isinstance(operation.result, str | bytes):
                raise HistoryError(f"a read of a list must answer a sequence, not {operation.result!r}")
            self.reads.append(operation)
            self.contents[operation.index] = tuple(operation.result)

    def judge(self, findings: Findings) -> None:
        longest: Sequence[Element] = max(self.contents.values(), key=len, default=())
        for read in self.reads:
            self._judge_elements(read, findings)
            if self.contents[read.index] != longest[: len(self.contents[read.index])]:
                text = f"the read of {self.key!r} is no prefix of the longest one: {longest!r}"
                findings.add("I6", text, read)
        for position, element in enumerate(longest):
            self.positions.setdefault(element, position)
        self._judge_real_time(findings)
        self._judge_lost(findings)

    def _judge_elements(self, read: _Record, findings: Findings) -> None:
        seen: set[Element] = set()
        for element in self.contents[read.index]:
            append = self.appends.get(element)
            if element in seen:
                findings.add("I6", f"the read has {element!r} twice", read, *[append] if append else [])
            elif append is None:
                findings.add("I6", f"the read has {element!r}, which was never appended", read)
            elif append.outcome is Outcome.FAILED:
                findings.add("I6", f"the read has {element!r}, whose append failed", read, append)
            elif read.precedes(append):
                findings.add("I6", f"the read has {element!r}, which was appended only later", read, append)
            seen.add(element)

    def _judge_real_time(self, findings: Findings) -> None:
        """Whether nobody falls behind the length that the list was known to have."""
        order = sorted([*self.appends.values(), *self.reads], key=lambda operation: operation.index)
        for operation, bound in zip(order, highest_before(order, self._length), strict=True):
            length = self._length(operation, even_if_unknown=True)
            if bound is None or length is None:
                continue
            least, earlier = bound
            if isinstance(operation.action, ListRead):
                if operation.action.consistency is not Consistency.EVENTUAL and length < least:
                    text = (
                        f"the read of {self.key!r} has {length} elements, though it was known to have {least}"
                    )
                    findings.add("I6", text, operation, earlier)
            elif length <= least:
                text = f"the append to {self.key!r} came in at place {length}, though {least} were known to be taken"
                findings.add("I6", text, operation, earlier)

    def _length(self, operation: _Record, even_if_unknown: bool = False) -> int | None:
        """The length that the list had when the operation was done: with the element, or as read."""
        if isinstance(operation.action, ListRead):
            return len(self.contents[operation.index])
        if operation.outcome is Outcome.OK or even_if_unknown:
            position = self.positions.get(operation.action.element)
            return None if position is None else position + 1
        return None

    def _judge_lost(self, findings: Findings) -> None:
        """Whether every acknowledged element was seen by a linearizable read that came after it."""
        last = max(
            (read for read in self.reads if read.action != ListRead(self.key, Consistency.EVENTUAL)),
            key=lambda read: read.invoked,
            default=None,
        )
        for element, append in self.appends.items():
            if append.outcome is not Outcome.OK:
                continue
            if last is None or not append.precedes(last):
                text = f"{element!r} was acknowledged, but no linearizable read of {self.key!r} came after it"
                findings.add("I5", text, append)
            elif element not in self.positions:
                findings.add(
                    "I5", f"{element!r} was acknowledged, but {self.key!r} has lost it", append, last
                )
