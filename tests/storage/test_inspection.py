"""Looking at a data directory: all that is there is reported, all damage is named, nothing is changed."""

from itertools import pairwise

import pytest

from d_engine.format.state import HardState, Quarantine
from d_engine.storage.disk import DiskOperation
from d_engine.storage.identity import IDENTITY_NAME, load_identity
from d_engine.storage.inspection import DirectoryReport, Inspection
from d_engine.storage.quarantine import saving
from tests.storage.crash_disk import CrashDisk
from tests.storage.logs import Log, configuration, configuration_entry, entries, meta, recover, segments
from tests.storage.snapshots import save


def used_directory() -> CrashDisk:
    """An identity, a log of several segments, two snapshots."""
    disk = CrashDisk()
    load_identity(disk, 2, lambda bits: 0xABC)
    log = Log(disk)
    log.wal.append(1, HardState(4, 3), [configuration_entry(1, 1, 1, 2, 3)])
    disk.settle()
    for first in range(2, 32, 3):
        log.write(*entries(first, first + 2, 4, 700))
    save(disk, 10, 4)
    save(disk, 20, 4)
    return disk


def look(disk: CrashDisk) -> DirectoryReport:
    """The report; the disk is as it was before."""
    before = {name: bytes(file.current) for name, file in disk.names.items()}

    def refuse(operation: DiskOperation) -> None:
        raise AssertionError(f"{operation} during a look")

    disk.refuse = refuse
    try:
        return Inspection(disk).report
    finally:
        disk.refuse = lambda operation: None
        assert {name: bytes(file.current) for name, file in disk.names.items()} == before


def test_everything_is_reported() -> None:
    disk = used_directory()
    report = look(disk)
    assert (report.node_id, report.incarnation, report.damage) == (2, 0xABC, ())
    assert (report.log.first_index, report.log.last_index, report.log.last_term) == (1, 31, 4)
    assert report.log.hard_state == HardState(4, 3)
    assert [each.name for each in report.log.segments] == segments(disk)
    *used, spare = [(each.first_index, each.last_index) for each in report.log.segments]
    assert (used[0][0], used[-1][1], spare) == (1, 31, (0, -1))
    assert all(last + 1 == first for (_, last), (first, _) in pairwise(used))
    assert [each.meta.index for each in report.snapshots] == [20, 10]
    assert report.configuration == (1, configuration(1, 2, 3))


def test_a_snapshot_that_is_newer_than_the_log_tells_the_members() -> None:
    disk = used_directory()
    save(disk, 40, 4)
    assert look(disk).configuration == (40, meta(40).configuration)


def test_a_torn_tail_is_no_damage() -> None:
    disk = used_directory()
    *_, last, _ = look(disk).log.segments
    disk.names[last.name].write(last.end, b"torn")
    report = look(disk)
    assert (report.damage, report.log.torn_bytes) == ((), 4)
    assert recover(disk).last_index == 31


@pytest.mark.parametrize("number", range(3))
def test_damage_in_the_log_is_named_by_file_and_offset(number: int) -> None:
    disk = used_directory()
    name = segments(disk)[number]
    data = bytes(disk.names[name].current)
    record = data.index(b"rec1", 4096 + 64)
    disk.flip(name, record + 40)
    report = look(disk)
    assert len(report.damage) == 1
    assert report.damage[0].startswith(f"{name}, offset {record}: ")
    assert f"bytes from offset {record + 32}: they do not match their checksum" in report.damage[0]
    assert len(report.log.segments) == number + 1
    assert [each.meta.index for each in report.snapshots] == [20, 10]


def test_a_damaged_frame_is_told_from_a_damaged_body() -> None:
    disk = used_directory()
    name = segments(disk)[0]
    record = bytes(disk.names[name].current).index(b"rec1", 4096 + 64)
    disk.flip(name, record + 8)
    assert "its frame is missing or does not match" in look(disk).damage[0]


def test_each_damage_is_reported() -> None:
    disk = used_directory()
    disk.flip(IDENTITY_NAME, 20)
    disk.flip(segments(disk)[1], 4096 + 40)
    newest, oldest = sorted((name for name in disk.files() if name.endswith(".snp")), reverse=True)
    disk.flip(newest, len(disk.names[newest].current) - 1)
    report = look(disk)
    assert [text.split(",")[0].split(" ")[0] for text in report.damage] == [
        IDENTITY_NAME,
        segments(disk)[1],
        newest,
    ]
    assert report.node_id == 0
    assert [each.name for each in report.snapshots] == [oldest]


def test_what_is_missing_is_named() -> None:
    disk = used_directory()
    for name in segments(disk):
        del disk.names[name]
    del disk.names[IDENTITY_NAME]
    damage = look(disk).damage
    assert "identity is missing" in damage[0]
    assert "no log" in damage[1]


def test_a_log_that_no_snapshot_leads_up_to_is_damage() -> None:
    disk = CrashDisk()
    load_identity(disk, 2, lambda bits: 0xABC)
    log = Log(disk)
    save(disk, 12)
    log.wal.reset(meta(12))
    log.write(*entries(13, 14))
    assert look(disk).damage == ()
    (snapshot,) = (name for name in disk.files() if name.endswith(".snp"))
    disk.flip(snapshot, 100)
    assert "the log begins at 13, and no good snapshot" in look(disk).damage[-1]


def test_unfinished_and_foreign_files_are_listed() -> None:
    disk = used_directory()
    for name in ("snapshot-save.tmp", "homework.txt"):
        disk.names[name] = disk.names[IDENTITY_NAME].copy()
    assert look(disk).others == ("homework.txt", "snapshot-save.tmp")


def test_a_directory_in_quarantine_is_damaged() -> None:
    disk = used_directory()
    disk.run(saving(HardState(4, 3), Quarantine("its digest differs", 31, True)))
    report = look(disk)
    assert report.damage == ("quarantine: its digest differs",)
    assert report.quarantine is not None
    assert report.quarantine.quarantine == Quarantine("its digest differs", 31, True)
    disk.flip("quarantine", 20)
    assert "quarantine is damaged" in look(disk).damage[0]
    assert look(disk).quarantine is None


def test_the_newest_term_and_vote_may_be_in_the_record_of_a_quarantine() -> None:
    disk = used_directory()
    disk.run(saving(HardState(9, 1), Quarantine("a record is damaged", 31, False)))
    report = look(disk)
    assert (report.log.hard_state, report.hard_state) == (HardState(4, 3), HardState(9, 1))
