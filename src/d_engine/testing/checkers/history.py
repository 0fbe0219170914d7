"""The record of what clients did and what they were told.

A *history* in the sense of Herlihy and Wing ("Linearizability: a correctness condition for concurrent objects", ACM
TOPLAS 12(3), 1990) is a sequence of invocations and answers. Here each pair is one `Operation`: an interval on a time
axis common to all clients, what was asked, and how it ended:

* `OK`: the answer arrived; the operation took effect at some moment between `invoked` and `completed`;
* `FAILED`: the operation certainly had no effect and never will, as if it had not been asked;
* `UNKNOWN`: nobody knows. It may have taken effect at any moment since it was invoked, may yet do so, or may never.
  It therefore stays open for ever and has no `completed`.

Whoever is in doubt records `UNKNOWN`: calling a doubtful operation `FAILED` accuses a correct system, calling it `OK`
may excuse a broken one.

Time is an `int` of any unit, the same for all clients of a history; by default the ordinal of the event, which is all
that the checkers need. Operations whose intervals touch in one instant count as concurrent.

The record does not care what an action is. `d_engine.testing.checkers.actions` has those of the key-value store; an
application under test brings its own, any immutable values, together with its own sequential specification (`Model`):

    history: History[Action] = History()
    handle = history.invoke("client-1", Put(b"k", b"v"))
    try:
        revision = await client.put(b"k", b"v")
    except NotAppliedError:
        history.fail(handle)
    except OutcomeUnknownError:
        history.unknown(handle)
    else:
        history.ok(handle, revision=revision)
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from itertools import count
from typing import Generic, NewType, TypeVar

Handle = NewType("Handle", int)
"""Names one operation of one `History` between its invocation and its end."""

ActionT = TypeVar("ActionT")
ActionT_co = TypeVar("ActionT_co", covariant=True)

DEFAULT_MAX_OPERATIONS = 1_000_000


class HistoryError(ValueError):
    """The record itself makes no sense, so that nothing can be said about the system: a fault of the test."""


class Outcome(Enum):
    """How an operation ended, as far as its client knows."""

    OK = "ok"
    FAILED = "failed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Operation(Generic[ActionT_co]):
    """One thing that a client asked for, and how it ended.

    Attributes:
        index: names the operation in its history; unique, in the order of invocation.
        client: who asked.
        session: which of the client's sequential lines of work asked (task, process, incarnation).
        action: what was asked.
        invoked: when, in the history's time.
        completed: when the client learned the end; None exactly if the outcome is unknown.
        outcome: `OK`, `FAILED` or `UNKNOWN`.
        result: the answer of an `OK` operation, in the shape that the action's documentation gives.
        revision: the revision that came with the answer: made by the operation if it wrote, else seen by it.
    """

    index: int
    client: str
    session: int
    action: ActionT_co
    invoked: int
    completed: int | None
    outcome: Outcome
    result: object = None
    revision: int | None = None

    def __post_init__(self) -> None:
        if (self.completed is None) is not (self.outcome is Outcome.UNKNOWN):
            raise HistoryError(f"operation {self.index}: exactly the unknown outcomes have no completion")
        if self.completed is not None and self.completed < self.invoked:
            raise HistoryError(f"operation {self.index} completed at {self.completed}, before its invocation")

    def precedes(self, other: "Operation[object]") -> bool:
        """Whether this operation ended before the other began: then it must come first in every explanation."""
        return self.completed is not None and self.completed < other.invoked

    def __str__(self) -> str:
        span = f"[{self.invoked}, {'...' if self.completed is None else self.completed}]"
        text = f"#{self.index} {self.client}/{self.session} {span} {self.action} {self.outcome.value}"
        if self.outcome is Outcome.OK:
            text += f" -> {self.result!r}"
        return text if self.revision is None else f"{text} at revision {self.revision}"


@dataclass(slots=True)
class _Open(Generic[ActionT]):
    """An operation whose end is not recorded yet."""

    client: str
    session: int
    action: ActionT
    invoked: int


class History(Generic[ActionT]):
    """Records operations as they happen. One recorder serves all clients; it is not for several threads at once.

    `clock` gives the current time; by default events are numbered 0, 1, 2, .... It must never run backwards. At most
    `max_operations` are held; one more raises `HistoryError`.

    Example::

        history = History()
        handle = history.invoke("anna", Put(b"k", b"1"))
        try:
            written = await client.put(b"k", b"1")
        except DEngineError:
            history.unknown(handle)
        else:
            history.ok(handle, revision=written.revision)
        require(check_revisions(history.operations()))
    """

    def __init__(
        self, clock: Callable[[], int] | None = None, *, max_operations: int = DEFAULT_MAX_OPERATIONS
    ) -> None:
        self._now = clock if clock is not None else count().__next__
        self._max_operations = max_operations
        self._entries: list[_Open[ActionT] | Operation[ActionT]] = []

    def invoke(self, client: str, action: ActionT, *, session: int = 0) -> Handle:
        """Record that `client` asks for `action`, at the latest when the first byte leaves."""
        if len(self._entries) >= self._max_operations:
            raise HistoryError(f"the history is full: {self._max_operations} operations")
        self._entries.append(_Open(client, session, action, self._now()))
        return Handle(len(self._entries) - 1)

    def ok(self, handle: Handle, result: object = None, revision: int | None = None) -> None:
        """Record the answer, at the earliest when the client has it."""
        self._end(handle, Outcome.OK, result, revision)

    def fail(self, handle: Handle) -> None:
        """Record that the operation certainly had no effect and never will."""
        self._end(handle, Outcome.FAILED, None, None)

    def unknown(self, handle: Handle) -> None:
        """Record that the client gave up without knowing: from now on, for ever, it may take effect."""
        self._end(handle, Outcome.UNKNOWN, None, None)

    def operations(self) -> tuple[Operation[ActionT], ...]:
        """All operations in the order of invocation. Those that have not ended count as unknown."""
        return tuple(self)

    def __iter__(self) -> Iterator[Operation[ActionT]]:
        for index, entry in enumerate(self._entries):
            if isinstance(entry, Operation):
                yield entry
            else:
                yield _ended(index, entry, None, Outcome.UNKNOWN, None, None)

    def __len__(self) -> int:
        return len(self._entries)

    def _end(self, handle: Handle, outcome: Outcome, result: object, revision: int | None) -> None:
        if not 0 <= handle < len(self._entries):
            raise HistoryError(f"no operation {handle} was invoked")
        entry = self._entries[handle]
        if isinstance(entry, Operation):
            raise HistoryError(f"operation {handle} ended twice: {entry}")
        completed = None if outcome is Outcome.UNKNOWN else self._now()
        self._entries[handle] = _ended(handle, entry, completed, outcome, result, revision)


def distinct(operations: Iterable[Operation[ActionT]]) -> tuple[Operation[ActionT], ...]:
    """The operations of one history; `HistoryError` if an index occurs twice, as when two histories are mixed."""
    history = tuple(operations)
    seen: set[int] = set()
    for operation in history:
        if operation.index in seen:
            raise HistoryError(f"two operations have the index {operation.index}")
        seen.add(operation.index)
    return history


def _ended(
    index: int,
    entry: _Open[ActionT],
    completed: int | None,
    outcome: Outcome,
    result: object,
    revision: int | None,
) -> Operation[ActionT]:
    return Operation(
        index, entry.client, entry.session, entry.action, entry.invoked, completed, outcome, result, revision
    )
