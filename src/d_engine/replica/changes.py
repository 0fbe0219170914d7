"""Changes of members and of leadership that somebody on this node asked for.

The leader carries a change out; other nodes send it there and wait for the answer. A change of members is answered
when its configuration is committed and the cluster is in no joint state any more. An answer can be lost: then the
outcome is unknown, and asking for the members tells.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from d_engine.format.errors import (
    DEngineError,
    MembershipError,
    OutcomeUnknownError,
    OutcomeUnknownTimeoutError,
)
from d_engine.format.ids import LogIndex, Nanoseconds, NodeId

ChangeDone: TypeAlias = Callable[[DEngineError | None], None]


@dataclass(slots=True)
class _Waiting:
    done: ChangeDone
    deadline: Nanoseconds


class ChangeQueue:
    """Changes under way: those sent to the leader, by request number, and those of this leader, by log index."""

    def __init__(self) -> None:
        self._requests: dict[int, _Waiting] = {}
        self._committing: list[tuple[LogIndex, _Waiting]] = []
        self._transfers: list[tuple[NodeId, _Waiting]] = []
        self._number = 0

    def sent(self, done: ChangeDone, deadline: Nanoseconds) -> int:
        """A request goes to the leader; its number."""
        self._number += 1
        self._requests[self._number] = _Waiting(done, deadline)
        return self._number

    def answered(self, request: int, error: DEngineError | None) -> None:
        """The leader answered."""
        waiting = self._requests.pop(request, None)
        if waiting is not None:
            waiting.done(error)

    def proposed(self, index: LogIndex, done: ChangeDone, deadline: Nanoseconds) -> None:
        """This leader appended the change at `index`."""
        self._committing.append((index, _Waiting(done, deadline)))

    def committed(self, index: LogIndex) -> None:
        """Everything up to `index` is applied and the configuration in force there is not joint."""
        ready = [waiting for at, waiting in self._committing if at <= index]
        self._committing = [entry for entry in self._committing if entry[0] > index]
        for waiting in ready:
            waiting.done(None)

    def deposed(self) -> None:
        """This node does not lead any more: what it had appended may yet be committed, or rolled back."""
        ended, self._committing = self._committing, []
        error = OutcomeUnknownError(
            "the leader changed before the change was committed; ask for the members to see its state"
        )
        for _, waiting in ended:
            waiting.done(error)

    def transferring(self, to: NodeId, done: ChangeDone, deadline: Nanoseconds) -> None:
        """This leader has begun to hand over to that node."""
        self._transfers.append((to, _Waiting(done, deadline)))

    def led_by(self, leader: NodeId) -> None:
        """That node leads now: the hand-over is over, well if it was meant to."""
        ended, self._transfers = self._transfers, []
        for to, waiting in ended:
            waiting.done(
                None if to == leader else MembershipError(f"node {leader} leads now instead of node {to}")
            )

    def transfer_given_up(self) -> None:
        """This node still leads, and has stopped waiting for the other."""
        ended, self._transfers = self._transfers, []
        for to, waiting in ended:
            waiting.done(MembershipError(f"the transfer was given up: node {to} did not take over in time"))

    @property
    def deadline(self) -> Nanoseconds | None:
        """When the first one gives up."""
        deadlines = [waiting.deadline for waiting in self._all()]
        return min(deadlines) if deadlines else None

    def expire(self, now: Nanoseconds) -> None:
        """Tell those whose time has passed."""
        if not self._all():
            return
        error = OutcomeUnknownTimeoutError(
            "the change was not confirmed in time; ask for the members to see its state"
        )
        self._end(lambda waiting: waiting.deadline <= now, error)

    def fail(self, error: DEngineError) -> None:
        """The node stops. What it had asked for may be carried out all the same."""
        unknown = OutcomeUnknownError(f"{error}; ask for the members to see whether the change was made")
        self._end(lambda waiting: True, unknown)

    def _all(self) -> list[_Waiting]:
        appended = (waiting for _, waiting in (*self._transfers, *self._committing))
        return [*self._requests.values(), *appended]

    def _end(self, over: Callable[[_Waiting], bool], error: DEngineError) -> None:
        ended = [waiting for waiting in self._all() if over(waiting)]
        self._requests = {number: waiting for number, waiting in self._requests.items() if not over(waiting)}
        self._transfers = [entry for entry in self._transfers if not over(entry[1])]
        self._committing = [entry for entry in self._committing if not over(entry[1])]
        for waiting in ended:
            waiting.done(error)
