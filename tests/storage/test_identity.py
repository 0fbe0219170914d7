"""Whose data directory it is."""

from random import Random

import pytest

from d_engine.format.errors import CorruptionError, DataDirectoryError, DiskError, UnknownFormatError
from d_engine.storage.disk import DiskOperation
from d_engine.storage.identity import IDENTITY_NAME, load_identity
from tests.storage.crash_disk import CrashDisk, File


def load(disk: CrashDisk, node_id: int = 3, drawn: int = 0xABCDEF) -> int:
    return load_identity(disk, node_id, lambda bits: drawn if bits == 63 else -1)


def test_an_empty_directory_becomes_the_nodes_own() -> None:
    disk = CrashDisk()
    assert load(disk) == 0xABCDEF
    assert disk.files() == [IDENTITY_NAME]
    assert load(disk, drawn=5) == 0xABCDEF
    assert load(disk.crash(Random(1)), drawn=5) == 0xABCDEF


def test_an_identity_whose_name_was_not_synced_is_durable_before_it_is_used() -> None:
    disk = CrashDisk()
    load(disk)
    disk.durable_names.clear()
    assert load(disk) == 0xABCDEF
    assert IDENTITY_NAME in disk.durable_names


def test_the_incarnation_is_never_zero() -> None:
    assert load(CrashDisk(), drawn=0) == 1


def test_another_node_is_refused() -> None:
    disk = CrashDisk()
    load(disk)
    with pytest.raises(DataDirectoryError, match="belongs to node 3, this is node 4"):
        load(disk, 4)


@pytest.mark.parametrize("name", ["log-000000000001.wal", "snapshot-1", "homework.txt"])
def test_a_directory_with_other_files_and_no_identity_is_refused(name: str) -> None:
    disk = CrashDisk()
    disk.names[name] = File()
    with pytest.raises(DataDirectoryError, match=name):
        load(disk)
    assert disk.performed == []


def test_every_damage_is_noticed() -> None:
    disk = CrashDisk()
    load(disk)
    for place in (*range(8), *range(12, 36)):
        damaged = disk.copy()
        damaged.flip(IDENTITY_NAME, place)
        with pytest.raises(CorruptionError):
            load(damaged)
    for size in (0, 7, 35, 37):
        damaged = disk.copy()
        damaged.names[IDENTITY_NAME].resize(size)
        with pytest.raises(CorruptionError):
            load(damaged)


def test_a_later_version_is_refused_by_name() -> None:
    disk = CrashDisk()
    load(disk)
    disk.flip(IDENTITY_NAME, 8, 3)
    with pytest.raises(UnknownFormatError, match="identity has format version 2"):
        load(disk)


@pytest.mark.parametrize("limit", range(5))
def test_a_crash_at_any_step_leaves_an_empty_directory_or_an_identity(limit: int) -> None:
    for seed in range(20):
        disk = CrashDisk()
        performed = list[DiskOperation]()

        def refuse(operation: DiskOperation, performed: list[DiskOperation] = performed) -> DiskError | None:
            performed.append(operation)
            return DiskError("killed") if len(performed) > limit else None

        disk.refuse = refuse
        with pytest.raises(DiskError):
            load(disk)
        for survivor in (disk.crash(Random(seed)), disk.killed()):
            found = load(survivor, drawn=7)
            assert found in (0xABCDEF, 7)
            assert load(survivor.crash(Random(seed))) == found
