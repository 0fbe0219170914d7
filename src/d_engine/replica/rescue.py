"""A new cluster from one surviving data directory, after the majority of the disks is gone for good.

This gives up the promise that an acknowledged write is never lost, and is therefore done by hand, offline, never by a
node itself: what the lost majority had acknowledged without this directory is gone, and nobody can tell what that was.
What can be promised is that the new cluster is not mistaken for the old one, and that nothing which the old one has
given out is given out again:

* It has a cluster id and an incarnation of its own: nodes and connections of the old one are refused.
* Every entry that has survived counts as committed: each may have been acknowledged.
* Term, log index and revision rise by `JUMP`, more than the old cluster can have been ahead. So a fencing token, a
  session id or a leader's term is never given out twice.
* Sessions are dropped: whether a write that was under way took effect is unknown (`SessionLostError`).
* The node is the only voter; it grows again like any single node.

The new directory is written in an order in which its identity comes last: until that is durable, no node starts on it.
"""

from collections.abc import Callable
from dataclasses import dataclass

from d_engine.format.configuration import Configuration, Member
from d_engine.format.errors import InvalidRequestError
from d_engine.format.ids import MAX_LOG_INDEX, MAX_TERM, ClusterId, Incarnation, LogIndex, NodeId, Term
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import HardState
from d_engine.format.state_machine import RecoverableState, StateMachine
from d_engine.replica.applier import Applier
from d_engine.replica.sessions import SessionTable
from d_engine.replica.settings import MAX_SESSIONS
from d_engine.replica.snapshotter import frozen_pieces
from d_engine.storage.disk import Disk
from d_engine.storage.founding import found_log
from d_engine.storage.identity import write_identity
from d_engine.storage.inspection import Inspection
from d_engine.storage.reader import read_entries
from d_engine.storage.records import Head
from d_engine.storage.snapshot_writer import SnapshotWriter
from d_engine.storage.snapshots import SAVING_NAME, SnapshotFile

JUMP = 10**9
"""A cluster that makes 100,000 revisions a second needs three hours for so many. No follower that is of use lags so far
behind."""
_READ_BYTES = 8 * 1024 * 1024
_CHECK_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class NewIdentity:
    """The random numbers of a new cluster and of its first node's directory, none of them 0."""

    cluster_id: ClusterId
    incarnation: Incarnation
    seed: int


class Survivor:
    """What a directory holds, replayed: the newest good snapshot and every entry behind it."""

    def __init__(self, disk: Disk, inspection: Inspection, state_machine: StateMachine) -> None:
        """`disk` is only read. Raises `StorageError` if the state cannot be rebuilt."""
        report = inspection.report
        self.node_id: NodeId = report.node_id
        self.configuration_index, self.configuration = report.configuration
        self.applier = Applier(state_machine, SessionTable(MAX_SESSIONS), lambda key, outcome: None)
        self.last_term: Term = 0
        snapshot = inspection.snapshots[0] if inspection.snapshots else None
        if snapshot is not None:
            self.applier.restore(snapshot)
            self.last_term = snapshot.meta.term
        if _follows(inspection, snapshot):
            self._replay(disk, inspection)
        self.sessions = len(self.applier.sessions)
        self._term = max(self.last_term, report.hard_state.term)

    @property
    def last_index(self) -> LogIndex:
        """Of the last entry that has survived, 0 if nothing has."""
        return self.applier.applied_index

    def write(self, disk: Disk, identity: NewIdentity, wait: Callable[[], None]) -> SnapshotMeta:
        """Make of the empty directory `disk` one from which a new cluster starts. `wait` returns when the disk has
        called back. Returns what the new cluster begins with. Raises `StorageError`, `InvalidRequestError`; a node does
        not start on what was written so far then."""
        machine = self.applier.state_machine
        index, term = self.last_index + JUMP, self._term + JUMP
        if not isinstance(machine, RecoverableState):
            raise InvalidRequestError(
                f"a {type(machine).__name__} cannot be recovered: it has no method `recovered` that raises its revision"
            )
        if not self.last_index or index > MAX_LOG_INDEX or term > MAX_TERM:
            raise InvalidRequestError(
                f"nothing can be made of a log that ends at {self.last_index}, term {term}"
            )
        machine.recovered(JUMP, self.applier.log_time)
        self.applier.sessions.replace([])
        known = self.configuration.member(self.node_id)
        member = Member(self.node_id, "" if known is None else known.address, identity.incarnation)
        configuration = Configuration(
            identity.cluster_id, (member,), (self.node_id,), lease_reads=self.configuration.lease_reads
        )
        meta = SnapshotMeta(index, term, configuration)
        _write_snapshot(disk, meta, self.applier, wait)
        found_log(disk, identity.seed, Head(HardState(term), index, meta))
        write_identity(disk, self.node_id, identity.incarnation)
        return meta

    def _replay(self, disk: Disk, inspection: Inspection) -> None:
        recovery = inspection.recovery
        last = recovery.outline.last_index
        while self.last_index < last:
            first = self.last_index + 1
            for entry in read_entries(disk, recovery.segments.find(first), first, last, _READ_BYTES):
                self.applier.apply(entry)
                self.last_term = entry.term


def _follows(inspection: Inspection, snapshot: SnapshotFile | None) -> bool:
    """Whether the log goes on behind the snapshot. One that ends before it, or differs from it at its place, is older
    than the snapshot: its node died between installing that and resetting the log."""
    outline = inspection.recovery.outline
    if snapshot is None:
        return outline.first_index == 1
    meta = snapshot.meta
    if not outline.first_index - 1 <= meta.index <= outline.last_index:
        return False
    if meta.index < outline.first_index and outline.base is None:
        return False
    return outline.boundary(meta.index).term == meta.term


def _write_snapshot(disk: Disk, meta: SnapshotMeta, applier: Applier, wait: Callable[[], None]) -> None:
    done: list[Exception | None] = []
    writer = SnapshotWriter(disk, SAVING_NAME, meta, lambda: None, lambda file, error: done.append(error))
    for piece in frozen_pieces(applier):
        while not writer.ready and not done:
            wait()
        if piece is not None and not done:
            writer.add(*piece)
    while not done:
        if writer.ready:
            writer.finish(_CHECK_BYTES)
        else:
            wait()
    if done[0] is not None:
        raise done[0]
