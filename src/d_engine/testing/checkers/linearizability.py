"""Is there one order of all operations that explains every answer and contradicts no clock?

Theory
------
A history is *linearizable* (Herlihy and Wing, ACM TOPLAS 12(3), 1990) if its operations can be put into one sequence
such that an operation that ended before another began comes first, and a sequential specification (`Model`) allows
every answer. Deciding this is NP-complete (Gibbons and Korach, "Testing shared memories", SIAM J. Comput. 26(4), 1997);
what makes it practical:

* *Search with undo*: choose among the operations that may come next, step the model, go back when stuck (Wing and Gong,
  "Testing and verifying concurrent objects", J. Parallel Distrib. Comput. 17, 1993).
* *Just in time*: an operation is placed only at the moment when one must be, namely when some operation returns and is
  not placed yet; then just before that return come those, and only those, that make its answer possible (Lowe,
  "Testing for linearizability", Concurrency Computat. Pract. Exper. 29(4), 2017).
* *Memory*: two ways to the same point of the history with the same operations placed and the same state have the same
  future; the second is not followed (Lowe, same paper). The set of placed operations is a bitmask. All that returned
  are placed, so the bits need only name those still open.
* *Locality*: independent objects are searched separately (Horn and Kroening, "Faster linearizability checking via
  P-compositionality", FORTE 2015, for the practice).

Operations with an unknown outcome never return; they may be placed at any time after their invocation, or never. k of
them would multiply the memory by 2**k. But they are never needed: if one way has the same state and the same answered
operations placed as another, and has used *fewer* of the unknown (a subset), whatever the other can do it can do too.
Such a dominated way is not followed. This stays complete: were some way cut off that leads to the end in n more steps,
its dominator would lead there in at most n, and the search, being exhaustive, would find the shortest such way uncut.
Ways are grown by number of operations placed, so that dominators come first; for a register that leaves k ways instead
of 2**k. Operations that certainly failed are dropped before the search.

The search is bounded by model steps, not by seconds: the same history has the same verdict on every machine. Running
out of steps is reported as a violation.
"""

from collections import deque
from collections.abc import Collection, Hashable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Generic, NamedTuple, TypeVar, cast, overload

from d_engine.testing.checkers.actions import Action
from d_engine.testing.checkers.history import Operation, Outcome, distinct
from d_engine.testing.checkers.models import KeyValueModel, Model, StateT
from d_engine.testing.checkers.violation import Violation

ActionT = TypeVar("ActionT")

CHECKER = "linearizability"
DEFAULT_MAX_STEPS = 2_000_000
_SHOWN_UNPLACED = 4
_SHOWN_PREFIX = 5
_SHOWN_STATE = 200


class Verdict(Enum):
    """What the search found. `UNDECIDED` counts as failure."""

    LINEARIZABLE = "linearizable"
    NOT_LINEARIZABLE = "not linearizable"
    UNDECIDED = "undecided"


@dataclass(frozen=True, slots=True)
class PartReport:
    """The verdict on the objects in `part`, which operations touched together.

    Attributes:
        part: the objects, keys for the key-value store.
        verdict: what the search found.
        order: if linearizable a legal order of its operations, without those of unknown outcome that are not needed;
            otherwise the longest legal order found: it explains everything up to just before the first operation of
            `unplaced` returned, and no order explains that return as well (if undecided: none was found).
        unplaced: empty if linearizable; otherwise first the operation whose answer has no place, then the others that
            were under way at its return and have no place in `order`.
        state: the model's state after `order`, as text.
        steps: model steps that the search took.
    """

    part: tuple[Hashable, ...]
    verdict: Verdict
    order: tuple[Operation[object], ...]
    unplaced: tuple[Operation[object], ...]
    state: str
    steps: int


@dataclass(frozen=True, slots=True)
class LinearizabilityReport:
    """The verdict on a whole history, and on each part of it in the order of first use."""

    verdict: Verdict
    parts: tuple[PartReport, ...]

    @property
    def violations(self) -> tuple[Violation, ...]:
        """One for each part that is not shown to be linearizable."""
        return tuple(_violation(part) for part in self.parts if part.verdict is not Verdict.LINEARIZABLE)


@overload
def check_linearizability(
    operations: Iterable[Operation[Action]], *, max_steps: int = DEFAULT_MAX_STEPS
) -> LinearizabilityReport: ...


@overload
def check_linearizability(
    operations: Iterable[Operation[ActionT]],
    model: Model[StateT, ActionT],
    *,
    max_steps: int = DEFAULT_MAX_STEPS,
) -> LinearizabilityReport: ...


def check_linearizability(
    operations: Iterable[Operation[ActionT]],
    model: Model[StateT, ActionT] | None = None,
    *,
    max_steps: int = DEFAULT_MAX_STEPS,
) -> LinearizabilityReport:
    """Judge a history against `model`, by default that of the key-value store, empty at first.

    `max_steps` bounds the search of each part, in steps of the model: a few microseconds each. Histories with
    at most eight operations under way at a time on one object need one to a few dozen steps for each operation.

    Example::

        history = History()
        history.ok(history.invoke("anna", Put(b"k", b"1")))
        history.ok(history.invoke("ben", CompareAndSwap(b"k", b"1", b"2")), result=True)
        history.ok(history.invoke("anna", Get(b"k")), result=b"2")
        require(check_linearizability(history.operations()).violations)
    """
    if model is None:
        return _check(cast("Iterable[Operation[Action]]", operations), KeyValueModel(), max_steps)
    return _check(operations, model, max_steps)


def _check(
    operations: Iterable[Operation[ActionT]], model: Model[StateT, ActionT], max_steps: int
) -> LinearizabilityReport:
    parts = tuple(
        _Search(part, members, model, max_steps).run() for part, members in _partition(operations, model)
    )
    verdicts = {part.verdict for part in parts}
    for verdict in (Verdict.NOT_LINEARIZABLE, Verdict.UNDECIDED):
        if verdict in verdicts:
            return LinearizabilityReport(verdict, parts)
    return LinearizabilityReport(Verdict.LINEARIZABLE, parts)


def _partition(
    operations: Iterable[Operation[ActionT]], model: Model[StateT, ActionT]
) -> list[tuple[tuple[Hashable, ...], list[Operation[ActionT]]]]:
    """Group the operations to be judged by objects that are connected through operations touching both."""
    parents: dict[Hashable, Hashable] = {}

    def root(item: Hashable) -> Hashable:
        while parents[item] != item:
            parents[item] = parents[parents[item]]
            item = parents[item]
        return item

    judged: list[tuple[Hashable, Operation[ActionT]]] = []
    for operation in distinct(operations):
        footprint = () if operation.outcome is Outcome.FAILED else tuple(model.footprint(operation))
        for item in footprint:
            parents.setdefault(item, item)
            parents[root(item)] = root(footprint[0])
        if footprint:
            judged.append((footprint[0], operation))

    members: dict[Hashable, list[Operation[ActionT]]] = {}
    for item, operation in judged:
        members.setdefault(root(item), []).append(operation)
    objects: dict[Hashable, list[Hashable]] = {}
    for item in parents:
        objects.setdefault(root(item), []).append(item)
    return [(tuple(objects[item]), group) for item, group in members.items()]


_Placeable = tuple[int, Operation[ActionT]]


@dataclass(frozen=True, slots=True)
class _Return(Generic[ActionT]):
    """A moment at which `operation` must be placed, and what else is under way then, each with its bit."""

    operation: Operation[ActionT]
    bit: int
    answered: tuple[_Placeable[ActionT], ...]
    unknown: tuple[_Placeable[ActionT], ...]


class _Trail(NamedTuple):
    """The operations placed so far, last one first; shared between the ways that part later."""

    before: "_Trail | None"
    operation: Operation[object]


class _Way(Generic[StateT], NamedTuple):
    """A point of the search: the returns passed, what is placed of the operations under way, and the state."""

    returns: int
    answered: int
    unknown: int
    state: StateT
    trail: _Trail | None


class _OutOfStepsError(Exception):
    """The search has used up its budget."""


class _Search(Generic[StateT, ActionT]):
    """The search in one part."""

    def __init__(
        self,
        part: tuple[Hashable, ...],
        operations: Collection[Operation[ActionT]],
        model: Model[StateT, ActionT],
        max_steps: int,
    ) -> None:
        self._part = part
        self._model = model
        self._max_steps = max_steps
        self._steps = 0
        self._returns = _returns(operations)
        # For each point and state, the minimal sets of unknown operations with which it was reached.
        self._reached: dict[tuple[int, int, StateT], list[int]] = {}
        self._furthest: _Way[StateT] = _Way(0, 0, 0, model.initial(part), None)

    def run(self) -> PartReport:
        try:
            found = self._explore()
        except _OutOfStepsError:
            return self._report(Verdict.UNDECIDED)
        return self._report(Verdict.LINEARIZABLE if found else Verdict.NOT_LINEARIZABLE)

    def _explore(self) -> bool:
        """Depth first, so that a legal history needs few ways; each generator holds the ways not yet tried."""
        start = self._pass_returns(self._furthest)
        if start.returns == len(self._returns):
            return True
        self._is_new(start)
        pending = [self._through_next_return(start)]
        while pending:
            way = next(pending[-1], None)
            if way is None:
                pending.pop()
                continue
            way = self._pass_returns(way)
            if way.returns == len(self._returns):
                return True
            if self._is_new(way):
                pending.append(self._through_next_return(way))
        return False

    def _pass_returns(self, way: _Way[StateT]) -> _Way[StateT]:
        """Go on to the first return whose operation is not placed yet."""
        returns, answered = way.returns, way.answered
        while returns < len(self._returns) and answered & self._returns[returns].bit:
            answered ^= self._returns[returns].bit
            returns += 1
        way = way._replace(returns=returns, answered=answered)
        if returns > self._furthest.returns:
            self._furthest = way
        return way

    def _through_next_return(self, start: _Way[StateT]) -> Iterator[_Way[StateT]]:
        """Every way to place the returning operation, after as few others as possible, fewest first."""
        event = self._returns[start.returns]
        yield from self._place(start, event.operation, event.bit, 0)
        queue = deque([start])
        while queue:
            for longer in self._place_one_more(queue.popleft(), event):
                if self._is_new(longer):
                    yield from self._place(longer, event.operation, event.bit, 0)
                    queue.append(longer)

    def _place_one_more(self, way: _Way[StateT], event: _Return[ActionT]) -> Iterator[_Way[StateT]]:
        """Place any one of the other operations under way; of the unknown the latest first, as the likeliest."""
        for bit, operation in event.answered:
            if not way.answered & bit:
                yield from self._place(way, operation, bit, 0)
        for bit, operation in reversed(event.unknown):
            if not way.unknown & bit:
                yield from self._place(way, operation, 0, bit)

    def _place(
        self, way: _Way[StateT], operation: Operation[ActionT], answered: int, unknown: int
    ) -> Iterator[_Way[StateT]]:
        """Every way to place the operation next; one of the two numbers is its bit, the other is 0."""
        if self._steps >= self._max_steps:
            raise _OutOfStepsError
        self._steps += 1
        for state in self._model.step(way.state, operation):
            yield _Way(
                way.returns,
                way.answered | answered,
                way.unknown | unknown,
                state,
                _Trail(way.trail, operation),
            )

    def _is_new(self, way: _Way[StateT]) -> bool:
        """Whether no way that was met before dominates this one."""
        sets = self._reached.setdefault((way.returns, way.answered, way.state), [])
        for smaller in sets:
            if smaller & way.unknown == smaller:
                return False
        sets[:] = [larger for larger in sets if larger & way.unknown != way.unknown]
        sets.append(way.unknown)
        return True

    def _report(self, verdict: Verdict) -> PartReport:
        way = self._furthest
        order: list[Operation[object]] = []
        trail = way.trail
        while trail is not None:
            order.append(trail.operation)
            trail = trail.before
        unplaced: list[Operation[object]] = []
        if verdict is not Verdict.LINEARIZABLE:
            event = self._returns[way.returns]
            unplaced.append(event.operation)
            unplaced += [operation for bit, operation in event.answered if not way.answered & bit]
            unplaced += [operation for bit, operation in event.unknown if not way.unknown & bit]
        return PartReport(
            self._part, verdict, tuple(reversed(order)), tuple(unplaced), repr(way.state), self._steps
        )


def _returns(operations: Collection[Operation[ActionT]]) -> list[_Return[ActionT]]:
    """The returns in the order of time. Of events at one instant, invocations come first: they are concurrent."""
    moments: list[tuple[int, bool, int, Operation[ActionT]]] = []
    for operation in operations:
        moments.append((operation.invoked, False, operation.index, operation))
        if operation.completed is not None:
            moments.append((operation.completed, True, operation.index, operation))
    moments.sort(key=lambda moment: moment[:3])

    returns: list[_Return[ActionT]] = []
    under_way: dict[int, _Placeable[ActionT]] = {}
    unknown: tuple[_Placeable[ActionT], ...] = ()
    used_bits = 0
    for _, ends, index, operation in moments:
        if ends:
            bit, _ = under_way.pop(index)
            used_bits ^= bit
            returns.append(_Return(operation, bit, tuple(under_way.values()), unknown))
        elif operation.completed is None:
            unknown = (*unknown, (1 << len(unknown), operation))
        else:
            bit = ~used_bits & (used_bits + 1)
            used_bits |= bit
            under_way[index] = (bit, operation)
    return returns


def _violation(report: PartReport) -> Violation:
    objects = ", ".join(map(repr, report.part[:4])) + (", ..." if len(report.part) > 4 else "")
    stuck = f"operation #{report.unplaced[0].index}"
    if report.verdict is Verdict.UNDECIDED:
        message = f"no verdict on {objects} within {report.steps} steps; the search got as far as {stuck}"
    else:
        message = (
            f"no order explains {stuck} on {objects}: all that happened before its return can be ordered, for "
            f"instance so that {_shortened(report.state)} remains, but its answer has no place in any such order"
        )
    shown = report.unplaced[:_SHOWN_UNPLACED] + report.order[-_SHOWN_PREFIX:]
    return Violation(CHECKER, "I6", message, shown)


def _shortened(text: str) -> str:
    return text if len(text) <= _SHOWN_STATE else f"{text[:_SHOWN_STATE]}..."
