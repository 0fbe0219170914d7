"""Names and files over power loss (scenario 30), and operations that fail (scenarios 26 and 27)."""

from random import Random

import pytest

from d_engine.format.errors import DiskError, DiskFullError
from d_engine.storage.disk import (
    CreateFile,
    DiskOperation,
    RemoveFile,
    RenameFile,
    SyncDirectory,
    SyncFile,
    WriteFile,
)
from d_engine.testing.sim.directory import DataDirectory
from d_engine.testing.sim.trace import Trace


def directory(seed: int, *operations: DiskOperation) -> DataDirectory:
    made = DataDirectory(Random(seed), Trace())
    for operation in operations:
        made.perform(operation)
    return made


def names_after_power_loss(*operations: DiskOperation) -> set[tuple[str, ...]]:
    found = set()
    for seed in range(60):
        made = directory(seed, *operations)
        made.lose_power()
        found.add(tuple(made.files()))
    return found


def test_a_created_name_needs_the_directory_synced() -> None:
    assert names_after_power_loss(CreateFile("a", 10)) == {(), ("a",)}
    assert names_after_power_loss(CreateFile("a", 10), SyncDirectory()) == {("a",)}


def test_a_renamed_file_has_the_old_or_the_new_name() -> None:
    before = (CreateFile("a", 10), SyncDirectory(), RenameFile("a", "b"))
    assert names_after_power_loss(*before) == {("a",), ("b",)}
    assert names_after_power_loss(*before, SyncDirectory()) == {("b",)}


def test_a_removed_file_may_come_back() -> None:
    assert names_after_power_loss(CreateFile("a", 10), SyncDirectory(), RemoveFile("a")) == {(), ("a",)}


def test_a_sync_fails_once() -> None:
    made = directory(1, CreateFile("a", 10), SyncDirectory(), WriteFile("a", 0, (b"new",)))
    made.trouble.fail_syncs = 1
    with pytest.raises(DiskError):
        made.perform(SyncFile("a"))
    made.perform(SyncFile("a"))
    assert made.read("a", 0, 3) == b"new"
    made.lose_power()
    assert made.read("a", 0, 3) == bytes(3)


def test_a_full_disk_writes_only_where_there_is_room() -> None:
    made = directory(1, CreateFile("a", 10))
    made.trouble.full = True
    made.perform(WriteFile("a", 0, (b"0123456789",)))
    with pytest.raises(DiskFullError):
        made.perform(WriteFile("a", 8, (b"abcd",)))
    assert made.size("a") <= 10
    made.trouble.copy_on_write = True
    with pytest.raises(DiskFullError):
        made.perform(WriteFile("a", 0, (b"0",)))


def test_rot_spares_what_was_written_last() -> None:
    made = directory(1, CreateFile("a", 10_000), WriteFile("a", 0, (b"x" * 100,)), SyncFile("a"))
    assert made.rot(1) == ""
    made.perform(WriteFile("a", 100, (b"y" * 100,)))
    made.perform(SyncFile("a"))
    assert made.rot(3) == "a"
    assert made.read("a", 0, 100) != b"x" * 100
    assert made.read("a", 100, 100) == b"y" * 100


@pytest.mark.parametrize("seed", range(20))
def test_what_was_synced_last_may_be_the_last_again_when_power_is_lost(seed: int) -> None:
    made = directory(seed, CreateFile("a", 10_000), WriteFile("a", 0, (b"x" * 100,)), SyncFile("a"))
    for operation in (WriteFile("a", 100, (b"y" * 100,)), SyncFile("a"), SyncDirectory()):
        made.perform(operation)
    made.perform(WriteFile("a", 200, (b"z" * 100,)))
    made.lose_power()
    made.rot(30)
    assert made.read("a", 100, 100) == b"y" * 100
