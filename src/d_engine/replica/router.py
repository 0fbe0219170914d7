"""The way of a group to the log: proposed here when this node leads, else forwarded to the leader, one hop at most.
What ends by itself goes there too (`d_engine.replica.timekeeper`).

All groups that wait when the turn comes are put into as few entries as the size limit allows: the entry is the batch.
"""

from collections.abc import Sequence

from d_engine.format.errors import DiskFullError
from d_engine.format.group import check_group
from d_engine.format.hello import Channel
from d_engine.format.ids import Nanoseconds, NodeId, Term
from d_engine.format.limits import BATCH_BYTES
from d_engine.format.messages import Forward
from d_engine.raft.core import Raft
from d_engine.raft.effects import Role
from d_engine.replica.log_clock import LogClock
from d_engine.replica.outcome import GroupOutcome
from d_engine.replica.ports import Network
from d_engine.replica.timekeeper import Timekeeper
from d_engine.replica.writes import GroupKey, WriteQueue
from d_engine.storage.api import LogStorage

MAX_UNCOMMITTED_BYTES = 64 * 1024 * 1024
"""A leader whose followers do not keep up stops proposing here; groups then wait where they came from."""
MAX_INBOX_BYTES = 64 * 1024 * 1024
"""Forwarded groups that wait to be proposed. What does not fit is dropped: its sender sends it again."""


class Router:
    """Sends groups on their way and remembers which ones this leader has in its log already."""

    def __init__(
        self,
        raft: Raft,
        storage: LogStorage,
        network: Network,
        writes: WriteQueue,
        log_clock: LogClock,
        timekeeper: Timekeeper,
    ) -> None:
        self.timekeeper = timekeeper
        self._raft = raft
        self._storage = storage
        self._network = network
        self._writes = writes
        self._log_clock = log_clock
        self._inbox: list[tuple[GroupKey, bytes]] = []
        self._inbox_bytes = 0
        self._in_log: dict[GroupKey, int] = {}
        self._uncommitted_bytes = 0
        self._way: tuple[Term, NodeId] = (0, 0)
        self.dropped = 0

    def take(self, groups: Sequence[bytes]) -> None:
        """Groups that another node forwarded. Dropped unless this node leads."""
        if self._raft.role is not Role.LEADER:
            self.dropped += len(groups)
            return
        for data in groups:
            session, number, _ = check_group(data)
            size = len(data)
            if self._inbox_bytes + size > MAX_INBOX_BYTES:
                self.dropped += 1
                continue
            self._inbox.append(((session, number), data))
            self._inbox_bytes += size

    def resolve(self, key: GroupKey, outcome: GroupOutcome) -> None:
        """The group is applied, or can be no more: the uncommitted log does not hold it."""
        self._uncommitted_bytes -= self._in_log.pop(key, 0)
        self._writes.resolve(key, outcome)

    @property
    def waiting(self) -> list[GroupKey]:
        """The groups that wait for a result here."""
        return self._writes.keys()

    def leader_changed(self, term: Term, leader: NodeId) -> None:
        """If it is another term or leader, whatever waits here has to find its way anew."""
        if (term, leader) == self._way:
            return
        self._way = (term, leader)
        self._in_log.clear()
        self._uncommitted_bytes = 0
        self._inbox.clear()
        self._inbox_bytes = 0
        self._writes.reroute()

    def route(self, now: Nanoseconds) -> None:
        """Send everything that waits on its way, as far as there is one."""
        if self._inbox or self._writes.unrouted:
            self._route(now)
        self.timekeeper.run(now)

    def _route(self, now: Nanoseconds) -> None:
        if self._raft.role is Role.LEADER:
            if self._storage.full:
                self._writes.fail_unrouted(
                    DiskFullError("the disk has no room for the log; nothing was written")
                )
            elif self._raft.accepts_proposals:
                self._propose(now)
        elif self._raft.leader:
            self._forward(now)

    def _propose(self, now: Nanoseconds) -> None:
        if self._uncommitted_bytes > MAX_UNCOMMITTED_BYTES:
            return
        inbox, self._inbox, self._inbox_bytes = self._inbox, [], 0
        waiting = list(self._writes.unrouted.values())
        inbox += [(group.key, group.data) for group in waiting]
        parts: list[bytes] = []
        size = 0
        in_log = self._in_log
        for key, data in inbox:
            if key in in_log:
                continue
            if size and size + len(data) > BATCH_BYTES:
                self._append(parts, now)
                parts, size = [], 0
            in_log[key] = len(data)
            self._uncommitted_bytes += len(data)
            parts.append(data)
            size += len(data)
        if parts:
            self._append(parts, now)
        self._writes.routed(waiting, now)

    def _append(self, parts: list[bytes], now: Nanoseconds) -> None:
        self._raft.propose(parts, len(parts), self._log_clock.read(now), now)

    def _forward(self, now: Nanoseconds) -> None:
        waiting = list(self._writes.unrouted.values())
        if not waiting:
            return
        parts: list[bytes] = []
        size = 0
        for group in waiting:
            if size and size + len(group.data) > BATCH_BYTES:
                self._network.send(self._raft.leader, Channel.DATA, Forward(tuple(parts)))
                parts, size = [], 0
            parts.append(group.data)
            size += len(group.data)
        self._network.send(self._raft.leader, Channel.DATA, Forward(tuple(parts)))
        self._writes.routed(waiting, now)
