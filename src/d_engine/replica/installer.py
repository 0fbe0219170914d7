"""Getting a snapshot from another node.

The follower *pulls*: it asks for one part of the file after the other, so that the sender keeps no state for it,
never sends what nobody waits for, and the pace is that of the receiver's disk. A part names its file (index, term,
size, digest), so parts of two snapshots are never mixed, and one is taken only where the last one ended, from the node
that was asked. Late, doubled and foreign ones are dropped.

The temporary file is a beginning of the sender's. After a broken connection the next part is asked for; after a
restart of this node the file is read again, as far as its chunks are good, and, if the sender's file has the same
digest, goes on from there. What is read so was perhaps never synced, so it is written once more.

When all is there it is read back and compared with the digest, and renamed. What follows, the installation, is up to
`d_engine.replica.snapshots`.

A sender that has not answered several times, or has the snapshot no more, is given up. The leader repeats its offer, of
what it has then, as long as this node's log does not reach its own.

Without room on the disk what was received goes, for the log may need the room, and another attempt is made a little
later.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

from d_engine.format.errors import (
    CorruptionError,
    DEngineError,
    DiskError,
    DiskFullError,
    SnapshotError,
    UnknownFormatError,
)
from d_engine.format.hello import Channel
from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.format.messages import SnapshotChunk, SnapshotMeta, SnapshotRequest
from d_engine.raft.effects import Install
from d_engine.replica.ports import Network
from d_engine.replica.settings import SECOND, SnapshotSettings
from d_engine.storage.disk import SyncFile, TruncateFile
from d_engine.storage.snapshot_format import MAX_CHUNK_BYTES, MAX_HEADER_BYTES, decode_header, whole_parts
from d_engine.storage.snapshot_writer import TemporaryFile
from d_engine.storage.snapshots import RECEIVING_NAME, SnapshotFile, SnapshotFiles

ATTEMPTS = 3
RETRY_AFTER: Nanoseconds = 10 * SECOND
"""A disk that had no room for a snapshot is asked again."""
_SCAN_BYTES = MAX_CHUNK_BYTES + MAX_HEADER_BYTES


class _Stage(Enum):
    SCANNING = "scanning"
    """Reading what an earlier attempt has left."""
    FETCHING = "fetching"
    CHECKING = "checking"


@dataclass(slots=True)
class _Fetch:
    """One snapshot on its way. `place` is how much of the file is there; its header tells `size` and `digest`."""

    sender: NodeId
    meta: SnapshotMeta
    file: TemporaryFile
    stage: _Stage = _Stage.FETCHING
    place: int = 0
    size: int = 0
    digest: bytes = b""
    attempts: int = 0
    deadline: Nanoseconds | None = None
    """Until when the answer to the last request is waited for; None if none is under way."""


class Installer:
    """One snapshot at a time."""

    def __init__(
        self,
        settings: SnapshotSettings,
        patience: Nanoseconds,
        files: SnapshotFiles,
        network: Network,
        wake: Callable[[], None],
    ) -> None:
        """`patience`: how long an answer is waited for."""
        self._settings = settings
        self._patience = patience
        self._files = files
        self._network = network
        self._wake = wake
        self._offer: Install | None = None
        self._fetch: _Fetch | None = None
        self._outcome: tuple[SnapshotFile | None, DEngineError | None] | None = None
        self._lacked: tuple[SnapshotMeta, str] | None = None
        """What there was no room for, and what the disk said."""
        self._not_before: Nanoseconds = 0
        self._resume_at: Nanoseconds = 0
        self._disk_busy: TemporaryFile | None = None

    @property
    def progress(self) -> tuple[int, int]:
        """Bytes received, of how many; zeros if nothing is being received."""
        return (0, 0) if self._fetch is None else (self._fetch.place, self._fetch.size)

    @property
    def lacks_room(self) -> str:
        """For what the disk has no room; empty if nothing is wanting."""
        if self._lacked is None:
            return ""
        meta, said = self._lacked
        return f"a snapshot of another member's, of log index {meta.index}, has no room ({said})"

    @property
    def _occupied(self) -> bool:
        """The disk is still at work for the file before."""
        return self._disk_busy is not None and self._disk_busy.busy

    @property
    def deadline(self) -> Nanoseconds | None:
        """When `run` is to be called though nothing has happened."""
        fetch = self._fetch
        if fetch is None:
            return None if self._offer is None or self._lacked is None or self._occupied else self._not_before
        if fetch.file.busy:
            return None
        if fetch.stage is not _Stage.FETCHING:
            return self._resume_at
        return self._not_before if fetch.deadline is None else fetch.deadline

    def offered(self, install: Install) -> None:
        """The leader has this for us. What is being fetched already goes on as long as its sender answers."""
        self._offer = install
        self._wake()

    def receive(self, sender: NodeId, chunk: SnapshotChunk, now: Nanoseconds) -> None:
        """A part, perhaps one that was asked for."""
        fetch = self._fetch
        if (
            fetch is None
            or fetch.deadline is None
            or sender != fetch.sender
            or (chunk.index, chunk.snapshot_term) != (fetch.meta.index, fetch.meta.term)
        ):
            return
        if not chunk.size:
            self._give_up()
        elif fetch.digest and (chunk.size, chunk.digest) != (fetch.size, fetch.digest):
            self._begin_anew(fetch)
        elif chunk.offset == fetch.place:
            self._take(fetch, chunk, now)

    def run(
        self, now: Nanoseconds, needed: Callable[[SnapshotMeta], bool]
    ) -> tuple[bool, SnapshotFile | None]:
        """Go on. `(there is more to do at once, the snapshot that is ready)`. Raises `DiskError`."""
        if self._outcome is not None:
            return self._conclude(*self._outcome, now)
        if self._lacked is not None and not needed(self._lacked[0]):
            self._lacked = None
        fetch = self._fetch
        if fetch is None and (self._lacked is None or now >= self._not_before):
            fetch = self._begin(needed)
        if fetch is None:
            return False, None
        if not needed(fetch.meta):
            fetch.file.leave()
            fetch.file.abandon(SnapshotError("it is not needed any more"))
            self._fetch = None
            return False, None
        if fetch.file.busy:
            return False, None
        if fetch.stage is _Stage.FETCHING:
            self._ask(fetch, now)
        elif now >= self._resume_at:
            self._resume_at = now + self._settings.pause_ns
            if fetch.stage is _Stage.SCANNING:
                self._scan(fetch)
            else:
                fetch.file.check(self._settings.slice_bytes)
        working = fetch.stage is not _Stage.FETCHING and not fetch.file.busy
        return not self._settings.pause_ns and working, None

    def _conclude(
        self, file: SnapshotFile | None, error: DEngineError | None, now: Nanoseconds
    ) -> tuple[bool, SnapshotFile | None]:
        fetch, self._fetch, self._outcome = self._fetch, None, None
        if isinstance(error, DiskError):
            raise error
        if file is not None:
            self._lacked = None
        elif isinstance(error, DiskFullError) and fetch is not None:
            self._lacked, self._not_before = (fetch.meta, str(error)), now + RETRY_AFTER
        return self._offer is not None, file

    # --- stages ------------------------------------------------------------------------------------------------------

    def _begin(self, needed: Callable[[SnapshotMeta], bool]) -> _Fetch | None:
        offer, self._offer = self._offer, None
        if offer is None or not needed(offer.snapshot):
            return None
        if self._occupied:
            self._offer = offer
            return None
        files = self._files
        file = self._disk_busy = TemporaryFile(files.disk, RECEIVING_NAME, self._wake, self._ended)
        fetch = self._fetch = _Fetch(offer.sender, offer.snapshot, file)
        if RECEIVING_NAME in files.disk.files():
            fetch.stage = _Stage.SCANNING
        else:
            file.create()
        return fetch

    def _scan(self, fetch: _Fetch) -> None:
        """One step through what is there already."""
        disk = self._files.disk
        data = disk.read(RECEIVING_NAME, fetch.place, _SCAN_BYTES)
        try:
            whole = whole_parts(RECEIVING_NAME, fetch.place, memoryview(data)) if data else 0
            if whole and not fetch.place:
                self._identify(fetch, data)
        except (CorruptionError, UnknownFormatError, SnapshotError):
            whole = 0
        if whole:
            fetch.file.write(fetch.place, [data[:whole]])
            fetch.place += whole
            return
        fetch.stage = _Stage.FETCHING
        if fetch.place:
            fetch.file.perform(TruncateFile(RECEIVING_NAME, fetch.place), SyncFile(RECEIVING_NAME))
        else:
            self._begin_anew(fetch)

    def _ask(self, fetch: _Fetch, now: Nanoseconds) -> None:
        if fetch.size and fetch.place == fetch.size:
            fetch.stage = _Stage.CHECKING
            fetch.file.perform(SyncFile(RECEIVING_NAME))
        elif fetch.deadline is not None and now < fetch.deadline:
            return
        elif fetch.attempts >= ATTEMPTS:
            self._give_up()
        elif now >= self._not_before:
            fetch.attempts += 1
            fetch.deadline = now + self._patience
            request = SnapshotRequest(
                fetch.meta.index, fetch.meta.term, fetch.place, self._settings.part_bytes
            )
            self._network.send(fetch.sender, Channel.DATA, request)

    def _take(self, fetch: _Fetch, chunk: SnapshotChunk, now: Nanoseconds) -> None:
        data = chunk.data
        try:
            whole = whole_parts("a part of a snapshot", fetch.place, memoryview(data))
            if whole != len(data) or not data or fetch.place + whole > chunk.size:
                raise SnapshotError("a part of a snapshot is cut off")
            if not fetch.place:
                self._identify(fetch, data)
        except (CorruptionError, UnknownFormatError, SnapshotError):
            # Not what was asked for. It is asked for again when its time is over, so that this makes no hurry.
            return
        if (chunk.size, chunk.digest) != (fetch.size, fetch.digest):
            return
        fetch.file.write(fetch.place, [data])
        fetch.place += whole
        fetch.attempts = 0
        fetch.deadline = None
        rate = self._settings.receive_bytes_per_second
        if rate:
            self._not_before = max(self._not_before, now) + whole * SECOND // rate

    def _identify(self, fetch: _Fetch, data: bytes) -> None:
        header = decode_header("a part of a snapshot", data)
        if header.meta != fetch.meta:
            raise SnapshotError(f"the snapshot of {header.index} came instead of that of {fetch.meta.index}")
        fetch.size, fetch.digest = header.size, header.digest

    def _begin_anew(self, fetch: _Fetch) -> None:
        """What is there is of another file."""
        fetch.place, fetch.size, fetch.digest = 0, 0, b""
        fetch.deadline = None
        fetch.file.create()

    def _give_up(self) -> None:
        """What was received stays: the next offer may be of the same."""
        if self._fetch is not None:
            self._fetch.file.leave()
            self._fetch = None
            self._wake()

    def _ended(self, file: SnapshotFile | None, error: DEngineError | None) -> None:
        self._outcome = (file, error)
        self._wake()
