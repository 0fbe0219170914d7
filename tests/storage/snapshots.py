"""What tests of snapshots share: small ones, whole or half made."""

from d_engine.format.errors import DEngineError, SnapshotError
from d_engine.format.messages import SnapshotMeta
from d_engine.storage.snapshot_format import Section
from d_engine.storage.snapshot_writer import SnapshotWriter
from d_engine.storage.snapshots import SAVING_NAME, SnapshotFile, SnapshotFiles
from tests.storage.crash_disk import CrashDisk
from tests.storage.logs import meta

CONTENT = (
    (Section.LOG_TIME, b"8 bytes."),
    (Section.SESSIONS, b"two"),
    (Section.STATE, b"the state"),
    (Section.DIGEST, b"16 bytes digest."),
)


class Saving:
    """A snapshot that is being written. `step` gives the writer a chance and then performs its operations."""

    def __init__(
        self,
        disk: CrashDisk,
        meta: SnapshotMeta,
        content: tuple[tuple[Section, bytes], ...] = CONTENT,
        name: str = SAVING_NAME,
    ) -> None:
        self.disk = disk
        self.done: list[SnapshotFile | DEngineError | None] = []
        self.writer = SnapshotWriter(
            disk, name, meta, lambda: None, lambda file, error: self.done.append(file or error)
        )
        for section, data in content:
            self.writer.add(section, data)

    def run(self) -> "SnapshotFile | DEngineError | None":
        for _ in range(100):
            if self.done:
                return self.done[0]
            self.disk.settle()
            self.writer.finish(1 << 20)
        raise AssertionError("the snapshot is never done")


def save(disk: CrashDisk, index: int, term: int = 1, state: bytes = b"the state") -> SnapshotFile:
    """A whole snapshot, adopted by nobody."""
    file = Saving(disk, meta(index, term), (*CONTENT[:2], (Section.STATE, state), CONTENT[3])).run()
    assert isinstance(file, SnapshotFile)
    return file


def state_of(file: SnapshotFile) -> bytes:
    return b"".join(file.pieces(Section.STATE))


def recovered(disk: CrashDisk, unusable: tuple[int, ...] = ()) -> tuple[SnapshotFiles, list[bytes]]:
    """The snapshots as the next process finds them, and what was restored. The state machine cannot use some."""
    files = SnapshotFiles(disk)
    restored: list[bytes] = []

    def restore(file: SnapshotFile) -> None:
        if file.header.index in unusable:
            raise SnapshotError(f"{file.name}: the state machine does not know this")
        restored.append(state_of(file))

    files.recover(restore)
    return files, restored
