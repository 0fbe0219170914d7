"""State that a node must not forget, and the shape in which its storage hands the log back after a restart."""

from dataclasses import dataclass

from msgspec import Struct

from d_engine.format.configuration import Configuration
from d_engine.format.entry import Entry
from d_engine.format.ids import LogIndex, NodeId, Term
from d_engine.format.messages import SnapshotMeta


@dataclass(frozen=True, slots=True)
class HardState:
    """Term and vote (Raft, figure 2, "persistent state"). On disk before any message that depends on it leaves."""

    term: Term = 0
    vote: NodeId = 0


@dataclass(frozen=True, slots=True)
class TermRun:
    """All entries from `first_index` up to the next run have this term."""

    first_index: LogIndex
    term: Term


class Quarantine(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """Why a node's data is doubted, and until when (`d_engine.raft.isolation`): until its log agrees with a leader's
    up to `held_index`, the highest that it once held; and if `needs_snapshot`, not before it has installed a peer's."""

    reason: str
    held_index: LogIndex
    needs_snapshot: bool


@dataclass(frozen=True, slots=True)
class RecoveredLog:
    """What storage found. Everything in it is durable.

    `snapshot` stands for all entries up to its index; the log holds `first_index`..`last_index` (empty when
    `last_index == first_index - 1`). `configurations` are those of the log's configuration entries, by rising index.
    `tail` are the newest entries, ending with `last_index`, as many as storage had at hand. With a
    `quarantine` the node may not have everything that it once had.
    """

    hard_state: HardState = HardState()
    snapshot: SnapshotMeta | None = None
    first_index: LogIndex = 1
    last_index: LogIndex = 0
    term_runs: tuple[TermRun, ...] = ()
    configurations: tuple[tuple[LogIndex, Configuration], ...] = ()
    tail: tuple[Entry, ...] = ()
    quarantine: Quarantine | None = None
