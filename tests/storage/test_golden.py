"""Files written by the first release stay readable, and are what docs/design/formats-storage.md shows."""

from d_engine.format.state import HardState
from d_engine.storage.identity import decode_identity
from d_engine.storage.quarantine import decode_quarantine, encode_quarantine
from d_engine.storage.snapshot_format import Section
from d_engine.storage.snapshots import verify
from d_engine.storage.wal import WalStorage
from tests.storage.crash_disk import CrashDisk, File
from tests.storage.golden_files import (
    DOCUMENT,
    FOLDER,
    IDENTITY,
    QUARANTINE,
    SEGMENT,
    SEGMENT_BYTES,
    describe_identity,
    describe_quarantine,
    describe_segment,
    describe_snapshot,
    read_golden,
    snapshot_of_now,
)
from tests.storage.logs import entry, meta


def test_files_are_written_as_they_were() -> None:
    assert describe_segment() == (FOLDER / "segment-1.txt").read_text()
    assert describe_identity() == (FOLDER / "identity-1.txt").read_text()
    assert describe_quarantine() == (FOLDER / "quarantine-1.txt").read_text()
    assert describe_snapshot() == (FOLDER / "snapshot-1.txt").read_text()


def test_a_segment_is_read_as_it_was() -> None:
    disk = CrashDisk()
    data = read_golden("segment-1.txt", SEGMENT_BYTES)
    disk.names[SEGMENT] = File(bytearray(data), data)
    log = WalStorage(disk, 1, SEGMENT_BYTES).recover()
    assert log.hard_state == HardState(3, 0)
    assert log.snapshot == meta(5, 2)
    assert log.tail == (entry(6, 3, 16),)


def test_an_identity_is_read_as_it_was() -> None:
    assert decode_identity(read_golden("identity-1.txt", 36)) == IDENTITY


def test_a_snapshot_is_read_as_it_was() -> None:
    name, now = snapshot_of_now()
    data = read_golden("snapshot-1.txt", len(now))
    disk = CrashDisk()
    disk.names[name] = File(bytearray(data), data)
    file = verify(disk, name)
    assert file.meta == meta(5, 2)
    assert b"".join(file.pieces(Section.STATE)) == b"the state, more of it"


def test_the_document_shows_the_golden_files() -> None:
    document = DOCUMENT.read_text()
    for path in sorted(FOLDER.glob("*.txt")):
        assert path.read_text() in document, path.name


def test_a_quarantine_is_read_as_it_was() -> None:
    data = read_golden("quarantine-1.txt", len(encode_quarantine(*QUARANTINE)))
    record = decode_quarantine(data)
    assert (record.hard_state, record.quarantine) == QUARANTINE
