"""A disk without room: typed, told, and over by itself when room returns."""

import pytest

from d_engine.format.errors import DEngineError, DiskError, DiskFullError
from d_engine.format.state import HardState
from d_engine.storage.disk import DiskOperation, Lane, SyncFile, TruncateFile, WriteFile
from tests.storage.crash_disk import CrashDisk
from tests.storage.logs import SEGMENT_BYTES, Log, entries, entry, recover, reopened


def filled_log() -> Log:
    """No room for a second segment; half of the first is used."""
    log = Log(CrashDisk(capacity=SEGMENT_BYTES + 1000))
    while not log.full:
        log.write(entry(log.seq + 1, size=100))
    return log


def test_no_room_for_the_next_segment_is_told_while_the_present_one_has_room() -> None:
    log = filled_log()
    assert log.full == [True]
    assert log.wal.full
    log.wal.append(log.seq + 1, HardState(5, 2), [])
    log.disk.settle()
    assert recover(log.disk.killed()).hard_state == HardState(5, 2)


def test_room_is_found_by_the_next_append() -> None:
    log = filled_log()
    log.disk.capacity = None
    log.write(entry(log.seq + 1))
    assert log.full == [True, False]
    assert not log.wal.full


def test_room_is_found_without_an_append() -> None:
    log = filled_log()
    log.wal.retry()
    log.disk.settle()
    assert log.full == [True]
    log.disk.capacity = None
    log.wal.retry()
    log.disk.settle()
    assert log.full == [True, False]


def test_one_attempt_at_a_time() -> None:
    log = filled_log()
    for _ in range(5):
        log.wal.retry()
    assert sum(map(len, log.disk.queues.values())) == 1


def test_compaction_makes_room() -> None:
    log = Log(CrashDisk(capacity=3 * SEGMENT_BYTES))
    while not log.full:
        log.write(entry(log.seq + 1, size=100))
    log.wal.compact(log.seq)
    log.disk.settle()
    assert log.full == [True, False]


def test_what_does_not_fit_waits_for_room() -> None:
    log = filled_log()
    count = log.seq
    for index in range(count + 1, count + 61):
        log.append(entry(index, size=100))
        log.disk.settle()
    assert log.durable[-1] < log.seq
    assert log.wal.read(count + 60, 1) == [entry(count + 60, size=100)]
    log.disk.capacity = None
    log.wal.retry()
    log.disk.settle()
    assert log.durable[-1] == log.seq
    assert reopened(log.disk).all() == entries(1, count + 60, size=100)


def no_room_for_the_log(operation: DiskOperation) -> DEngineError | None:
    return DiskFullError("planted") if isinstance(operation, WriteFile) else None


def test_a_write_without_room_is_cut_back_before_anything_follows() -> None:
    log = Log(CrashDisk())
    log.wal.append(1, HardState(1, 1), entries(1, 3))
    log.disk.settle()
    log.seq = 1
    size = log.disk.size("log-000000000001.wal")
    log.disk.refuse = no_room_for_the_log
    start = len(log.disk.performed)
    log.append(*entries(3, 5, term=2))
    log.disk.settle()
    kinds = [type(operation) for operation in log.disk.performed[start:]]
    assert kinds == [WriteFile, TruncateFile, TruncateFile, SyncFile]
    assert log.durable == [1]
    assert log.full == [True]
    assert log.disk.size("log-000000000001.wal") == size
    assert recover(log.disk.copy()).last_index == 3

    log.disk.refuse = lambda operation: None
    log.write(entry(6, 2))
    assert log.full == [True, False]
    expected = [*entries(1, 2), *entries(3, 6, term=2)]
    assert log.all() == reopened(log.disk).all() == expected


def test_the_first_write_to_a_segment_can_be_cut_back_too() -> None:
    log = Log(CrashDisk())
    log.disk.refuse = no_room_for_the_log
    log.append(entry(1))
    log.disk.settle()
    assert log.full == [True]
    log.disk.refuse = lambda operation: None
    log.write(entry(2))
    assert reopened(log.disk).all() == entries(1, 2)


def test_no_segment_is_missing_while_the_first_write_waits_for_room() -> None:
    log = Log(CrashDisk())
    log.write(entry(1, size=3000))
    log.disk.refuse = lambda operation: (
        no_room_for_the_log(operation) if getattr(operation, "name", "").endswith(".wal") else None
    )
    log.append(entry(2, size=3000))
    for _ in range(20):
        log.wal.retry()
        assert log.disk.step(Lane.LOG) or log.disk.step(Lane.BACKGROUND)
        assert recover(log.disk.copy()).last_index == 1
    log.disk.refuse = lambda operation: None
    log.wal.retry()
    log.disk.settle()
    assert reopened(log.disk).all() == entries(1, 2, size=3000)


@pytest.mark.parametrize("operations", range(3))
def test_a_crash_while_the_first_write_to_a_segment_is_cut_back(operations: int) -> None:
    log = Log(CrashDisk())
    log.disk.refuse = no_room_for_the_log
    log.append(entry(1))
    log.disk.step(Lane.LOG)
    log.disk.step(Lane.LOG, operations)
    assert not any(isinstance(operation, TruncateFile) for operation in log.disk.performed)
    again = reopened(log.disk)
    again.write(entry(1, 2))
    assert reopened(again.disk).all() == [entry(1, 2)]


@pytest.mark.parametrize("operations", [0, 1, 2, 3])
def test_a_crash_while_a_write_is_cut_back(operations: int) -> None:
    log = Log(CrashDisk())
    log.write(*entries(1, 3))
    log.disk.refuse = no_room_for_the_log
    log.append(entry(4))
    log.disk.step(Lane.LOG)
    log.disk.step(Lane.LOG, operations)
    log.disk.refuse = lambda operation: None
    again = reopened(log.disk)
    assert again.all() == entries(1, 3)
    again.write(entry(4, 2))
    assert again.disk.size("log-000000000001.wal") == SEGMENT_BYTES
    assert reopened(again.disk).all() == [*entries(1, 3), entry(4, 2)]


def test_a_cut_that_fails_stops_the_log() -> None:
    log = Log(CrashDisk())

    def refuse(operation: DiskOperation) -> DEngineError | None:
        if isinstance(operation, TruncateFile):
            return DiskError("planted")
        return no_room_for_the_log(operation)

    log.write(entry(1))
    log.disk.refuse = refuse
    log.append(entry(2))
    log.disk.settle()
    assert [str(error) for error in log.failures] == ["planted"]


def test_a_new_directory_without_room_is_refused() -> None:
    with pytest.raises(DiskFullError):
        recover(CrashDisk(capacity=1000))
