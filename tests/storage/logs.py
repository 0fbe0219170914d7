"""What tests of the log share: entries, a log over a `CrashDisk`, and what it has told."""

from d_engine.format.configuration import Configuration, Member, encode_configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.errors import DEngineError
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import RecoveredLog
from d_engine.storage.wal import WalStorage
from tests.storage.crash_disk import CrashDisk

SEED = 0x5EED
SEGMENT_BYTES = 8192


def entry(index: int, term: int = 1, size: int = 20) -> Entry:
    body = bytes((index + term + place) % 256 for place in range(size))
    return Entry.create(EntryKind.COMMANDS, term, index, 1000 * index, (body,), 1)


def entries(first: int, last: int, term: int = 1, size: int = 20) -> list[Entry]:
    return [entry(index, term, size) for index in range(first, last + 1)]


def configuration(*voters: int) -> Configuration:
    return Configuration(7, tuple(Member(voter, f"host:{voter}", voter + 100) for voter in voters), voters)


def configuration_entry(index: int, term: int, *voters: int) -> Entry:
    return Entry.create(
        EntryKind.CONFIGURATION, term, index, 1000 * index, (encode_configuration(configuration(*voters)),)
    )


def meta(index: int, term: int = 1) -> SnapshotMeta:
    return SnapshotMeta(index, term, configuration(1, 2, 3))


class Log:
    """A started `WalStorage` and what it has told."""

    def __init__(self, disk: CrashDisk, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.disk = disk
        self.wal = WalStorage(disk, SEED, segment_bytes)
        self.recovered = self.wal.recover()
        self.durable: list[int] = []
        self.failures: list[DEngineError] = []
        self.full: list[bool] = []
        self.wal.start(self.durable.append, self.failures.append, self.full.append)
        self.seq = 0

    def append(self, *more: Entry) -> None:
        self.seq += 1
        self.wal.append(self.seq, None, more)

    def write(self, *more: Entry) -> None:
        """Append and wait until it is durable."""
        self.append(*more)
        self.disk.settle()
        assert self.durable[-1] == self.seq

    def all(self) -> list[Entry]:
        """Every entry, read one by one."""
        first = self.recovered.first_index
        found: list[Entry] = []
        while more := self.wal.read(first, 1):
            assert len(more) == 1
            found += more
            first += 1
        return found


def recover(disk: CrashDisk) -> RecoveredLog:
    return WalStorage(disk, SEED, SEGMENT_BYTES).recover()


def reopened(disk: CrashDisk) -> Log:
    """The log as the next process finds it."""
    return Log(disk.killed())


def segments(disk: CrashDisk) -> list[str]:
    return sorted(name for name in disk.files() if name.endswith(".wal"))
