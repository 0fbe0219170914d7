"""Writing a snapshot, a little at a time.

    chunks under a temporary name, synced every 4 MiB
    the header, which names size and digest, synced
    all of it read back and compared                        nothing that a cache made up can pass for a snapshot
    renamed, the directory synced                           from here on it exists

The caller gives it chunks and asks it to go on when the disk can take more. Whatever ends it earlier (a full disk, a
crash, the caller) leaves a temporary file, which the next start removes. A sync that fails is not tried again: what the
disk holds is unknown then, and the node stops.
"""

from collections.abc import Callable
from typing import TypeAlias

from d_engine.format.errors import (
    CorruptionError,
    DEngineError,
    DiskError,
    DiskFullError,
    SnapshotError,
    UnknownFormatError,
)
from d_engine.format.messages import SnapshotMeta
from d_engine.storage.disk import (
    CreateFile,
    Disk,
    DiskOperation,
    Lane,
    RemoveFile,
    RenameFile,
    SyncDirectory,
    SyncFile,
    WriteFile,
)
from d_engine.storage.snapshot_format import Digest, Section, encode_chunks, header_bytes
from d_engine.storage.snapshots import SnapshotFile, Verification, snapshot_name

SYNC_BYTES = 4 * 1024 * 1024
_WRITE_BYTES = 1024 * 1024

FileDone: TypeAlias = Callable[[SnapshotFile | None, DEngineError | None], None]
"""The snapshot, or why there is none: `DiskError` (the node must stop), `DiskFullError`, or `SnapshotError`."""


class TemporaryFile:
    """A file that is written from front to back, one list of operations at a time, then checked and renamed."""

    def __init__(self, disk: Disk, name: str, wake: Callable[[], None], done: FileDone) -> None:
        """`wake` is called when the disk is free again: time for `check` or the next write."""
        self.name = name
        self.busy = False
        """The disk is at work for this file; nothing may be asked of it."""
        self._disk = disk
        self._wake = wake
        self._done: FileDone | None = done
        self._left = False
        self._unsynced = 0
        self._verification: Verification | None = None

    def create(self) -> None:
        """Begin with an empty file."""
        self._submit((CreateFile(self.name, 0),), self._wake)

    def write(self, offset: int, parts: list[bytes]) -> None:
        """One write, synced if enough has gathered."""
        self._unsynced += sum(map(len, parts))
        operations: tuple[DiskOperation, ...] = (WriteFile(self.name, offset, parts),)
        if self._unsynced >= SYNC_BYTES:
            self._unsynced = 0
            operations = (*operations, SyncFile(self.name))
        self._submit(operations, self._wake)

    def perform(self, *operations: DiskOperation) -> None:
        """Anything else."""
        self._submit(operations, self._wake)

    def check(self, budget: int) -> None:
        """All is written and synced: read some more of it back. When all is as it was written, it gets its name."""
        try:
            if self._verification is None:
                self._verification = Verification(self._disk, self.name)
            file = self._verification.step(budget)
        except (CorruptionError, UnknownFormatError) as error:
            self.abandon(SnapshotError(f"a snapshot does not read back as it was written: {error}"))
            return
        except DEngineError as error:
            self._end(None, error)
            return
        if file is not None:
            file.name = snapshot_name(file.meta)
            operations = (RenameFile(self.name, file.name), SyncDirectory())
            self._submit(operations, lambda: self._end(file, None))

    def abandon(self, error: DEngineError) -> None:
        """It is not to be; the temporary file goes."""
        self._end(None, error)
        self._submit((RemoveFile(self.name),), self._wake)

    def leave(self) -> None:
        """The file stays as it is. Only of a disk that fails somebody is told."""
        self._left = True

    @property
    def ended(self) -> bool:
        """Nothing more is to be done."""
        return self._done is None

    def _submit(self, operations: tuple[DiskOperation, ...], then: Callable[[], None]) -> None:
        self.busy = True

        def performed(error: DEngineError | None) -> None:
            self.busy = False
            if isinstance(error, DiskFullError):
                self.abandon(error)
            elif error is not None:
                self._end(None, error)
            else:
                then()

        self._disk.submit(Lane.BACKGROUND, operations, performed)

    def _end(self, file: SnapshotFile | None, error: DEngineError | None) -> None:
        done, self._done = self._done, None
        if done is not None and (not self._left or isinstance(error, DiskError)):
            done(file, error)


class SnapshotWriter:
    """Makes a file of pieces: `add` them while it is `ready`, then call `finish` whenever it is, until `done` was."""

    def __init__(
        self, disk: Disk, name: str, meta: SnapshotMeta, wake: Callable[[], None], done: FileDone
    ) -> None:
        self.meta = meta
        self.size = header_bytes(meta)
        """So far."""
        self._digest = Digest()
        self._parts: list[bytes] = []
        self._written = self.size
        self._complete = False
        self._headed = False
        self._file = TemporaryFile(disk, name, wake, done)
        self._file.create()

    @property
    def ready(self) -> bool:
        """It can take more, or go on checking; else the disk has to come back first."""
        return not self._file.ended and (
            not self._file.busy or (not self._complete and self.size - self._written < _WRITE_BYTES)
        )

    def add(self, section: Section, data: bytes) -> None:
        """The next piece."""
        for part in encode_chunks(section, data):
            self._digest.update(part)
            self._parts.append(part)
            self.size += len(part)
        if self.size - self._written >= _WRITE_BYTES:
            self._flush()

    def finish(self, budget: int) -> None:
        """No more pieces come; called again until `done` was."""
        self._complete = True
        if self._file.busy or self._file.ended:
            return
        if self._parts:
            self._flush()
        elif not self._headed:
            self._headed = True
            header = self._digest.header(self.meta, self.size)
            self._file.perform(WriteFile(self._file.name, 0, (header.encode(),)), SyncFile(self._file.name))
        else:
            self._file.check(budget)

    def abandon(self, error: DEngineError) -> None:
        """Give up."""
        if not self._file.ended:
            self._file.abandon(error)

    def _flush(self) -> None:
        if not self._file.busy:
            parts, self._parts = self._parts, []
            self._file.write(self._written, parts)
            self._written = self.size
