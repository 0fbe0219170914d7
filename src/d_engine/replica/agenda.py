"""What a turn has to do besides what everybody waits for.

A turn that moves entries, acknowledgements and results runs several times for each batch, thousands of times a second.
What nobody waits for so urgently (time-outs, members, transfers, snapshots, markers, room on the disk) is a *chore*,
and is done in a turn that something of that kind asked for, that the timer asked for, in which leader or members have
become others, or that comes `CHORES_EVERY` after the last such turn. On an idle cluster every turn is one of those.
"""

from collections.abc import Callable

from d_engine.format.ids import MAX_U63, Nanoseconds
from d_engine.raft.core import Raft
from d_engine.raft.effects import Role
from d_engine.replica.admission import Peers
from d_engine.replica.changer import Changer
from d_engine.replica.executor import Executor
from d_engine.replica.reads import ReadQueue
from d_engine.replica.settings import MILLISECOND, ReplicaSettings
from d_engine.replica.timekeeper import Timekeeper
from d_engine.replica.writes import WriteQueue
from d_engine.storage.api import LogStorage

CHORES_EVERY: Nanoseconds = 10 * MILLISECOND
ROUTE_AGAIN_AFTER_ELECTIONS = 1
"""A forwarded group whose result has not come after so many minimum election time-outs is forwarded again."""


class Agenda:
    """Whether a turn was asked for, and the chores. `deadline` is when one of them is due though nothing happens."""

    def __init__(
        self,
        settings: ReplicaSettings,
        call_turn: Callable[[], None],
        raft: Raft,
        storage: LogStorage,
        writes: WriteQueue,
        reads: ReadQueue,
        changer: Changer,
        peers: Peers,
        executor: Executor,
        timekeeper: Timekeeper,
    ) -> None:
        self.turn_asked = True
        """Also before the start: whoever asks then gets the first turn."""
        self.chores_asked = True
        self.deadline: Nanoseconds = MAX_U63
        self._done_at: Nanoseconds = 0
        self._seen: tuple[object, object, object] = (None, None, None)
        self._route_again_after = ROUTE_AGAIN_AFTER_ELECTIONS * settings.election_min_ns
        self._call_turn = call_turn
        self._raft = raft
        self._storage = storage
        self._writes = writes
        self._reads = reads
        self._changer = changer
        self._peers = peers
        self._executor = executor
        self._timekeeper = timekeeper

    def start(self) -> None:
        """Storage writes from now on: the first turn may come."""
        self.turn_asked = False
        self.ask_turn()

    def ask_turn(self) -> None:
        """There is something to do."""
        if not self.turn_asked:
            self.turn_asked = True
            self._call_turn()

    def due_at(self, deadline: Nanoseconds | None) -> None:
        """Somebody's time is over then, if it is known when."""
        if deadline is not None and deadline < self.deadline:
            self.deadline = deadline

    def is_due(self, now: Nanoseconds) -> bool:
        """Whether this turn does the chores."""
        return self.chores_asked or now >= self.deadline or now - self._done_at >= CHORES_EVERY

    def is_other_now(self) -> bool:
        """Whether leader or members are others than when the chores were done last: then they are done all the same."""
        standing, in_force, applied = self._seen
        raft = self._raft
        return (
            standing is not raft.told_standing
            or in_force is not raft.configuration
            or applied is not self._executor.configuration
        )

    def begin(self, now: Nanoseconds) -> None:
        """What comes before everything else in such a turn."""
        self.chores_asked = False
        if self._storage.full:
            self._storage.retry()
        self._writes.expire(now, self._peers.describe)
        self._reads.expire(now, self._peers.describe)
        self._changer.changes.expire(now)
        if self._raft.role is not Role.LEADER:
            self._writes.reroute(now - self._route_again_after)
        self._changer.drive(now)
        self._executor.guard.drive(now)

    def finish(self, now: Nanoseconds) -> bool:
        """What comes after everything else. True if there is more to do at once."""
        executor, changes = self._executor, self._changer.changes
        snapshots, watches, guard = executor.snapshots, executor.watches, executor.guard
        guard.conclude(now)
        more = snapshots.run(now)
        # Behind it, so that what was applied, or installed, in this turn is handed over together.
        more = watches.run(now) or more
        self._peers.refresh(now)
        self._changer.watch_transfer()
        self._done_at = now
        self._seen = (self._raft.told_standing, self._raft.configuration, executor.configuration)
        self.deadline = MAX_U63
        for waiting in (self._writes, self._reads, changes, snapshots, watches, guard):
            self.due_at(waiting.deadline)
        self.due_at(self._timekeeper.deadline(now))
        return more
