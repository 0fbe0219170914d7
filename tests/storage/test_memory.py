"""The engine that forgets."""

from collections.abc import Callable

import pytest

from d_engine.format.errors import DEngineError, DiskError, InvariantViolation
from d_engine.format.state import HardState, RecoveredLog
from d_engine.storage.api import LogStorage
from d_engine.storage.disk import (
    CreateFile,
    DiskOperation,
    Lane,
    RemoveFile,
    RenameFile,
    SyncDirectory,
    SyncFile,
    TruncateFile,
    WriteFile,
)
from d_engine.storage.memory import MemoryDisk, MemoryStorage
from tests.storage.crash_disk import CrashDisk
from tests.storage.logs import entries, entry, meta


class Turns:
    """What was asked to run soon."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] = []

    def run(self) -> None:
        waiting, self.waiting = self.waiting, []
        for function in waiting:
            function()


def started() -> tuple[MemoryStorage, Turns, list[int]]:
    turns, durable = Turns(), list[int]()
    storage = MemoryStorage(lambda function: turns.waiting.append(function))
    assert storage.recover() == RecoveredLog()
    storage.start(durable.append, lambda error: None, lambda full: None)
    return storage, turns, durable


def test_it_is_a_log_storage() -> None:
    storage: LogStorage = started()[0]
    assert not storage.full
    storage.retry()


def test_everything_is_durable_soon_but_not_at_once() -> None:
    storage, turns, durable = started()
    storage.append(1, HardState(1, 1), entries(1, 3))
    storage.append(2, None, [entry(4)])
    assert durable == []
    assert len(turns.waiting) == 1
    turns.run()
    assert durable == [2]
    storage.append(3, None, [])
    turns.run()
    assert durable == [2, 3]


def test_entries_are_read_and_replaced() -> None:
    storage, _, _ = started()
    storage.append(1, None, entries(1, 5))
    storage.append(2, None, [entry(3, 2)])
    assert storage.read(1, 10**6) == [*entries(1, 2), entry(3, 2)]
    assert storage.read(2, 1) == [entry(2)]
    assert storage.read(1, 130) == entries(1, 2)
    assert storage.read(4, 1) == []
    with pytest.raises(InvariantViolation):
        storage.append(3, None, [entry(5)])


def test_compaction_and_installation() -> None:
    storage, _, _ = started()
    storage.append(1, None, entries(1, 5))
    storage.compact(3)
    storage.compact(2)
    assert storage.read(4, 10**6) == entries(4, 5)
    with pytest.raises(InvariantViolation):
        storage.read(3, 1)
    with pytest.raises(InvariantViolation):
        storage.append(2, None, [entry(3)])
    storage.reset(meta(100))
    storage.append(2, None, [entry(101)])
    assert storage.read(101, 1) == [entry(101)]


def test_a_closed_one_tells_nobody() -> None:
    storage, turns, durable = started()
    storage.append(1, None, [entry(1)])
    storage.close()
    turns.run()
    assert durable == []


def test_its_disk_is_a_disk() -> None:
    """The same operations give the same files as on any other."""
    soon: list[Callable[[], None]] = []
    disk, other = MemoryDisk(soon.append), CrashDisk()
    operations: list[DiskOperation] = [
        CreateFile("a", 3),
        WriteFile("a", 5, (b"x", b"yz")),
        WriteFile("a", 1, (b"1",)),
        SyncFile("a"),
        CreateFile("b", 0),
        WriteFile("b", 0, (b"b",)),
        RenameFile("a", "c"),
        TruncateFile("c", 7),
        RenameFile("b", "c2"),
        TruncateFile("c2", 4),
        RemoveFile("none"),
        SyncDirectory(),
    ]
    done: list[DEngineError | None] = []
    disk.submit(Lane.BACKGROUND, operations, done.append)
    other.run(operations)
    assert done == []
    soon.pop()()
    assert done == [None]
    assert sorted(disk.files()) == sorted(other.files())
    for name in disk.files():
        assert disk.size(name) == other.size(name)
        assert disk.read(name, 0, 100) == other.read(name, 0, 100)
    disk.run((RemoveFile("c"),))
    assert disk.files() == ["c2"]
    with pytest.raises(DiskError):
        disk.read("c", 0, 1)
