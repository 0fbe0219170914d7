"""Recovery: a torn tail is cut, and whatever had been synced is never given up."""

from collections.abc import Callable

import pytest

from d_engine.format.entry import Entry
from d_engine.format.errors import CorruptionError, DEngineError, DiskError, UnknownFormatError
from d_engine.format.state import HardState
from d_engine.storage.disk import Lane, SyncDirectory, SyncFile
from d_engine.storage.records import RecordType, count_hard_state, decode_frame, encode_frame
from d_engine.storage.recovery import Recovery
from d_engine.storage.segment import HEADER_BYTES, UNFINISHED_NAME, segment_salt
from tests.storage.crash_disk import CrashDisk
from tests.storage.logs import SEED, Log, entries, entry, recover, reopened, segments

FIRST = "log-000000000001.wal"


def synced_log() -> Log:
    """Three batches, one of them with several records, all durable."""
    log = Log(CrashDisk())
    log.wal.append(1, HardState(1, 2), entries(1, 2))
    log.disk.settle()
    log.seq = 1
    log.write(entry(3))
    log.write(*entries(4, 6))
    return log


def end_of_data(disk: CrashDisk, name: str) -> int:
    return len(disk.names[name].current.rstrip(b"\0"))


def with_data(disk: CrashDisk, name: str, change: Callable[[bytearray], None]) -> CrashDisk:
    damaged = disk.copy()
    change(damaged.names[name].current)
    return damaged.copy()


def last_batch() -> tuple[Log, int, int]:
    """A log whose last batch has four records, with the places where that batch begins and ends."""
    log = synced_log()
    start = end_of_data(log.disk, FIRST)
    log.wal.append(4, HardState(7, 1), entries(7, 9, term=7))
    log.disk.settle()
    return log, start, end_of_data(log.disk, FIRST)


def check_torn(disk: CrashDisk, rest: list[Entry]) -> None:
    """Everything before the last batch, and a beginning of it; and the log can be used."""
    log = Log(disk)
    found = log.all()
    assert found == [*entries(1, 6), *rest][: len(found)]
    assert len(found) >= 6
    assert log.recovered.hard_state in (HardState(1, 2), HardState(7, 1))
    if len(found) > 6:
        assert log.recovered.hard_state == HardState(7, 1)
    log.write(entry(len(found) + 1, 9))
    again = reopened(log.disk)
    assert again.all() == [*found, entry(len(found) + 1, 9)]


def test_a_tail_torn_at_any_byte_is_cut() -> None:
    log, start, end = last_batch()
    rest = entries(7, 9, term=7)
    for cut in range(start, end):

        def lose_rest(data: bytearray, cut: int = cut) -> None:
            data[cut:end] = bytes(end - cut)

        def lose_beginning(data: bytearray, cut: int = cut) -> None:
            data[start : cut + 1] = bytes(cut + 1 - start)

        check_torn(with_data(log.disk, FIRST, lose_rest), rest)
        check_torn(with_data(log.disk, FIRST, lose_beginning), rest)


def test_a_torn_tail_full_of_garbage_is_cut() -> None:
    log, start, end = last_batch()

    def scramble(data: bytearray) -> None:
        data[start + 5 : end + 2000] = bytes(value % 251 for value in range(end + 1995 - start))

    damaged = with_data(log.disk, FIRST, scramble)
    check_torn(damaged, [])
    assert end_of_data(damaged, FIRST) < end


def test_bytes_that_a_client_stored_are_not_taken_for_records() -> None:
    """A copy of the log's own later records, inside a command of a batch that was torn."""
    log, start, end = last_batch()
    forged = encode_frame(segment_salt(SEED, 1), end + 500, RecordType.HARD_STATE, 9, b"x", end + 500, 9)
    stolen = bytes(log.disk.names[FIRST].current[HEADER_BYTES:start])

    def plant(data: bytearray) -> None:
        data[start] ^= 1
        data[end : end + len(stolen)] = stolen
        data[end + 600 : end + 600 + len(forged)] = forged

    check_torn(with_data(log.disk, FIRST, plant), [])


def test_a_flipped_bit_in_any_synced_record_is_corruption() -> None:
    log, start, _ = last_batch()
    for place in range(HEADER_BYTES, start):
        damaged = log.disk.copy()
        damaged.flip(FIRST, place, 1 << place % 8)
        before = {name: bytes(file.current) for name, file in damaged.names.items()}
        with pytest.raises(CorruptionError, match=rf"{FIRST}, offset \d+"):
            recover(damaged)
        assert {name: bytes(file.current) for name, file in damaged.names.items()} == before


@pytest.mark.parametrize("lost", range(3))
def test_a_lost_batch_is_corruption(lost: int) -> None:
    """Zeroed as a whole, so that what stands before it looks like the end of the log."""
    log = Log(CrashDisk())
    ends = [HEADER_BYTES]
    for index in range(1, 5):
        log.write(entry(index))
        ends.append(end_of_data(log.disk, FIRST))

    def lose(data: bytearray) -> None:
        data[ends[lost] : ends[lost + 1]] = bytes(ends[lost + 1] - ends[lost])

    with pytest.raises(CorruptionError, match=rf"offset {ends[lost]}"):
        recover(with_data(log.disk, FIRST, lose))


def rolled_log() -> Log:
    log = Log(CrashDisk())
    log.wal.append(1, HardState(1, 1), [])
    log.disk.settle()
    log.seq = 1
    for index in range(1, 81):
        log.write(entry(index, size=100))
    assert len(segments(log.disk)) > 3
    return log


def test_damage_in_earlier_segments_is_corruption() -> None:
    log = rolled_log()
    last_used = max(name for name in segments(log.disk) if end_of_data(log.disk, name) > HEADER_BYTES)
    for name in segments(log.disk):
        if name >= last_used:
            continue
        for place in range(HEADER_BYTES, end_of_data(log.disk, name), 13):
            damaged = log.disk.copy()
            damaged.flip(name, place)
            with pytest.raises(CorruptionError, match=rf"{name}, offset \d+"):
                recover(damaged)


def without(disk: CrashDisk, name: str, start: int) -> CrashDisk:
    """Everything in the file from `start` on is lost, and does not look damaged."""

    def lose(data: bytearray) -> None:
        data[start:] = bytes(len(data) - start)

    return with_data(disk, name, lose)


def test_a_batch_lost_at_the_end_of_an_earlier_segment_is_noticed() -> None:
    log = rolled_log()
    _, name, following, *_ = segments(log.disk)
    start = log.disk.names[name].current.rindex(b"rec1")
    with pytest.raises(CorruptionError, match=f"{following}, offset {HEADER_BYTES}: write batch"):
        recover(without(log.disk, name, start))


def test_part_of_a_batch_lost_at_the_end_of_an_earlier_segment_is_noticed() -> None:
    """The number of the batch does not tell, but the next segment's first record knows how far the log went."""
    log = Log(CrashDisk())
    log.write(*entries(1, 30, size=250))
    name, following, *_ = segments(log.disk)
    start = log.disk.names[name].current.rindex(b"rec1")
    with pytest.raises(CorruptionError, match=f"{following} does not continue"):
        recover(without(log.disk, name, start))


def test_a_segment_that_lost_everything_is_corruption() -> None:
    log = rolled_log()
    for name in segments(log.disk)[:2]:
        with pytest.raises(CorruptionError, match=name):
            recover(without(log.disk, name, HEADER_BYTES))


def test_a_missing_segment_is_corruption() -> None:
    log = rolled_log()
    for name in segments(log.disk)[:-2]:
        damaged = log.disk.copy()
        del damaged.names[name]
        with pytest.raises(CorruptionError, match="missing"):
            recover(damaged)


def test_a_missing_segment_without_entries_behind_it_is_noticed() -> None:
    log = Log(CrashDisk())
    log.write(*entries(1, 20, size=150))
    for seq in range(2, 60):
        log.wal.append(seq, HardState(seq, 1), [])
        log.disk.settle()
    damaged = log.disk.copy()
    del damaged.names[segments(damaged)[0]]
    with pytest.raises(CorruptionError, match="missing"):
        recover(damaged)


@pytest.mark.parametrize("size", [0, 20, HEADER_BYTES, HEADER_BYTES + 100, 8191, 9000])
def test_a_segment_of_another_size_is_corruption(size: int) -> None:
    log = rolled_log()
    for name in segments(log.disk):
        damaged = log.disk.copy()
        file = damaged.names[name]
        file.current[size:] = bytes(max(size - len(file.current), 0))
        with pytest.raises(CorruptionError, match=name):
            recover(damaged)


def test_lengths_are_checked_before_anything_is_read() -> None:
    log, start, _ = last_batch()
    frame = bytearray(encode_frame(segment_salt(SEED, 1), start, RecordType.ENTRY, 1, b"", start, 4))
    frame[8:12] = (2**32 - 1).to_bytes(4, "little")

    def plant(data: bytearray) -> None:
        data[start:] = bytes(len(data) - start)
        data[start : start + len(frame)] = frame

    disk = with_data(log.disk, FIRST, plant)
    assert recover(disk).last_index == 6
    assert max(disk.asked) <= 2**20 + 100


# --- what a crash leaves between two steps ---------------------------------------------------------------------------


def test_every_step_of_making_a_segment_can_be_the_last() -> None:
    for limit in range(7):
        log = Log(CrashDisk())
        while not log.disk.queues[Lane.BACKGROUND]:
            log.append(entry(log.seq + 1, size=100))
            log.disk.step(Lane.LOG)
        count = log.seq
        log.disk.step(Lane.BACKGROUND, limit)
        again = reopened(log.disk)
        assert again.recovered.last_index == count
        assert UNFINISHED_NAME not in again.disk.files()
        again.write(*entries(count + 1, count + 60, size=100))
        assert reopened(again.disk).all() == entries(1, count + 60, size=100)


def test_every_step_of_the_first_start_can_be_the_last() -> None:
    for limit in range(6):
        disk = CrashDisk()
        performed = 0

        def refuse(operation: object, limit: int = limit) -> DEngineError | None:
            nonlocal performed
            performed += 1
            return DiskError("killed") if performed > limit else None

        disk.refuse = refuse
        with pytest.raises(DiskError):
            recover(disk)
        log = reopened(disk)
        log.write(entry(1))
        assert reopened(log.disk).all() == [entry(1)]


def test_a_segment_that_was_begun_and_torn_is_used_again() -> None:
    log = rolled_log()
    used = [name for name in segments(log.disk) if end_of_data(log.disk, name) > HEADER_BYTES]
    data = log.disk.names[used[-1]].current
    second = data.index(b"rec1", HEADER_BYTES + 4)
    batch = data.index(b"rec1", second + 4)
    lost = int.from_bytes(data[second + 72 : second + 76], "little")
    assert lost > 0

    def only_first_page(data: bytearray) -> None:
        data[HEADER_BYTES : batch - 1] = bytes(batch - 1 - HEADER_BYTES)
        data[batch:] = bytes(len(data) - batch)

    damaged = with_data(log.disk, used[-1], only_first_page)
    again = Log(damaged)
    count = again.recovered.last_index
    assert 0 < count < 80
    again.write(*entries(count + 1, count + 40, size=100))
    assert reopened(again.disk).all() == entries(1, count + 40, size=100)


def test_proof_of_damage_is_found_wherever_a_window_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    log = Log(CrashDisk())
    log.write(entry(1))
    log.write(entry(2))
    log.disk.flip(FIRST, HEADER_BYTES + 3)
    for window in range(33, 133):
        monkeypatch.setattr("d_engine.storage.reader.WINDOW_BYTES", window)
        monkeypatch.setattr("d_engine.storage.reader._ZEROS", bytes(window))
        with pytest.raises(
            CorruptionError, match=f"{FIRST}, offset {HEADER_BYTES}: .* record at offset 4240"
        ):
            recover(log.disk)


def test_recovery_changes_nothing_the_second_time() -> None:
    log, start, end = last_batch()

    def tear(data: bytearray) -> None:
        data[start + 40 : end] = bytes(end - start - 40)

    disk = with_data(log.disk, FIRST, tear)
    first = recover(disk)
    content = {name: bytes(file.current) for name, file in disk.names.items()}
    assert recover(disk) == first
    assert {name: bytes(file.current) for name, file in disk.names.items()} == content


def test_what_recovery_returns_is_durable_even_after_a_sync_that_failed() -> None:
    """The kernel then shows what it has not written, and calls it clean. So it must be written once more."""
    log = synced_log()
    log.disk.refuse = lambda operation: DiskError("planted") if isinstance(operation, SyncFile) else None
    log.append(*entries(7, 40, size=100))
    log.disk.settle()
    assert log.failures
    disk = log.disk.killed()
    found = recover(disk)
    assert found.last_index > 6
    for file in disk.names.values():
        assert file.durable == bytes(file.current)
    assert disk.performed[-1] == SyncDirectory()
    assert disk.durable_names == disk.names


# --- versions --------------------------------------------------------------------------------------------------------


def test_an_unknown_version_is_refused_by_name() -> None:
    log = synced_log()
    log.disk.flip(FIRST, 8, 3)
    with pytest.raises(UnknownFormatError, match=f"{FIRST} has format version 2"):
        recover(log.disk)


def test_a_damaged_header_is_corruption() -> None:
    log = rolled_log()
    for name in segments(log.disk):
        for place in (*range(8), *range(12, 44)):
            damaged = log.disk.copy()
            damaged.flip(name, place)
            with pytest.raises(CorruptionError, match=name):
                recover(damaged)


def test_a_segment_under_another_name_is_corruption() -> None:
    log = synced_log()
    log.disk.names["log-000000000002.wal"] = log.disk.copy().names[FIRST]
    with pytest.raises(CorruptionError, match=r"log-000000000002\.wal"):
        recover(log.disk)


def planted_record(kind: int, body: bytes, batch: int = 4, uncounted: int = 0) -> CrashDisk:
    """A record more; its count of terms and votes leaves out some."""
    log = synced_log()
    before = Recovery(log.disk)
    before.examine()
    end = end_of_data(log.disk, FIRST)
    count = count_hard_state(before.hard_states, kind) + uncounted
    frame = encode_frame(segment_salt(SEED, 1), end, kind, count, body, end, batch)  # type: ignore[arg-type]

    def plant(data: bytearray) -> None:
        data[end : end + len(frame) + len(body)] = frame + body

    return with_data(log.disk, FIRST, plant)


def test_an_unknown_type_of_record_is_refused() -> None:
    with pytest.raises(UnknownFormatError, match="unknown type 77"):
        recover(planted_record(77, b"later"))


def test_an_unknown_version_of_an_entry_is_refused() -> None:
    with pytest.raises(UnknownFormatError, match="entry has format version 9"):
        recover(planted_record(RecordType.ENTRY, b"\x09" + entry(7).data[1:]))


def test_a_gap_between_batches_is_corruption() -> None:
    with pytest.raises(CorruptionError, match="write batch 9"):
        recover(planted_record(RecordType.HARD_STATE, bytes(12), batch=9))


def test_a_term_and_vote_that_is_counted_and_not_there_is_corruption() -> None:
    assert recover(planted_record(RecordType.ENTRY, entry(7).data)).last_index == 7
    with pytest.raises(CorruptionError, match="of terms and votes"):
        recover(planted_record(RecordType.ENTRY, entry(7).data, uncounted=1))


def test_the_count_of_terms_and_votes_begins_anew_after_its_last() -> None:
    assert count_hard_state(2**24 - 1, RecordType.HARD_STATE) == 0
    frame = encode_frame(1, 0, RecordType.HARD_STATE, 2**24 - 1, b"", 0, 1)
    assert decode_frame(1, 0, frame) == (RecordType.HARD_STATE, 2**24 - 1, 0, 0, 1, 0)


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        (RecordType.ENTRY, entry(8).data),
        (RecordType.ENTRY, entry(7).data + b"x"),
        (RecordType.ENTRY, b""),
        (RecordType.HARD_STATE, b"short"),
        (RecordType.HARD_STATE, b"\xff" * 12),
        (RecordType.HEAD, bytes(20)),
        (RecordType.COMPACT, b"\xc1"),
        (RecordType.RESET, b""),
    ],
)
def test_a_valid_record_that_makes_no_sense_is_corruption(kind: RecordType, body: bytes) -> None:
    with pytest.raises(CorruptionError, match=rf"{FIRST}, offset \d+"):
        recover(planted_record(kind, body))
