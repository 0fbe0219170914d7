"""The write-ahead log: what is handed over comes back, in groups, over segments."""

from d_engine.format.entry import Entry, EntryKind
from d_engine.format.errors import DEngineError
from d_engine.format.state import HardState
from d_engine.storage.wal import WalStorage
from tests.storage.crash_disk import CrashDisk

SEED = 0x5EED


def entry(index: int, term: int = 1, size: int = 20) -> Entry:
    return Entry.create(EntryKind.COMMANDS, term, index, 1000 * index, (bytes([index % 256]) * size,), 1)


class Told:
    def __init__(self) -> None:
        self.durable: list[int] = []
        self.failures: list[DEngineError] = []
        self.full: list[bool] = []


def opened(disk: CrashDisk, segment_bytes: int = 16384) -> tuple[WalStorage, Told]:
    wal, told = WalStorage(disk, SEED, segment_bytes), Told()
    wal.recover()
    wal.start(told.durable.append, told.failures.append, told.full.append)
    return wal, told


def test_what_is_handed_over_comes_back() -> None:
    disk = CrashDisk()
    wal, told = opened(disk)
    wal.append(1, HardState(1, 2), [entry(1), entry(2)])
    assert told.durable == []
    disk.settle()
    assert told.durable == [1]
    wal.append(2, HardState(3, 0), [entry(3, 3)])
    disk.settle()
    log = WalStorage(disk.killed(), SEED, 16384).recover()
    assert log.hard_state == HardState(3, 0)
    assert log.tail == (entry(1), entry(2), entry(3, 3))
    assert list(wal.read(1, 10**6)) == [entry(1), entry(2), entry(3, 3)]


def test_rolls() -> None:
    disk = CrashDisk()
    wal, told = opened(disk)
    for index in range(1, 301):
        wal.append(index, None, [entry(index, size=300)])
        disk.settle()
    assert told.durable[-1] == 300
    log = WalStorage(disk.killed(), SEED, 16384).recover()
    assert log.last_index == 300
    assert log.tail[0].index == 1
    assert wal.read(5, 100000)[0] == entry(5, size=300)
    wal.compact(250)
    disk.settle()
    log = WalStorage(disk.killed(), SEED, 16384).recover()
    assert log.first_index == 251
