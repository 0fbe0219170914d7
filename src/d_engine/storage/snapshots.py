"""The snapshots of one data directory: which there are, which of them are good, and how one becomes one of them.

A snapshot is written under a temporary name, synced, read back, and only then given the name under which it is looked
for (`d_engine.storage.snapshot_writer`); so a file that bears a snapshot's name was once whole and on stable storage.
The newest two are kept. If the newest does not read back as written, it is refused by name, and the one before it, with
a log that still reaches back to it, gives the same state. The log is therefore never cut behind the older of the two.

At a start the newest is read from end to end before anything is made of it.
"""

import re
from collections.abc import Callable, Iterator

from d_engine.format.errors import CorruptionError, SnapshotError, StorageError, UnknownFormatError
from d_engine.format.ids import LogIndex, Term
from d_engine.format.messages import SnapshotMeta
from d_engine.storage.disk import Disk, DiskOperation, RemoveFile, SyncDirectory
from d_engine.storage.snapshot_format import (
    CHUNK_HEAD_BYTES,
    MAX_CHUNK_BYTES,
    MAX_HEADER_BYTES,
    Digest,
    Section,
    SnapshotHeader,
    decode_chunk,
    decode_header,
    whole_parts,
)

SAVING_NAME = "snapshot-save.tmp"
RECEIVING_NAME = "snapshot-receive.tmp"
KEPT = 2
_NAME = re.compile(r"snapshot-(\d{14})-(\d{15})\.snp")
_WINDOW_BYTES = 1 << 20
_LARGEST_PART = max(MAX_HEADER_BYTES, MAX_CHUNK_BYTES + CHUNK_HEAD_BYTES)


def snapshot_name(meta: SnapshotMeta) -> str:
    """The file's name. Sorted by name is sorted by age."""
    return f"snapshot-{meta.index:014d}-{meta.term:015d}.snp"


def snapshot_names(disk: Disk) -> list[str]:
    """The files that bear a snapshot's name, the newest first."""
    return sorted((name for name in disk.files() if _NAME.fullmatch(name)), reverse=True)


class Verification:
    """Reads a file from end to end, some of it at a time, and compares all checksums."""

    def __init__(self, disk: Disk, name: str) -> None:
        """Reads the header. Raises `CorruptionError`, `UnknownFormatError`, or what the disk raises."""
        self.name = name
        self.header = read_header(disk, name)
        self.place = self.header.length
        self._disk = disk
        self._digest = Digest()
        self._begins: dict[Section, int] = {}
        if disk.size(name) != self.header.size:
            raise CorruptionError(f"{name} has {disk.size(name)} bytes instead of {self.header.size}")

    def step(self, budget: int) -> "SnapshotFile | None":
        """Read about `budget` bytes, at least a chunk; the file once all is read. Raises like the constructor."""
        end = min(self.place + max(budget, _LARGEST_PART), self.header.size)
        data = memoryview(self._disk.read(self.name, self.place, end - self.place))
        read = 0
        while (chunk := decode_chunk(self.name, self.place + read, data, read)) is not None:
            section, content = chunk
            if self._begins and section < max(self._begins):
                raise CorruptionError(f"{self.name}, offset {self.place + read}: a section is out of place")
            self._begins.setdefault(section, self.place + read)
            read += CHUNK_HEAD_BYTES + len(content)
        self._digest.update(data[:read])
        self.place += read
        if self.place == self.header.size:
            return self._finish()
        if not read:
            raise CorruptionError(f"{self.name}, offset {self.place}: the last chunk is cut off")
        return None

    def _finish(self) -> "SnapshotFile":
        header = self.header
        if self._digest.finish(header.unsigned) != header.digest:
            raise CorruptionError(f"{self.name}: the file's digest does not match its bytes")
        for section in Section:
            if section not in self._begins:
                raise CorruptionError(f"{self.name} has no section {section.name}")
        return SnapshotFile(self._disk, self.name, header, self._begins)


class SnapshotFile:
    """A snapshot that bears its name, or is about to."""

    def __init__(
        self, disk: Disk, name: str, header: SnapshotHeader, begins: dict[Section, int] | None = None
    ) -> None:
        """`begins` tells where each section begins, once somebody has looked."""
        self.name = name
        self.header = header
        self._disk = disk
        self._begins = begins or {}

    @property
    def meta(self) -> SnapshotMeta:
        """What it stands for."""
        return self.header.meta

    def pieces(self, section: Section) -> Iterator[bytes]:
        """The section's data, of a file that was verified. Raises like `Verification`."""
        place, size = self._begins[section], self.header.size
        while place < size:
            data = memoryview(self._disk.read(self.name, place, _WINDOW_BYTES))
            read = 0
            while (chunk := decode_chunk(self.name, place + read, data, read)) is not None:
                if chunk[0] is not section:
                    return
                read += CHUNK_HEAD_BYTES + len(chunk[1])
                yield bytes(chunk[1])
            if not read:
                raise CorruptionError(f"{self.name}, offset {place}: the last chunk is cut off")
            place += read

    def read(self, offset: int, limit: int) -> bytes:
        """Whole parts of the file from `offset` on (0, or where a chunk begins), checked: at least one, about `limit`
        bytes. Raises like `Verification`."""
        data = self._disk.read(self.name, offset, max(limit, _LARGEST_PART))
        whole = whole_parts(self.name, offset, memoryview(data), limit)
        if not whole:
            raise CorruptionError(f"{self.name}, offset {offset}: a chunk is cut off")
        return data[:whole]


class SnapshotFiles:
    """All of them. `kept` are the good ones, newest first; `refused` says what was wrong with others."""

    def __init__(self, disk: Disk) -> None:
        self.disk = disk
        self.kept: list[SnapshotFile] = []
        self.refused: list[str] = []

    def recover(self, restore: Callable[[SnapshotFile], None]) -> None:
        """At a start: `restore` the newest that is whole. What was being written is removed; what was being received
        may still be of use. `restore` raises `StorageError` for one that it cannot use."""
        disk = self.disk
        for name in snapshot_names(disk):
            try:
                if not self.kept:
                    file = verify(disk, name)
                    restore(file)
                    self.kept.append(file)
                elif len(self.kept) < KEPT:
                    self.kept.append(SnapshotFile(disk, name, read_header(disk, name)))
            except (CorruptionError, UnknownFormatError, SnapshotError) as error:
                self.refused.append(str(error))
        # A rename that the process before this one has made may not have reached the disk yet.
        disk.run((RemoveFile(SAVING_NAME), SyncDirectory()))

    @property
    def newest(self) -> SnapshotFile | None:
        """The newest good one."""
        return self.kept[0] if self.kept else None

    @property
    def boundary(self) -> LogIndex:
        """What the older of two snapshots stands for: the log behind it must stay."""
        return self.kept[1].header.index if len(self.kept) == KEPT else 0

    def find(self, index: LogIndex, term: Term) -> SnapshotFile | None:
        """The snapshot of that index, if it is kept."""
        for file in self.kept:
            if (file.header.index, file.header.term) == (index, term):
                return file
        return None

    def adopt(self, file: SnapshotFile) -> tuple[DiskOperation, ...]:
        """The file bears its name, durably. Returns what removes those that are not kept any more."""
        kept = [file, *(other for other in self.kept if other.name != file.name)]
        kept.sort(key=lambda each: each.name, reverse=True)
        self.kept = kept[:KEPT]
        names = [each.name for each in self.kept]
        gone = [name for name in sorted(self.disk.files()) if _NAME.fullmatch(name) and name not in names]
        return (*map(RemoveFile, gone), SyncDirectory()) if gone else ()

    def refuse(self, file: SnapshotFile, error: StorageError) -> None:
        """It turned out not to be good."""
        self.refused.append(str(error))
        self.kept = [other for other in self.kept if other is not file]


def verify(disk: Disk, name: str) -> SnapshotFile:
    """The file, read from end to end. Raises like `Verification`."""
    verification = Verification(disk, name)
    while (file := verification.step(_WINDOW_BYTES)) is None:
        pass
    return file


def read_header(disk: Disk, name: str) -> SnapshotHeader:
    """A file's header. Raises like `Verification`."""
    header = decode_header(name, disk.read(name, 0, MAX_HEADER_BYTES))
    match = _NAME.fullmatch(name)
    if match is not None and (int(match[1]), int(match[2])) != (header.index, header.term):
        raise CorruptionError(f"{name}, offset 24: the header is that of {snapshot_name(header.meta)}")
    return header
