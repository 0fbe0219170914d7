"""Groups that this node was given by its clients and that wait for their result.

A group is *routed* when there is a leader to route it to: proposed when this node leads, forwarded verbatim otherwise.
There is no answer to wait for: the results are found when this node itself applies the entry that holds the group,
under the key (session, number). So a client always sees its own writes on the node that it wrote through. A group
whose way was cut (the leader changed, a message was lost) is routed again; the session makes sure that it is applied
once.

Once a group was routed, it may be in somebody's log: from then on it ends with its result or as outcome unknown.
"""

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import TypeAlias

from msgspec import Struct

from d_engine.format.errors import (
    DEngineError,
    NoLeaderError,
    OutcomeUnknownError,
    OutcomeUnknownTimeoutError,
)
from d_engine.format.ids import Nanoseconds, SessionId
from d_engine.replica.outcome import GroupDone, GroupOutcome

GroupKey: TypeAlias = tuple[SessionId, int]

_SLACK = 64
"""So many finished groups may stay in memory besides as many as still wait."""


class WaitingGroup(Struct):
    """One group and who wants to know. `routed_at` is when it was last sent on its way, None if never."""

    key: GroupKey
    data: bytes
    count: int
    deadline: Nanoseconds
    done: list[GroupDone]
    routed_at: Nanoseconds | None = None
    finished: bool = False

    def finish(self, outcome: GroupOutcome) -> None:
        """Tell everybody, once."""
        self.finished = True
        for done in self.done:
            done(outcome)


class WriteQueue:
    """The groups of one node, by key."""

    def __init__(self) -> None:
        self.waiting = 0
        self._groups: dict[GroupKey, WaitingGroup] = {}
        self.unrouted: dict[GroupKey, WaitingGroup] = {}
        """The groups that have to be sent on their way, oldest first."""
        self._deadlines: list[tuple[Nanoseconds, int, WaitingGroup]] = []
        self._order = 0

    def __bool__(self) -> bool:
        return bool(self._groups)

    @property
    def deadline(self) -> Nanoseconds | None:
        """When the first group gives up."""
        return self._deadlines[0][0] if self._deadlines else None

    def add(self, group: WaitingGroup) -> None:
        """Wait for this group. A second request for the same group shares the first one's result."""
        present = self._groups.get(group.key)
        if present is not None:
            present.done.extend(group.done)
            return
        self._groups[group.key] = group
        self.unrouted[group.key] = group
        self.waiting += group.count
        self._order += 1
        heappush(self._deadlines, (group.deadline, self._order, group))

    def keys(self) -> list[GroupKey]:
        """The groups that wait."""
        return list(self._groups)

    def routed(self, groups: list[WaitingGroup], now: Nanoseconds) -> None:
        """These were sent on their way."""
        for group in groups:
            group.routed_at = now
            self.unrouted.pop(group.key, None)

    def reroute(self, routed_before: Nanoseconds | None = None) -> None:
        """Send again whatever was sent before that time, or everything."""
        for key, group in self._groups.items():
            if group.routed_at is not None and (routed_before is None or group.routed_at <= routed_before):
                self.unrouted[key] = group

    def resolve(self, key: GroupKey, outcome: GroupOutcome) -> None:
        """The group's result is known."""
        group = self._groups.pop(key, None)
        if group is None:
            return
        self.unrouted.pop(key, None)
        self.waiting -= group.count
        group.finish(outcome)
        deadlines = self._deadlines
        while deadlines and deadlines[0][2].finished:
            heappop(deadlines)
        if len(deadlines) > 2 * len(self._groups) + _SLACK:
            self._deadlines = [entry for entry in deadlines if not entry[2].finished]
            heapify(self._deadlines)

    def expire(self, now: Nanoseconds, reachable: Callable[[], str]) -> None:
        """Tell those whose time has passed; `reachable` describes the peers to those who never found a leader."""
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].finished):
            group = heappop(self._deadlines)[2]
            if group.finished:
                continue
            error: DEngineError
            if group.routed_at is None:
                error = NoLeaderError(f"no leader was found in time, nothing was written; {reachable()}")
            else:
                error = OutcomeUnknownTimeoutError(
                    "the write was on its way to a majority and no result came in time; it may or may not be applied"
                )
            self.resolve(group.key, GroupOutcome((), 0, error))

    def fail_unrouted(self, error: DEngineError) -> None:
        """End what nobody was given yet; it was certainly not applied."""
        for group in list(self.unrouted.values()):
            if group.routed_at is None:
                self.resolve(group.key, GroupOutcome((), 0, error))

    def fail(self, stopped: DEngineError) -> None:
        """The node stops. What was on its way ends as outcome unknown."""
        unknown = OutcomeUnknownError(f"the write was on its way when the node stopped ({stopped})")
        for group in tuple(self._groups.values()):
            self.resolve(group.key, GroupOutcome((), 0, stopped if group.routed_at is None else unknown))
