"""What a node knows to be wrong with its own data, and what it does about it (architecture, section 11).

The core knows what a node in quarantine must not do (`d_engine.raft.isolation`); here is why it is in one, and that it
is on stable storage. A state that differs from what a majority has is seen by nobody from that moment on: reads and
writes are refused, so that clients go elsewhere, nothing is applied, no snapshot of it is taken or given away.
"""

from d_engine.format.errors import CorruptionError, DEngineError, DiskFullError, UnavailableError
from d_engine.format.ids import Nanoseconds
from d_engine.format.state import HardState, Quarantine
from d_engine.raft.core import Raft
from d_engine.replica.applier import Applier
from d_engine.replica.listener import Health, ReplicaListener
from d_engine.replica.log_clock import LogClock
from d_engine.replica.markers import Markers
from d_engine.replica.ports import Network
from d_engine.replica.reads import ReadQueue
from d_engine.replica.settings import SECOND, ReplicaSettings
from d_engine.replica.snapshots import Snapshots
from d_engine.storage.disk import Lane
from d_engine.storage.quarantine import ending, saving

RETRY_AFTER: Nanoseconds = SECOND
"""A disk without room for a record of a hundred bytes is asked again."""


class Guard:
    """Watches over one node's data. Whatever it finds is told to the listener, once."""

    def __init__(
        self,
        settings: ReplicaSettings,
        raft: Raft,
        network: Network,
        hard_state: HardState,
        applier: Applier,
        log_clock: LogClock,
        listener: ReplicaListener,
        reads: ReadQueue,
        snapshots: Snapshots,
    ) -> None:
        """`hard_state` is what the record in the directory has; it stays there. Without
        `settings.repair`, a node that finds its state to be wrong stops."""
        self.markers = Markers(raft, network, settings.marker_ns)
        self.health = Health()
        self.quarantines = 0
        """How often this node went into quarantine, or was in one at its start."""
        self._raft = raft
        self._hard_state = hard_state
        self._repair = settings.repair
        self._applier = applier
        self._log_clock = log_clock
        self._listener = listener
        self._reads = reads
        self._snapshots = snapshots
        self._record = _Record(raft.isolation.record)
        self.closed = raft.isolation.stands_still
        """Nobody may see the state: it is wrong, or the node ended. Other threads may look at this."""

    @property
    def deadline(self) -> Nanoseconds | None:
        """When a turn is needed though nothing has happened."""
        retry = self._record.retry_at
        marker = self.markers.deadline
        return marker if retry is None else retry if marker is None else min(retry, marker)

    def drive(self, now: Nanoseconds) -> None:
        """Once a turn, before the core's effects are taken."""
        self.markers.propose(self._log_clock.read(now), now)

    def marker_applied(self, index: int) -> None:
        """A marker was applied, and nothing behind it."""
        self.markers.applied(index, self._applier.log_time, self._applier.digest)
        self._snapshots.wake()

    def conclude(self, now: Nanoseconds) -> None:
        """Once a turn, when what is committed was applied. Raises `DiskError`; without repair, `CorruptionError`."""
        isolation = self._raft.isolation
        if not isolation.stands_still:
            self.markers.compare()
            if self.markers.differs_at:
                self._state_is_wrong(now)
        self.closed = isolation.stands_still
        self._keep_record(now)
        record = isolation.record
        until, reason = ("", "") if record is None else (describe(record), record.reason)
        health = Health(self.markers.alarm, until, reason, self._snapshots.lacks_room)
        if health != self.health:
            self.quarantines += bool(health.quarantine and not self.health.quarantine)
            self.health = health
            self._listener.health_changed(health)

    def _state_is_wrong(self, now: Nanoseconds) -> None:
        index = self.markers.differs_at
        reason = f"at log index {index} a majority of the voters agreed on another digest than this node's"
        if not self._repair:
            raise CorruptionError(
                f"{reason}: its state is wrong. Start it with repairs allowed, or replace it"
            )
        self._raft.isolation.begin(reason, now)
        self.markers.forget()
        self.closed, self._raft.published_lease = True, 0
        self._snapshots.taking.restart()
        self._snapshots.wake()
        self._reads.fail(
            UnavailableError("this node's state is wrong and is being replaced; ask another node")
        )

    def _keep_record(self, now: Nanoseconds) -> None:
        """What is on stable storage follows what holds."""
        kept, wanted = self._record, self._raft.isolation.record
        if kept.failure is not None:
            raise kept.failure
        if kept.busy or kept.value == wanted or (kept.retry_at is not None and now < kept.retry_at):
            return
        kept.busy, kept.retry_at = True, None
        operations = ending() if wanted is None else saving(self._hard_state, wanted)

        def done(error: DEngineError | None) -> None:
            kept.busy = False
            if error is None:
                kept.value = wanted
                if wanted is not None:
                    self._raft.isolation.saved(wanted)
            elif isinstance(error, DiskFullError):
                kept.retry_at = now + RETRY_AFTER
            else:
                kept.failure = error
            self._snapshots.wake()

        self._snapshots.files.disk.submit(Lane.BACKGROUND, operations, done)


class _Record:
    """What the directory's record says, and what is being done about it."""

    def __init__(self, value: Quarantine | None) -> None:
        self.value = value
        self.busy = False
        self.retry_at: Nanoseconds | None = None
        self.failure: DEngineError | None = None


def describe(record: Quarantine) -> str:
    """A quarantine, for people."""
    if record.needs_snapshot:
        return f"{record.reason}; waits for a snapshot of the leader's"
    return f"{record.reason}; whole again when its log agrees with the leader's up to {record.held_index}"
