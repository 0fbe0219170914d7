"""Snapshot files: what is written, what is believed, what is kept."""

import struct
from dataclasses import replace
from random import Random

import msgspec
import pytest

from d_engine.format.configuration import encode_configuration
from d_engine.format.errors import (
    CorruptionError,
    DiskError,
    DiskFullError,
    SnapshotError,
    UnknownFormatError,
)
from d_engine.storage.disk import DiskOperation, Lane, RenameFile, SyncDirectory, SyncFile, WriteFile
from d_engine.storage.snapshot_format import (
    MAX_CHUNK_BYTES,
    Digest,
    Section,
    decode_header,
    encode_chunks,
    header_bytes,
    whole_parts,
)
from d_engine.storage.snapshots import RECEIVING_NAME, SAVING_NAME, SnapshotFile, verify
from tests.storage.crash_disk import CrashDisk, File
from tests.storage.logs import meta
from tests.storage.snapshots import CONTENT, Saving, recovered, save, state_of

BIG = bytes(range(256)) * 1000


def forged(sections: list[tuple[int, bytes]], index: int = 3) -> CrashDisk:
    """A file with a right digest and right checksums, whatever its sections are."""
    digest, body = Digest(), b""
    for kind, data in sections:
        for part in encode_chunks(kind, data):  # type: ignore[arg-type]
            digest.update(part)
            body += part
    size = header_bytes(meta(index)) + len(body)
    header = digest.header(meta(index), size)
    disk = CrashDisk()
    disk.names["x"] = File(bytearray(header.encode() + body))
    return disk


def whole(disk: CrashDisk, name: str) -> bytes:
    return bytes(disk.names[name].current)


# --- the format ------------------------------------------------------------------------------------------------------


def test_what_is_written_is_read_back() -> None:
    disk = CrashDisk()
    file = save(disk, 7, 2, BIG)
    again = verify(disk, file.name)
    assert (again.meta, again.header) == (meta(7, 2), file.header)
    assert b"".join(again.pieces(Section.LOG_TIME)) == b"8 bytes."
    assert b"".join(again.pieces(Section.SESSIONS)) == b"two"
    assert state_of(again) == BIG
    assert max(map(len, again.pieces(Section.STATE))) <= MAX_CHUNK_BYTES


def test_equal_states_give_equal_files() -> None:
    one, other = CrashDisk(), CrashDisk()
    assert whole(one, save(one, 7).name) == whole(other, save(other, 7).name)


def test_an_empty_section_is_there() -> None:
    disk = CrashDisk()
    assert state_of(save(disk, 7, 1, b"")) == b""


def test_every_bit_counts() -> None:
    disk = CrashDisk()
    name = save(disk, 7).name
    for place in range(disk.size(name)):
        damaged = disk.copy()
        damaged.flip(name, place, 1 << place % 8)
        with pytest.raises((CorruptionError, UnknownFormatError), match="snapshot"):
            verify(damaged, name)


def test_every_missing_byte_counts() -> None:
    disk = CrashDisk()
    name = save(disk, 7).name
    data = whole(disk, name)
    for size in range(len(data)):
        disk.names[name] = File(bytearray(data[:size]))
        with pytest.raises(CorruptionError):
            verify(disk, name)
    disk.names[name] = File(bytearray(data + b"\0"))
    with pytest.raises(CorruptionError):
        verify(disk, name)


def test_a_configuration_that_another_release_encoded_is_kept_as_it_is() -> None:
    """Fields with defaults that come later make it longer; the file is none the worse for their absence."""
    disk = CrashDisk()
    data = whole(disk, save(disk, 7).name)
    header = decode_header("x", data)
    shorter = msgspec.msgpack.encode(
        list(msgspec.msgpack.decode(encode_configuration(header.configuration)))[:-1]
    )
    gone = len(encode_configuration(header.configuration)) - len(shorter)
    assert gone
    fields = struct.unpack_from("<8sIIQQQI", header.unsigned)
    unsigned = struct.pack(
        "<8sIIQQQI", *fields[:2], fields[2] - gone, fields[3] - gone, *fields[4:6], len(shorter)
    )
    digest = Digest()
    digest.update(data[header.length :])
    old = replace(header, unsigned=unsigned + shorter, digest=digest.finish(unsigned + shorter))
    disk.names["x"] = File(bytearray(old.encode() + data[header.length :]))
    file = verify(disk, "x")
    assert file.meta == meta(7)
    assert state_of(file) == b"the state"
    assert file.read(0, 1) == whole(disk, "x")[: file.header.length]


def test_an_unknown_version_is_refused_by_name() -> None:
    disk = CrashDisk()
    name = save(disk, 7).name
    disk.flip(name, 8, 3)
    with pytest.raises(UnknownFormatError, match=f"{name} has format version 2"):
        verify(disk, name)


def test_an_unknown_section_is_refused_by_name() -> None:
    disk = forged([*CONTENT, (77, b"from the future")])
    with pytest.raises(UnknownFormatError, match="77"):
        verify(disk, "x")


def test_a_missing_section_is_refused_by_name() -> None:
    with pytest.raises(CorruptionError, match="SESSIONS"):
        verify(forged([CONTENT[0], CONTENT[2]]), "x")


def test_sections_out_of_order_are_refused() -> None:
    with pytest.raises(CorruptionError, match="out of place"):
        verify(forged([CONTENT[1], CONTENT[0], CONTENT[2]]), "x")


def test_a_file_under_another_ones_name_is_refused() -> None:
    disk = CrashDisk()
    name = save(disk, 7).name
    other = name.replace("07-", "08-")
    disk.names[other] = disk.names[name]
    with pytest.raises(CorruptionError, match="the header is that of"):
        verify(disk, other)


@pytest.mark.parametrize(("offset", "value"), [(12, 2**32 - 1), (40, 2**32 - 1), (16, 2**63)])
def test_no_length_is_believed(offset: int, value: int) -> None:
    disk = CrashDisk()
    data = bytearray(whole(disk, save(disk, 7).name))
    size = 8 if value > 2**32 else 4
    data[offset : offset + size] = value.to_bytes(size, "little")
    with pytest.raises(CorruptionError):
        decode_header("x", bytes(data))
    chunk = bytearray(b"".join(encode_chunks(Section.STATE, b"data")))
    chunk[4:8] = (2**32 - 1).to_bytes(4, "little")
    with pytest.raises(CorruptionError, match="claims"):
        whole_parts("x", 1, memoryview(chunk))


def test_parts_are_cut_between_chunks() -> None:
    disk = CrashDisk()
    file = save(disk, 7, 1, BIG)
    parts, place = [], 0
    while place < file.header.size:
        parts.append(file.read(place, 1))
        place += len(parts[-1])
    assert b"".join(parts) == whole(disk, file.name)
    assert parts[0][:8] == b"DENGSNP\n"
    assert len(parts) == 1 + 3 + -(-len(BIG) // MAX_CHUNK_BYTES)
    assert file.read(0, 1 << 30)[: len(parts[0])] == parts[0]
    with pytest.raises(CorruptionError):
        file.read(place - 1, 100)


# --- writing ---------------------------------------------------------------------------------------------------------


def test_the_order_of_operations() -> None:
    disk = CrashDisk()
    name = save(disk, 7, 1, BIG).name
    last = [operation for operation in disk.performed if not isinstance(operation, WriteFile)]
    assert last[-3:] == [SyncFile(SAVING_NAME), RenameFile(SAVING_NAME, name), SyncDirectory()]


def test_much_is_synced_on_the_way() -> None:
    disk = CrashDisk()
    saving = Saving(disk, meta(7), CONTENT[:2])
    for _ in range(200):
        while not saving.writer.ready:
            disk.settle()
        saving.writer.add(Section.STATE, bytes(64 * 1024))
    saving.run()
    written = 0
    for operation in disk.performed:
        if isinstance(operation, WriteFile):
            written += sum(map(len, operation.parts))
        if isinstance(operation, SyncFile):
            written = 0
        assert written < 5 * 1024 * 1024


def test_a_writer_does_not_run_ahead_of_the_disk() -> None:
    saving = Saving(CrashDisk(), meta(7))
    added = 0
    while saving.writer.ready:
        saving.writer.add(Section.STATE, bytes(64 * 1024))
        added += 1
    assert added <= 16


def test_what_does_not_read_back_is_no_snapshot() -> None:
    disk = CrashDisk()
    saving = Saving(disk, meta(7))
    for _ in range(2):
        disk.settle()
        saving.writer.finish(1 << 20)
    disk.settle()
    disk.flip(SAVING_NAME, disk.size(SAVING_NAME) - 1)
    assert isinstance(saving.run(), SnapshotError)
    disk.settle()
    assert disk.files() == []


def test_a_full_disk_leaves_nothing_behind() -> None:
    disk = CrashDisk(capacity=100_000)
    error = Saving(disk, meta(7), (*CONTENT[:2], (Section.STATE, BIG), CONTENT[3])).run()
    assert isinstance(error, DiskFullError)
    disk.settle()
    assert disk.files() == []


@pytest.mark.parametrize("kind", [WriteFile, SyncFile, RenameFile, SyncDirectory])
def test_a_disk_that_fails_is_told(kind: type) -> None:
    disk = CrashDisk()

    def refuse(operation: DiskOperation) -> DiskError | None:
        return DiskError("it is broken") if isinstance(operation, kind) else None

    disk.refuse = refuse
    assert isinstance(Saving(disk, meta(7)).run(), DiskError)


# --- keeping ---------------------------------------------------------------------------------------------------------


def test_the_newest_two_are_kept() -> None:
    disk = CrashDisk()
    files, _ = recovered(disk)
    names = []
    for index in (3, 5, 9, 12):
        file = save(disk, index)
        names.append(file.name)
        disk.run(files.adopt(file))
    assert sorted(disk.files()) == names[-2:]
    assert [file.header.index for file in files.kept] == [12, 9]
    assert files.boundary == 9
    assert files.find(9, 1) is files.kept[1]
    assert files.find(9, 2) is None


def test_one_alone_is_no_reason_to_cut_the_log() -> None:
    files, _ = recovered(CrashDisk())
    files.adopt(save(CrashDisk(), 5))
    assert files.boundary == 0


def test_the_newest_is_restored_at_a_start() -> None:
    disk = CrashDisk()
    for index in (3, 5, 9):
        save(disk, index, 1, b"state %d" % index)
    files, restored = recovered(disk)
    assert restored == [b"state 9"]
    assert [file.header.index for file in files.kept] == [9, 5]


def test_a_bad_one_is_refused_by_name_and_the_older_restored() -> None:
    disk = CrashDisk()
    save(disk, 3, 1, b"state 3")
    bad = save(disk, 5).name
    disk.flip(bad, disk.size(bad) - 1)
    files, restored = recovered(disk)
    assert restored == [b"state 3"]
    assert len(files.refused) == 1
    assert bad in files.refused[0]
    newer = save(disk, 7)
    disk.run(files.adopt(newer))
    assert [file.header.index for file in files.kept] == [7, 3]
    assert bad not in disk.files()


def test_one_that_the_state_machine_does_not_take_is_refused() -> None:
    disk = CrashDisk()
    save(disk, 3, 1, b"state 3")
    save(disk, 5)
    files, restored = recovered(disk, unusable=(5,))
    assert restored == [b"state 3"]
    assert files.newest is not None
    assert files.newest.header.index == 3


def test_without_any_good_one_nothing_is_restored() -> None:
    disk = CrashDisk()
    for index in (3, 5):
        disk.flip(save(disk, index).name, 30)
    files, restored = recovered(disk)
    assert (files.kept, restored, len(files.refused)) == ([], [], 2)


def test_one_that_turns_bad_is_not_kept_any_more() -> None:
    disk = CrashDisk()
    files, _ = recovered(disk)
    file = save(disk, 3)
    files.adopt(file)
    files.refuse(file, SnapshotError("it is bad"))
    assert (files.newest, files.refused) == (None, ["it is bad"])


def test_stale_temporaries_go_and_what_was_being_received_stays() -> None:
    disk = CrashDisk()
    for name in (SAVING_NAME, RECEIVING_NAME):
        disk.names[name] = File(bytearray(b"half"))
    recovered(disk)
    assert disk.files() == [RECEIVING_NAME]


def test_a_crash_at_any_operation_leaves_the_old_or_the_new() -> None:
    """Power loss and kill, between any two operations of a save and of the removal of what is not kept any more."""
    total = _save_and_crash(None, Random(0)).performed
    for count in range(len(total) + 1):
        for seed in range(6):
            random = Random(seed)
            disk = _save_and_crash(count, random)
            survivor = disk.killed() if seed == 0 else disk.crash(random)
            files, restored = recovered(survivor)
            assert restored in ([b"old"], [b"new"]), (count, seed)
            assert files.refused == []
            done = [type(operation) for operation in disk.performed]
            if SyncDirectory in done:
                assert restored == [b"new"]
            _, again = recovered(survivor.crash(random))
            assert again == restored, "what was restored once may not vanish"


def _save_and_crash(count: int | None, random: Random) -> CrashDisk:
    before = CrashDisk()
    save(before, 3, 1, b"older")
    save(before, 5, 1, b"old")
    disk = before.copy()
    files, _ = recovered(disk)
    disk.performed.clear()
    saving = Saving(disk, meta(9), (*CONTENT[:2], (Section.STATE, b"new"), CONTENT[3]))
    for _ in range(20):
        if saving.done and isinstance(saving.done[0], SnapshotFile):
            disk.submit(Lane.BACKGROUND, files.adopt(saving.done[0]), lambda error: None)
            saving.done[0] = None
        queue = disk.queues[Lane.BACKGROUND]
        while queue:
            left = None if count is None else count - len(disk.performed)
            if left is not None and left < len(queue[0][0]):
                disk.step(Lane.BACKGROUND, max(left, 0))
                return disk
            disk.step(Lane.BACKGROUND)
        saving.writer.finish(1 << 20)
    return disk
