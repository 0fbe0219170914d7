"""What a replica is told at its start."""

from dataclasses import dataclass

from d_engine.format.configuration import Configuration
from d_engine.format.ids import Incarnation, Nanoseconds, NodeId
from d_engine.format.limits import BATCH_BYTES, MAX_IN_FLIGHT_BYTES

MILLISECOND: Nanoseconds = 1_000_000
SECOND: Nanoseconds = 1_000_000_000
MAX_SESSIONS = 10_000
"""Part of the replicated rules, the same on every member: no setting for operators."""


@dataclass(frozen=True, slots=True)
class SnapshotSettings:
    """When snapshots are taken, how long the log behind them stays, and how they travel.

    `log_bytes`: so much log, or as much as the last snapshot has bytes, is due for another one. `keep_log_ns`,
    `keep_log_bytes`: the log stays as long, and as long as a follower that keeps up needs it, within so many bytes;
    behind the older of the two kept snapshots it always stays. `slice_bytes`: the work for a snapshot in a turn;
    after it comes a pause of `pause_ns`, in which others have the processor.
    `part_bytes`: how much of one is asked for at a time. `receive_bytes_per_second`: 0 for no limit.
    """

    log_bytes: int = 256 * 1024 * 1024
    keep_log_ns: Nanoseconds = 60 * SECOND
    keep_log_bytes: int = 2 * 1024 * 1024 * 1024
    slice_bytes: int = 64 * 1024
    pause_ns: Nanoseconds = 2 * MILLISECOND
    part_bytes: int = 512 * 1024
    receive_bytes_per_second: int = 0


@dataclass(frozen=True, slots=True)
class WatchSettings:
    """What watches may cost a node.

    `history_bytes`: how much of past events is kept. `max_watches`: at once; `max_per_owner`: of one connection, or of
    one loop of an application that the node is embedded in. `window_bytes`: so much is sent to a watch before it says
    that it has taken some of it; `owner_bytes`: the same for all watches of an owner together. `progress_ns`: so often
    each watch is told how far it is true, though nothing happened. `slice_writes`: so many writes are looked at in a
    turn, before others get one.
    """

    history_bytes: int = 64 * 1024 * 1024
    max_watches: int = 20_000
    max_per_owner: int = 10_000
    window_bytes: int = 256 * 1024
    owner_bytes: int = 64 * 1024 * 1024
    progress_ns: Nanoseconds = 10 * SECOND
    slice_writes: int = 4096

    @property
    def told_window_bytes(self) -> int:
        """What a client is told of the window. It says what it took after a quarter of that; and what all watches of an
        owner have taken and not said must leave room for more, or all of them would wait for each other."""
        return max(4, min(self.window_bytes, 4 * self.owner_bytes // self.max_per_owner))


@dataclass(frozen=True, slots=True)
class ReplicaSettings:
    """Identity, timing and limits. `bootstrap` names the initial members (None: join an existing cluster)."""

    node_id: NodeId
    incarnation: Incarnation
    address: str = ""
    bootstrap: Configuration | None = None
    heartbeat_ns: Nanoseconds = 100 * MILLISECOND
    election_min_ns: Nanoseconds = 500 * MILLISECOND
    election_max_ns: Nanoseconds = 1000 * MILLISECOND
    log_cache_bytes: int = 8 * 1024 * 1024
    max_append_bytes: int = BATCH_BYTES
    max_in_flight_bytes: int = MAX_IN_FLIGHT_BYTES
    max_pending_writes: int = 10_000
    max_pending_reads: int = 50_000
    auto_promote: bool = True
    """Whether this node, when it leads, makes voters of learners by itself (`d_engine.replica.promotion`)."""
    max_sessions: int = MAX_SESSIONS
    snapshots: SnapshotSettings = SnapshotSettings()
    watches: WatchSettings = WatchSettings()
    repair: bool = True
    """Whether damaged data is repaired from other members. Without, the node refuses to start, or stops."""
    marker_ns: Nanoseconds = 60 * SECOND
    """How much log time lies between two places at which replicas compare their digests."""
