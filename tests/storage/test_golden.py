"""Files written by the first release stay readable, and are what docs/design/formats-storage.md shows.

A golden file is text: an offset, up to 16 bytes in hex, and what they are. Bytes that it does not name are zero. When a
format changes, it gets a new version and a new golden file; these stay as they are.
"""

from pathlib import Path

from d_engine.format.state import HardState
from d_engine.storage.identity import decode_identity, encode_identity
from d_engine.storage.wal import WalStorage
from tests.storage.crash_disk import CrashDisk, File
from tests.storage.logs import Log, configuration, configuration_entry, entry, meta

FOLDER = Path(__file__).parent / "golden"
DOCUMENT = Path(__file__).parents[2] / "docs" / "design" / "formats-storage.md"
SEGMENT = "log-000000000001.wal"
SEGMENT_BYTES = 8192


def golden(name: str, size: int) -> bytes:
    data = bytearray(size)
    for line in (FOLDER / name).read_text().splitlines():
        fields = line.partition("#")[0].split()
        if fields:
            part = bytes.fromhex("".join(fields[1:]))
            data[int(fields[0]) : int(fields[0]) + len(part)] = part
    return bytes(data)


def written_now() -> CrashDisk:
    """What the golden segment holds: every type of record."""
    log = Log(CrashDisk(), SEGMENT_BYTES)
    log.wal.append(1, HardState(1, 1), [configuration_entry(1, 1, 1)])
    log.disk.settle()
    log.wal.append(2, None, [entry(2, 1, 16)])
    log.wal.compact(1)
    log.disk.settle()
    log.wal.reset(meta(5, 2))
    log.wal.append(3, HardState(3, 0), [entry(6, 3, 16)])
    log.disk.settle()
    return log.disk


def test_a_segment_is_written_as_it_was() -> None:
    assert bytes(written_now().names[SEGMENT].current) == golden("segment-1.txt", SEGMENT_BYTES)


def test_a_segment_is_read_as_it_was() -> None:
    disk = CrashDisk()
    data = golden("segment-1.txt", SEGMENT_BYTES)
    disk.names[SEGMENT] = File(bytearray(data), data)
    log = WalStorage(disk, 1, SEGMENT_BYTES).recover()
    assert log.hard_state == HardState(3, 0)
    assert log.snapshot == meta(5, 2)
    assert log.snapshot is not None
    assert log.snapshot.configuration == configuration(1, 2, 3)
    assert log.tail == (entry(6, 3, 16),)


def test_an_identity_is_what_it_was() -> None:
    data = golden("identity-1.txt", 36)
    assert decode_identity(data) == (3, 0x0123456789ABCDEF)
    assert encode_identity(3, 0x0123456789ABCDEF) == data


def test_the_document_shows_the_golden_files() -> None:
    document = DOCUMENT.read_text()
    for path in sorted(FOLDER.glob("*.txt")):
        assert path.read_text() in document, path.name
