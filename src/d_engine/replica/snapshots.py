"""Everything about snapshots on one node, in the order that safety needs (docs/design/snapshots.md):

* *Taking*: frozen, written, verified, renamed. Then the core offers it to peers, and only then is any log cut.
* *Serving*: parts of a kept file, to whoever asks.
* *Installing*: fetched, verified, renamed, the directory synced, read beside the state that is served. Then, in one
  turn: the state is replaced, the core starts anew behind it, and the log is told to. From the rename on a restart
  comes to the same end by itself; before it, nothing has changed. The core acknowledges nothing of it before the log's
  reset is durable.
* *Restarting*: the newest good one is restored, and what the log holds behind it is applied. A log that ends before
  it, or differs from it, is what a crash between rename and reset leaves: it is reset now.
"""

from collections.abc import Callable, Iterator

from d_engine.format.configuration import Configuration
from d_engine.format.errors import (
    CorruptionError,
    DEngineError,
    DiskError,
    UnknownFormatError,
)
from d_engine.format.hello import Channel
from d_engine.format.ids import LogIndex, Nanoseconds, NodeId
from d_engine.format.messages import SnapshotChunk, SnapshotMeta, SnapshotRequest
from d_engine.format.state_machine import Replacement
from d_engine.raft.core import Raft
from d_engine.raft.effects import Role
from d_engine.raft.progress import ProgressState
from d_engine.replica.applier import Applier
from d_engine.replica.installation import Installation
from d_engine.replica.installer import Installer
from d_engine.replica.ports import Network
from d_engine.replica.retention import Retention
from d_engine.replica.scrubber import Scrubber
from d_engine.replica.settings import ReplicaSettings
from d_engine.replica.snapshotter import Snapshotter
from d_engine.storage.api import LogStorage
from d_engine.storage.disk import DiskOperation, Lane, RemoveFile, SyncDirectory
from d_engine.storage.snapshots import SnapshotFile, SnapshotFiles


class Snapshots:
    """`replaced` is told when a snapshot from elsewhere has replaced the state: its index, and the members."""

    def __init__(
        self,
        settings: ReplicaSettings,
        raft: Raft,
        storage: LogStorage,
        files: SnapshotFiles,
        network: Network,
        applier: Applier,
        wake: Callable[[], None],
    ) -> None:
        self.files = files
        self.taking = Snapshotter(settings.snapshots, raft, applier, files, wake)
        self.receiving = Installer(settings.snapshots, settings.election_max_ns, files, network, wake)
        self._scrubber = Scrubber(settings.snapshots, files)
        self._installing: Installation | None = None
        self.installed = 0
        self.replaced: Callable[[LogIndex, Configuration], None] = _nobody
        self._raft = raft
        self._storage = storage
        self._network = network
        self._applier = applier
        self._settings = settings
        self._retention = Retention(settings.snapshots)
        self.wake = wake
        self._failure: DEngineError | None = None

    def recover(self, now: Nanoseconds) -> SnapshotMeta | None:
        """Before the start: restore the newest good snapshot. Raises `CorruptionError` if there is none that the log
        could go on behind."""
        raft, files = self._raft, self.files
        if raft.isolation.stands_still:
            # The state is wrong, and so may be what was written of it. It waits for a peer's.
            files.recover(_nothing_to_restore)
            return None
        files.recover(self._applier.restore)
        file, base = files.newest, raft.first_index - 1
        if base > (0 if file is None else file.header.index):
            found = f"; {'; '.join(files.refused)}" if files.refused else ""
            text = f"the log begins at {base + 1}, and no good snapshot stands for what was before{found}"
            if not self._settings.repair or raft.configuration.all_voters == (raft.node_id,):
                raise CorruptionError(text)
            # There is no state to apply the log to: a peer's has to come.
            raft.isolation.begin(text, now)
            return None
        if file is None:
            return None
        self._begin_behind(file.meta, now)
        return file.meta

    def applied(self, size: int) -> None:
        """So many bytes of the log were applied."""
        self.taking.log_bytes += size
        self._retention.applied(size)

    @property
    def lacks_room(self) -> str:
        """For what there is no room on the disk, in words; empty if nothing is wanting."""
        if self._storage.full:
            return "the log has no room: commands are refused"
        return self.receiving.lacks_room or self.taking.lacks_room

    @property
    def deadline(self) -> Nanoseconds | None:
        """When a turn is needed though nothing has happened."""
        installing = None if self._installing is None else self._installing.deadline
        deadlines = (self.taking.deadline, self.receiving.deadline, self._scrubber.deadline, installing)
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    @property
    def installing(self) -> bool:
        """A snapshot was fetched and is being read."""
        return self._installing is not None and self._installing.reading

    def receive(self, sender: NodeId, message: SnapshotRequest | SnapshotChunk, now: Nanoseconds) -> None:
        """A member asks for a part, or sends one."""
        if isinstance(message, SnapshotChunk):
            self.receiving.receive(sender, message, now)
        else:
            self._serve(sender, message)

    def run(self, now: Nanoseconds) -> bool:
        """Once a turn, when what is committed was applied. True if there is more to do at once. Raises `DiskError`, or
        what a state machine raises that cannot be restored."""
        if self._failure is not None:
            raise self._failure
        more = self._receive_or_install(now)
        if self._scrubber.run(now):
            # It was good once. Another one is made, of what is known to be good.
            self.taking.ask(lambda header, error: None)
        if self._raft.isolation.stands_still:
            return more
        if self._raft.isolation.snapshot_wanted and self.taking.idle:
            # A peer's state is wrong, and there is no snapshot that is new enough for it.
            self.taking.ask(lambda header, error: None)
        goes_on, taken = self.taking.run(now)
        if taken is not None:
            self.taking.taken += 1
            self._submit(self.files.adopt(taken))
            self._raft.snapshot_taken(taken.meta)
        if self._retention.mark(now, self._applier.applied_index):
            self._cut_log(now)
        return more or goes_on

    # --- serving -----------------------------------------------------------------------------------------------------

    def _serve(self, sender: NodeId, request: SnapshotRequest) -> None:
        index, term, offset = request.index, request.snapshot_term, request.offset
        file = None if self._raft.isolation.stands_still else self.files.find(index, term)
        size, digest, data = 0, b"", b""
        if file is not None and offset < file.header.size:
            size, digest = file.header.size, file.header.digest
            try:
                data = file.read(offset, max(1, min(request.length, self._settings.snapshots.part_bytes)))
            except (CorruptionError, UnknownFormatError):
                # The digest tells the peer if what it has is of another file.
                self._scrubber.doubt(file)
                self.wake()
        self._network.send(sender, Channel.DATA, SnapshotChunk(index, term, offset, size, digest, data))

    # --- installing --------------------------------------------------------------------------------------------------

    def _is_needed(self, meta: SnapshotMeta) -> bool:
        commit_index = self._raft.commit_index - self._raft.isolation.stands_still
        return commit_index < meta.index and self._raft.role is not Role.LEADER

    def _receive_or_install(self, now: Nanoseconds) -> bool:
        """One after the other. True if there is more to do at once."""
        installing = self._installing
        if installing is None:
            more, file = self.receiving.run(now, self._is_needed)
            if file is None:
                return more
            installing = self._installing = Installation(
                file, self._settings.snapshots, self._applier, self._become
            )
        meta = installing.file.meta
        if installing.reading and not self._is_needed(meta):
            self._installing = None
            if self.files.find(meta.index, meta.term) is None:
                self._submit((RemoveFile(installing.file.name), SyncDirectory()))
            return True
        more = installing.run(now)
        if installing.over:
            self._installing = None
        return more

    def _become(self, file: SnapshotFile, replacement: Replacement, now: Nanoseconds) -> Iterator[None]:
        """In one turn, all that makes the file this node's state. What is returned lets go of the one before."""
        meta, before = file.meta, replacement()
        self.installed += 1
        if self._raft.isolation.stands_still:
            # What this node wrote of its own state may be as wrong as that was.
            self.files.kept.clear()
        self.taking.restart()
        self._begin_behind(meta, now)
        self._submit(self.files.adopt(file))
        self.replaced(meta.index, meta.configuration)
        return before

    def _begin_behind(self, meta: SnapshotMeta, now: Nanoseconds) -> None:
        """The state is that of this snapshot, which is on stable storage: core and log follow."""
        raft = self._raft
        if raft.snapshot_installed(meta, now):
            self._storage.reset(meta)
        raft.applied(meta.index, now)
        raft.snapshot_taken(meta)
        raft.set_log_time(self._applier.log_time)

    # --- the log -----------------------------------------------------------------------------------------------------

    def _cut_log(self, now: Nanoseconds) -> None:
        """Let go what the older snapshot stands for and nobody needs any more."""
        raft, boundary = self._raft, self.files.boundary
        if boundary < raft.first_index:
            return
        status = raft.status()
        peers = status.peers.values()
        keeping_up = [peer.match_index for peer in peers if peer.state == ProgressState.REPLICATE.value]
        needed = min(keeping_up, default=status.durable_index)
        index = min(self._retention.floor(now, boundary, needed), status.durable_index)
        if index >= raft.first_index:
            self._storage.compact(index)
            raft.compacted(index)
            self._retention.cut(index)

    def _submit(self, operations: tuple[DiskOperation, ...]) -> None:
        if operations:
            self.files.disk.submit(Lane.BACKGROUND, operations, self._removed)

    def _removed(self, error: DEngineError | None) -> None:
        if isinstance(error, DiskError):
            self._failure = error
            self.wake()


def _nothing_to_restore(file: SnapshotFile) -> None:
    """The files are only looked at."""


def _nobody(index: LogIndex, configuration: Configuration) -> None:
    """Nobody is interested yet."""
