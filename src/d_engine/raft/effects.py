"""What the core wants done, gathered over one turn.

The core performs nothing. After any number of inputs the caller takes the effects and carries them out; everything in
`sends` may leave at once, because the core holds back each message until what it promises is durable.
"""

from dataclasses import dataclass
from enum import Enum

from msgspec import Struct

from d_engine.format.entry import Entry
from d_engine.format.ids import LogIndex, NodeId, Term
from d_engine.format.messages import RaftMessage, SnapshotMeta
from d_engine.format.state import HardState


class Role(Enum):
    """What a node does in its term. A learner is a follower that is no voter of its configuration."""

    FOLLOWER = "follower"
    PRE_CANDIDATE = "pre_candidate"
    CANDIDATE = "candidate"
    LEADER = "leader"


class Persist(Struct, frozen=True):
    """Hand to storage, in this order: the hard state (if not None), then the entries. Everything up to `seq` being
    durable is told to the core by `Raft.persisted(seq, now)`."""

    seq: int
    hard_state: HardState | None
    entries: tuple[Entry, ...]


@dataclass(frozen=True, slots=True)
class LeaderState:
    """Who leads, as far as this node knows. `ready` only on a leader: its term's no-op is applied."""

    role: Role
    term: Term
    leader: NodeId
    ready: bool


class ReadReady(Struct, frozen=True, gc=False):
    """All reads of batches up to `batch` may be answered from any state that has applied `read_index`."""

    batch: int
    read_index: LogIndex


@dataclass(frozen=True, slots=True)
class Install:
    """Fetch this snapshot from `sender`, make it durable, then call `Raft.snapshot_installed`."""

    sender: NodeId
    snapshot: SnapshotMeta


class Effects(Struct):
    """One turn's effects. Carry them out in this order: persist, sends, then the rest."""

    persist: Persist | None = None
    sends: list[tuple[NodeId, RaftMessage]] = []
    commit_index: LogIndex | None = None
    """The new commit index, when it moved: apply up to it, then call `Raft.applied`."""
    read_ready: ReadReady | None = None
    leader_state: LeaderState | None = None
    """Set when role, term, leader or readiness changed."""
    install: Install | None = None

    def __bool__(self) -> bool:
        """False if there is nothing to do."""
        return (
            bool(self.sends)
            or self.persist is not None
            or self.commit_index is not None
            or self.read_ready is not None
            or self.leader_state is not None
            or self.install is not None
        )
