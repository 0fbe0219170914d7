"""Carries out what the core wants done, in the order that safety needs, until nothing is left to do in this turn."""

from d_engine.format.configuration import Configuration, decode_configuration
from d_engine.format.entry import EntryKind
from d_engine.format.hello import Channel
from d_engine.format.ids import LogIndex, Nanoseconds
from d_engine.format.messages import AppendRequest, AppendResponse, InstallSnapshot
from d_engine.raft.core import Raft
from d_engine.raft.effects import Effects, LeaderState, Role
from d_engine.replica.applier import Applier
from d_engine.replica.changes import ChangeQueue
from d_engine.replica.counters import Counters
from d_engine.replica.departure import Departure
from d_engine.replica.guard import Guard
from d_engine.replica.listener import ReplicaListener
from d_engine.replica.log_clock import LogClock
from d_engine.replica.ports import Network
from d_engine.replica.reads import ReadQueue
from d_engine.replica.router import Router
from d_engine.replica.snapshots import Snapshots
from d_engine.replica.watches import Watches
from d_engine.storage.api import LogStorage

APPLY_BYTES_PER_TURN = 1024 * 1024
"""A node that has much to catch up with applies it over several turns, so that heartbeats get through between."""

_CHANNELS: dict[type, Channel] = dict.fromkeys((AppendRequest, AppendResponse, InstallSnapshot), Channel.DATA)
"""Entries and their acknowledgements travel apart from heartbeats, votes and read rounds."""


class Executor:
    """Performs effects. Owns nothing but what it has applied of the configuration."""

    def __init__(
        self,
        raft: Raft,
        storage: LogStorage,
        network: Network,
        applier: Applier,
        router: Router,
        reads: ReadQueue,
        changes: ChangeQueue,
        log_clock: LogClock,
        listener: ReplicaListener,
        counters: Counters,
        departure: Departure,
        snapshots: Snapshots,
        watches: Watches,
        guard: Guard,
    ) -> None:
        self._raft = raft
        self._storage = storage
        self._network = network
        self._applier = applier
        self._router = router
        self._reads = reads
        self._changes = changes
        self._log_clock = log_clock
        self.listener = listener
        self._counters = counters
        self._departure = departure
        self.snapshots = snapshots
        snapshots.replaced = self._replaced
        self.watches = watches
        self.guard = guard
        self.configuration: Configuration | None = None
        """The newest *applied* configuration. The one in force (appended) is the core's."""

    def keep_time(self, now: Nanoseconds) -> None:
        """Let the log clock run while this node leads, in each term anew. To be called before the clock is read: the
        core may have lost leadership, and won it again, since the last turn."""
        raft, clock = self._raft, self._log_clock
        led = raft.term if raft.role is Role.LEADER else 0
        if clock.running and clock.term != led:
            clock.stop(now)
            self._changes.deposed()
        if led and not clock.running:
            clock.start(led, raft.highest_log_time, now)
            self._counters.elections_won += 1

    def run(self, now: Nanoseconds) -> bool:
        """Returns True if committed entries are left for another turn. `keep_time` was called before."""
        raft, applier = self._raft, self._applier
        budget = APPLY_BYTES_PER_TURN
        if self._log_clock.running:
            raft.set_log_time(self._log_clock.read(now))
        while True:
            self._perform(raft.effects(now), now)
            if raft.isolation.stands_still:
                return False
            if raft.commit_index <= applier.applied_index:
                if self._departure.removed_at:
                    self._departure.stop_if_removed()
                return False
            if budget <= 0:
                return True
            # What is applied may let the core answer reads and tell the commit index: take its effects once more.
            budget -= self._apply(budget, now)

    def _perform(self, effects: Effects, now: Nanoseconds) -> None:
        if effects.leader_state is not None:
            self._leader_changed(effects.leader_state, now)
        persist = effects.persist
        if persist is not None:
            self._storage.append(persist.seq, persist.hard_state, persist.entries)
        for to, message in effects.sends:
            self._network.send(to, _CHANNELS.get(type(message), Channel.CONTROL), message)
        if effects.read_ready is not None:
            self._reads.confirmed(effects.read_ready.batch, effects.read_ready.read_index)
            self._reads.applied(self._applier.applied_index, self._applier.state_machine.revision)
        if effects.install is not None:
            self.snapshots.receiving.offered(effects.install)

    def _leader_changed(self, state: LeaderState, now: Nanoseconds) -> None:
        self.keep_time(now)
        self._counters.leader_changes += 1
        self._router.leader_changed(state.term, state.leader)
        self._router.route(now)
        self.listener.leader_changed(state)

    def _apply(self, budget: int, now: Nanoseconds) -> int:
        applier = self._applier
        size = 0
        for entry in self._raft.entries(applier.applied_index + 1, budget):
            applier.apply(entry)
            size += len(entry.data)
            if entry.kind is EntryKind.CONFIGURATION:
                self.configured(entry.index, decode_configuration(entry.payload))
            elif entry.kind is EntryKind.MARKER:
                self.guard.marker_applied(entry.index)
        index = applier.applied_index
        self._raft.applied(index, now)
        self._tell_applied(index)
        self.snapshots.applied(size)
        return size

    def _tell_applied(self, index: LogIndex) -> None:
        if self.configuration is not None and not self.configuration.joint:
            self._changes.committed(index)
        self._reads.applied(index, self._applier.state_machine.revision)

    def _replaced(self, index: LogIndex, configuration: Configuration) -> None:
        """The state is now that of a snapshot, which holds what entries would have brought one by one."""
        self.configured(index, configuration)
        self.guard.markers.forget()
        self._applier.resolve_waiting(self._router.waiting)
        self._tell_applied(index)

    def configured(self, index: LogIndex, configuration: Configuration) -> None:
        """These members are applied now."""
        before, self.configuration = self.configuration, configuration
        self.listener.members_changed(index, configuration)
        self._departure.configured(index, before, configuration)
