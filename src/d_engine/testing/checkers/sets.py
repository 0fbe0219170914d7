"""A set that only grows: nothing acknowledged is lost, nothing is read that was never added.

The workload: clients add elements, each element once, and read the whole set now and then and at the end. How the set
is stored (a key for each element and a scan, or one key and compare-and-swap) is the workload's affair. The simplest
checker and, over long runs with many faults, one of the sharpest (Jepsen's "set" and "set-full" workloads): a lost
element stays lost, so it is seen however late one looks.

* An element in a read must have been added: asked for before the read ended, and not failed.
* A linearizable read must have every element acknowledged, or seen by any other read, before it began. If a later read
  has the element after all, the read was stale (I6); if none has, the element is lost (I5).
* An acknowledged element that no linearizable read looked for afterwards proves nothing; that is reported too, so that
  a run whose final read never happened does not pass.
"""

from collections.abc import Collection, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeAlias

from d_engine.testing.checkers.actions import Consistency
from d_engine.testing.checkers.history import HistoryError, Operation, Outcome, distinct
from d_engine.testing.checkers.violation import Findings, Violation

CHECKER = "set"
DEFAULT_MAX_VIOLATIONS = 20

Element: TypeAlias = Hashable


@dataclass(frozen=True, slots=True)
class SetAdd:
    """Add an element that nobody else adds. The result is not looked at."""

    element: Element


@dataclass(frozen=True, slots=True)
class SetRead:
    """Read the set. Result: its elements, in any collection."""

    consistency: Consistency = Consistency.LINEARIZABLE


SetAction: TypeAlias = SetAdd | SetRead

_Record = Operation[SetAction]
_Read = tuple[_Record, int, frozenset[Element]]


def check_set(
    operations: Iterable[Operation[SetAction]], *, max_violations: int = DEFAULT_MAX_VIOLATIONS
) -> tuple[Violation, ...]:
    """Judge a history of `SetAdd` and `SetRead`. The set is empty at first. At most `max_violations` are returned.

    Example::

        history = History()
        history.ok(history.invoke("anna", SetAdd(1)))
        history.unknown(history.invoke("ben", SetAdd(2)))
        history.ok(history.invoke("anna", SetRead()), result={1, 2})
        require(check_set(history.operations()))
    """
    findings = Findings(CHECKER, max_violations)
    adds: dict[Element, _Record] = {}
    reads: list[_Read] = []
    for operation in distinct(operations):
        action = operation.action
        if isinstance(action, SetAdd):
            if action.element in adds:
                raise HistoryError(
                    f"{action.element!r} is added twice, which the checker could not tell apart"
                )
            adds[action.element] = operation
        elif operation.completed is not None and operation.outcome is Outcome.OK:
            reads.append((operation, operation.completed, _elements(operation, findings)))
    for read in reads:
        _judge_elements(read, adds, findings)
    _judge_missing(reads, adds, findings)
    return findings.done()


def _elements(read: _Record, findings: Findings) -> frozenset[Element]:
    if not isinstance(read.result, Collection) or isinstance(read.result, str | bytes):
        raise HistoryError(f"a read of the set must answer a collection, not {read.result!r}")
    elements = frozenset(read.result)
    if len(elements) != len(read.result):
        findings.add("I6", "the read has an element more than once", read)
    return elements


def _judge_elements(read: _Read, adds: dict[Element, _Record], findings: Findings) -> None:
    """Whether every element was added, and before the read ended."""
    operation, completed, elements = read
    for element in sorted(elements - adds.keys(), key=repr):
        findings.add("I6", f"the read has {element!r}, which was never added", operation)
    adds_seen = [adds[element] for element in elements if element in adds]
    early = [add for add in adds_seen if add.outcome is Outcome.FAILED or add.invoked > completed]
    for add in sorted(early, key=lambda add: add.index):
        if add.outcome is Outcome.FAILED:
            findings.add("I6", "the read has an element whose add failed", operation, add)
        else:
            findings.add("I6", "the read has an element that was added only later", operation, add)


def _judge_missing(reads: list[_Read], adds: dict[Element, _Record], findings: Findings) -> None:
    """Whether every read has what was known to be in the set before it began."""
    known: dict[Element, tuple[int, _Record]] = {}
    last_seen: dict[Element, int] = {}
    for operation, completed, elements in sorted(reads, key=lambda read: (read[1], read[0].index)):
        for element in elements:
            known.setdefault(element, (completed, operation))
            last_seen[element] = completed
    for element, add in adds.items():
        if add.outcome is Outcome.OK and add.completed is not None:
            if element not in known or add.completed < known[element][0]:
                known[element] = (add.completed, add)

    order = sorted(known, key=lambda element: (known[element][0], known[element][1].index))
    must_have: set[Element] = set()
    unjudged = 0
    reported: set[Element] = set()
    for operation, completed, elements in sorted(reads, key=lambda read: (read[0].invoked, read[0].index)):
        if operation.action != SetRead(Consistency.EVENTUAL):
            while unjudged < len(order) and known[order[unjudged]][0] < operation.invoked:
                must_have.add(order[unjudged])
                unjudged += 1
            for element in sorted(must_have - elements - reported, key=repr):
                reported.add(element)
                source = known[element][1]
                if last_seen.get(element, completed) > completed:
                    findings.add(
                        "I6", f"the read misses {element!r}, which was known before it", operation, source
                    )
                else:
                    findings.add(
                        "I5", f"{element!r} was known to be in the set and is lost", source, operation
                    )
    for element in order[unjudged:]:
        if known[element][1].outcome is Outcome.OK and isinstance(known[element][1].action, SetAdd):
            text = f"{element!r} was acknowledged, but no linearizable read came after it: nothing is proven"
            findings.add("I5", text, known[element][1])
