"""The write-ahead log: what is handed over comes back, in groups, over segments."""

import pytest

from d_engine.format.entry import Entry, EntryKind
from d_engine.format.errors import ConfigError, CorruptionError, DEngineError, DiskError, InvariantViolation
from d_engine.format.limits import MAX_ENTRY_BYTES
from d_engine.format.state import HardState, TermRun
from d_engine.storage.disk import DiskOperation, Lane, RemoveFile, SyncDirectory, SyncFile, WriteFile
from d_engine.storage.wal import WalStorage
from tests.storage.crash_disk import CrashDisk
from tests.storage.logs import (
    SEED,
    Log,
    configuration,
    configuration_entry,
    entries,
    entry,
    meta,
    recover,
    reopened,
    segments,
)


@pytest.fixture(name="log")
def fresh_log() -> Log:
    return Log(CrashDisk())


def syncs(disk: CrashDisk) -> int:
    return sum(isinstance(operation, SyncFile) for operation in disk.performed)


def test_a_new_log_is_empty(log: Log) -> None:
    assert log.recovered.hard_state == HardState()
    assert (log.recovered.first_index, log.recovered.last_index, log.recovered.snapshot) == (1, 0, None)


def test_what_is_handed_over_comes_back(log: Log) -> None:
    log.wal.append(1, HardState(1, 2), entries(1, 2))
    assert log.durable == []
    log.disk.settle()
    log.wal.append(2, HardState(3, 0), [entry(3, 3)])
    log.disk.settle()
    assert log.durable == [1, 2]
    again = reopened(log.disk)
    assert again.recovered.hard_state == HardState(3, 0)
    assert again.recovered.tail == (*entries(1, 2), entry(3, 3))
    assert again.recovered.term_runs == (TermRun(1, 1), TermRun(3, 3))
    assert again.all() == log.all() == [*entries(1, 2), entry(3, 3)]


def test_nobody_is_called_back_from_within_append(log: Log) -> None:
    log.append(entry(1))
    log.append()
    assert log.durable == []
    log.disk.settle()
    log.append()
    assert log.durable == [1, 2]
    log.disk.settle()
    assert log.durable == [1, 2, 3]


def test_what_gathers_during_a_write_shares_one_sync() -> None:
    log = Log(CrashDisk(), 65536)
    before = syncs(log.disk)
    for index in range(1, 51):
        log.append(entry(index))
    assert log.disk.step(Lane.LOG)
    assert log.durable == [1]
    assert syncs(log.disk) == before + 1
    for index in range(51, 101):
        log.append(entry(index))
    assert log.disk.step(Lane.LOG)
    assert log.durable == [1, 50]
    assert log.disk.step(Lane.LOG)
    assert log.durable == [1, 50, 100]
    assert syncs(log.disk) == before + 3
    assert not log.disk.queues[Lane.LOG]


def test_the_next_write_is_under_way_before_anybody_hears_of_the_last() -> None:
    outstanding: list[int] = []
    disk = CrashDisk()
    wal = WalStorage(disk, SEED, 8192)
    wal.recover()
    wal.start(
        lambda seq: outstanding.append(len(disk.queues[Lane.LOG])), lambda error: None, lambda full: None
    )
    wal.append(1, None, [entry(1)])
    wal.append(2, None, [entry(2)])
    disk.settle()
    assert outstanding == [1, 0]


def test_entries_are_replaced(log: Log) -> None:
    log.write(*entries(1, 6))
    log.append(*entries(4, 5, term=2))
    expected = [*entries(1, 3), *entries(4, 5, term=2)]
    assert log.all() == expected
    log.disk.settle()
    assert log.all() == expected
    again = reopened(log.disk)
    assert again.all() == expected
    assert again.recovered.tail == tuple(expected)
    assert again.recovered.term_runs == (TermRun(1, 1), TermRun(4, 2))


def test_an_entry_is_replaced_while_it_is_being_written(log: Log) -> None:
    log.append(*entries(1, 3))
    log.append(*entries(2, 3, term=2))
    log.append(*entries(3, 4, term=3))
    expected = [entry(1), entry(2, 2), *entries(3, 4, term=3)]
    assert log.all() == expected
    assert log.disk.step(Lane.LOG)
    assert log.all() == expected
    log.disk.settle()
    assert log.all() == reopened(log.disk).all() == expected


def test_entries_are_cut_off_while_they_are_being_written(log: Log) -> None:
    log.append(*entries(1, 2))
    log.append(*entries(3, 6))
    log.append(entry(2, 2))
    assert log.all() == [entry(1), entry(2, 2)]
    while log.disk.step(Lane.LOG):
        assert log.all() == [entry(1), entry(2, 2)]


def test_replacing_reaches_back_over_segments(log: Log) -> None:
    log.write(*entries(1, 60, size=200))
    assert len(segments(log.disk)) > 3
    log.write(entry(2, 2))
    assert log.all() == reopened(log.disk).all() == [entry(1, size=200), entry(2, 2)]


def test_configurations_come_back_and_are_rolled_back(log: Log) -> None:
    log.write(configuration_entry(1, 1, 1), entry(2), configuration_entry(3, 1, 1, 2))
    found = reopened(log.disk).recovered.configurations
    assert found == ((1, configuration(1)), (3, configuration(1, 2)))
    log.write(entry(3, 2))
    assert reopened(log.disk).recovered.configurations == ((1, configuration(1)),)


def test_segments_are_rolled_and_the_next_one_is_made_ahead(log: Log) -> None:
    assert segments(log.disk) == ["log-000000000001.wal"]
    for index in range(1, 101):
        log.write(entry(index, size=100))
        assert len(segments(log.disk)) >= 2 or index < 12
    assert len(segments(log.disk)) > 4
    assert log.all() == reopened(log.disk).all() == entries(1, 100, size=100)


def test_a_new_log_begins_small_and_grows() -> None:
    log = Log(CrashDisk(), 2**26)
    for number in range(1, 5):
        size = log.disk.size(f"log-{number:012d}.wal")
        assert size == min(2**26, 2**20 * 4 ** (number - 1))
        while len(segments(log.disk)) == number and number < 4:
            log.write(entry(log.seq + 1, size=size // 3))


def test_a_write_waits_for_the_next_segment(log: Log) -> None:
    log.append(*entries(1, 40, size=200))
    while log.disk.step(Lane.LOG):
        pass
    assert log.durable == []
    assert log.all() == entries(1, 40, size=200)
    log.disk.settle()
    assert log.durable == [1]
    assert reopened(log.disk).all() == entries(1, 40, size=200)


@pytest.mark.parametrize("before", [0, 1, 30])
def test_an_entry_that_fits_no_segment_gets_a_larger_one(log: Log, before: int) -> None:
    expected = [*entries(1, before, size=100), entry(before + 1, size=50_000), entry(before + 2)]
    if before:
        log.write(*expected[:before])
    log.write(expected[before])
    log.write(expected[before + 1])
    assert log.all() == expected
    again = reopened(log.disk)
    assert again.all() == expected
    again.write(entry(before + 3))
    assert reopened(again.disk).recovered.last_index == before + 3


def test_a_large_entry_replaces_a_spare_segment_that_is_too_small(log: Log) -> None:
    while len(segments(log.disk)) == 1:
        log.write(entry(log.seq + 1, size=100))
    log.write(entry(log.seq + 1, size=50_000))
    assert len(segments(log.disk)) == 3
    log.write(entry(log.seq + 1))
    assert reopened(log.disk).recovered.last_index == log.seq


def test_reading_is_bounded(log: Log) -> None:
    log.write(*entries(1, 100, size=200))
    log.append(*entries(101, 110, size=200))
    assert log.wal.read(50, 1) == [entry(50, size=200)]
    assert 2 <= len(log.wal.read(50, 1000)) <= 5
    assert log.wal.read(95, 10**6) == entries(95, 110, size=200)
    assert list(log.wal.read(111, 1000)) == []


def test_the_recovered_tail_is_bounded(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("d_engine.storage.recovery.TAIL_BYTES", 1000)
    log.write(*entries(1, 40, size=200))
    again = reopened(log.disk)
    assert again.recovered.tail == tuple(entries(37, 40, size=200))
    assert again.all() == entries(1, 40, size=200)


def test_reading_notices_damage(log: Log) -> None:
    log.write(*entries(1, 3))
    data = log.disk.names["log-000000000001.wal"].current
    log.disk.flip("log-000000000001.wal", data.index(entry(2).data) + 50)
    assert log.wal.read(1, 1) == [entry(1)]
    with pytest.raises(CorruptionError, match=r"log-000000000001\.wal, offset \d+: entry 2"):
        log.wal.read(2, 1)


# --- compaction and installation -------------------------------------------------------------------------------------


def test_compaction_removes_whole_segments_and_keeps_what_they_said(log: Log) -> None:
    log.wal.append(1, HardState(5, 3), [configuration_entry(1, 5, 1, 2, 3)])
    log.seq = 1
    log.write(*entries(2, 100, term=5, size=100))
    before = segments(log.disk)
    log.wal.compact(60)
    log.disk.settle()
    after = segments(log.disk)
    assert after == before[-len(after) :]
    assert len(after) < len(before)
    again = reopened(log.disk)
    assert again.recovered.hard_state == HardState(5, 3)
    assert again.recovered.snapshot is not None
    assert (again.recovered.snapshot.index, again.recovered.snapshot.term) == (60, 5)
    assert again.recovered.snapshot.configuration == configuration(1, 2, 3)
    assert again.recovered.configurations == ()
    assert again.recovered.term_runs == (TermRun(61, 5),)
    assert again.all() == entries(61, 100, term=5, size=100)
    with pytest.raises(InvariantViolation):
        log.wal.read(60, 1)


def test_segments_go_one_at_a_time_each_durably(log: Log) -> None:
    log.write(*entries(1, 100, size=100))
    start = len(log.disk.performed)
    log.wal.compact(100)
    log.disk.settle()
    performed = log.disk.performed[start:]
    removals = [place for place, operation in enumerate(performed) if isinstance(operation, RemoveFile)]
    removed = [operation.name for operation in performed if isinstance(operation, RemoveFile)]
    assert len(removals) > 3
    assert removed == sorted(removed)
    assert all(isinstance(performed[place + 1], SyncDirectory) for place in removals)


def test_compaction_waits_until_it_is_durable(log: Log) -> None:
    log.write(*entries(1, 100, size=100))
    log.wal.compact(100)
    assert not log.disk.queues[Lane.BACKGROUND]


def test_compaction_of_everything_leaves_an_empty_log(log: Log) -> None:
    log.write(*entries(1, 100, term=2, size=100))
    log.wal.compact(100)
    log.disk.settle()
    again = reopened(log.disk)
    assert (again.recovered.first_index, again.recovered.last_index) == (101, 100)
    assert again.recovered.term_runs == ()
    again.write(entry(101, 2))
    assert reopened(again.disk).all() == [entry(101, 2)]


def test_compaction_while_entries_are_being_written(log: Log) -> None:
    log.append(*entries(1, 10))
    log.append(*entries(11, 20))
    log.wal.compact(15)
    log.wal.compact(15)
    assert log.wal.read(16, 10**6) == entries(16, 20)
    log.disk.settle()
    assert log.wal.read(16, 10**6) == entries(16, 20)
    assert reopened(log.disk).all() == entries(16, 20)


def test_a_boundary_at_the_last_compaction_is_known_without_entries(log: Log) -> None:
    log.write(*entries(1, 10, term=4))
    log.wal.compact(10)
    log.disk.settle()
    again = reopened(log.disk)
    again.wal.compact(10)
    assert not again.disk.queues[Lane.LOG]
    assert again.recovered.snapshot is not None
    assert again.recovered.snapshot.term == 4


def test_the_log_starts_anew_behind_an_installed_snapshot(log: Log) -> None:
    log.wal.append(1, HardState(2, 1), entries(1, 80, size=100))
    log.wal.reset(meta(1000, 2))
    log.wal.append(2, None, [entry(1001, 2)])
    log.disk.settle()
    assert log.durable == [2]
    again = reopened(log.disk)
    assert again.recovered.snapshot == meta(1000, 2)
    assert again.recovered.hard_state == HardState(2, 1)
    assert again.recovered.tail == (entry(1001, 2),)
    assert again.all() == [entry(1001, 2)]
    assert len(segments(log.disk)) <= 2


def test_the_log_starts_anew_behind_a_snapshot_that_is_older_than_its_end(log: Log) -> None:
    log.write(*entries(1, 20))
    log.wal.reset(meta(10, 2))
    log.disk.settle()
    again = reopened(log.disk)
    assert (again.recovered.first_index, again.recovered.last_index) == (11, 10)
    assert again.recovered.tail == ()
    assert again.all() == []


def test_a_reset_alone_is_written(log: Log) -> None:
    log.wal.reset(meta(50))
    log.disk.settle()
    assert recover(log.disk.killed()).snapshot == meta(50)


def test_removal_left_undone_by_a_crash_is_done_at_the_next_start(log: Log) -> None:
    log.write(*entries(1, 100, size=100))
    log.wal.compact(100)
    assert log.disk.step(Lane.LOG)
    again = reopened(log.disk)
    assert len(segments(again.disk)) > 3
    again.disk.settle()
    assert len(segments(again.disk)) <= 2
    assert reopened(again.disk).recovered.last_index == 100


# --- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [WriteFile, SyncFile])
def test_after_a_failure_nothing_is_written_any_more(log: Log, kind: type[DiskOperation]) -> None:
    log.write(entry(1))

    def refuse(operation: DiskOperation) -> DEngineError | None:
        return DiskError("planted") if isinstance(operation, kind) else None

    log.disk.refuse = refuse
    log.append(entry(2))
    log.append(entry(3))
    log.disk.settle()
    assert [str(error) for error in log.failures] == ["planted"]
    log.disk.refuse = lambda operation: None
    count = len(log.disk.performed)
    log.append(entry(4))
    log.wal.compact(1)
    log.wal.retry()
    log.disk.settle()
    assert len(log.disk.performed) == count
    assert log.durable == [1]
    assert len(log.failures) == 1


def test_a_failure_while_the_next_segment_is_made_stops_the_log(log: Log) -> None:
    log.disk.refuse = lambda operation: DiskError("planted") if operation == SyncDirectory() else None
    while not log.disk.queues[Lane.BACKGROUND]:
        log.append(entry(log.seq + 1, size=100))
        log.disk.step(Lane.LOG)
    log.disk.settle()
    assert [str(error) for error in log.failures] == ["planted"]


def test_a_closed_log_tells_nobody(log: Log) -> None:
    log.append(entry(1))
    log.wal.close()
    log.append(entry(2))
    log.disk.settle()
    assert log.durable == []
    assert log.failures == []
    assert reopened(log.disk).all() == [entry(1)]


def test_segments_have_limits() -> None:
    for size in (0, 8191, 2**30 + 1):
        with pytest.raises(ConfigError, match=str(size)):
            WalStorage(CrashDisk(), SEED, size)


def test_a_gap_is_refused(log: Log) -> None:
    log.append(entry(1))
    with pytest.raises(InvariantViolation):
        log.append(entry(3))


def test_entries_of_the_largest_size(log: Log) -> None:
    largest = Entry.create(EntryKind.COMMANDS, 1, 1, 1, (bytes(MAX_ENTRY_BYTES),), 1)
    log.write(largest)
    log.write(entry(2))
    assert reopened(log.disk).all() == [largest, entry(2)]
