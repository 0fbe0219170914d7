"""A real directory that is only looked at."""

import os
from pathlib import Path

import pytest

from d_engine.format.errors import DataDirectoryError, DataDirectoryLockedError, DiskError, InvariantViolation
from d_engine.runtime.disk import FileDisk
from d_engine.runtime.read_only_disk import ReadOnlyDisk
from d_engine.storage.disk import CreateFile, Disk, RemoveFile


def test_it_reads_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"0123456789")
    with ReadOnlyDisk(tmp_path) as opened:
        disk: Disk = opened
        assert disk.files() == ["a"]
        assert disk.size("a") == 10
        assert disk.read("a", 4, 100) == b"456789"
        with pytest.raises(DiskError, match="reading b"):
            disk.read("b", 0, 1)
        with pytest.raises(DiskError, match="looking at b"):
            disk.size("b")


def test_it_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    with ReadOnlyDisk(tmp_path) as disk, pytest.raises(InvariantViolation):
        disk.run((RemoveFile("a"), CreateFile("b", 1)))
    assert os.listdir(tmp_path) == ["a"]


def test_nobody_looks_while_somebody_writes_and_the_other_way_round(tmp_path: Path) -> None:
    writer = FileDisk(tmp_path, lambda call: None)
    with pytest.raises(DataDirectoryLockedError, match=f"the id {os.getpid()}"):
        ReadOnlyDisk(tmp_path)
    writer.close(5)
    with ReadOnlyDisk(tmp_path), ReadOnlyDisk(tmp_path), pytest.raises(DataDirectoryLockedError):
        FileDisk(tmp_path, lambda call: None)
    FileDisk(tmp_path, lambda call: None).close(5)


def test_a_directory_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataDirectoryError, match="nowhere"):
        ReadOnlyDisk(tmp_path / "nowhere")
