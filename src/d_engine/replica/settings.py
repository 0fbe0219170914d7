"""What a replica is told at its start."""

from dataclasses import dataclass

from d_engine.format.configuration import Configuration
from d_engine.format.ids import Incarnation, Nanoseconds, NodeId

MILLISECOND: Nanoseconds = 1_000_000
SECOND: Nanoseconds = 1_000_000_000


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
    log_cache_bytes: int = 32 * 1024 * 1024
    max_pending_writes: int = 10_000
    max_pending_reads: int = 50_000
    max_sessions: int = 10_000
    """Part of the replicated rules, the same on every member: no setting for operators."""
