"""Golden files as text, with what each byte is; and their copies in docs/design/formats-storage.md.

`python -m tests.storage.golden_files` writes them anew. That is right only as long as no release has written the old
ones: afterwards a changed format gets a new version and a new golden file, and the old file stays.
"""

import struct
from collections.abc import Iterator
from pathlib import Path

from d_engine.format.state import HardState, Quarantine
from d_engine.storage.identity import encode_identity
from d_engine.storage.quarantine import encode_quarantine
from d_engine.storage.records import RecordType, decode_frame
from d_engine.storage.segment import HEADER_BYTES, decode_segment_header
from d_engine.storage.snapshot_format import Section
from tests.storage.crash_disk import CrashDisk
from tests.storage.logs import Log, configuration_entry, entry, meta
from tests.storage.snapshots import Saving

FOLDER = Path(__file__).parent / "golden"
DOCUMENT = Path(__file__).parents[2] / "docs" / "design" / "formats-storage.md"
SEGMENT = "log-000000000001.wal"
SEGMENT_BYTES = 8192
IDENTITY = (3, 0x0123456789ABCDEF)

Field = tuple[int, str]
"""How many bytes, and what they are."""


def read_golden(name: str, size: int) -> bytes:
    """The bytes that the text describes; what it does not name is zero."""
    data = bytearray(size)
    for line in (FOLDER / name).read_text().splitlines():
        fields = line.partition("#")[0].split()
        if fields:
            part = bytes.fromhex("".join(fields[1:]))
            data[int(fields[0]) : int(fields[0]) + len(part)] = part
    return bytes(data)


def segment_of_now() -> bytes:
    """A segment that holds every type of record."""
    log = Log(CrashDisk(), SEGMENT_BYTES)
    log.wal.append(1, HardState(1, 1), [configuration_entry(1, 1, 1)])
    log.disk.settle()
    log.wal.append(2, None, [entry(2, 1, 16)])
    log.wal.compact(1)
    log.disk.settle()
    log.wal.reset(meta(5, 2))
    log.wal.append(3, HardState(3, 0), [entry(6, 3, 16)])
    log.disk.settle()
    return bytes(log.disk.names[SEGMENT].current)


def lines(offset: int, data: bytes, fields: list[Field]) -> Iterator[str]:
    """Offset, bytes, meaning."""
    for size, meaning in fields:
        for start in range(0, size, 16):
            part = data[start : min(start + 16, size)]
            text = f"{offset + start:5d}  {part.hex(' ')}"
            yield text if start else f"{text:<54}  # {meaning}"
        offset, data = offset + size, data[size:]


def describe_identity() -> str:
    fields = [
        (8, 'magic "DENGIDN\\n"'),
        (8, "version 1, length of the next two fields 16"),
        (8, f"node id {IDENTITY[0]}"),
        (8, f"incarnation {IDENTITY[1]:#018x}"),
        (4, "CRC32C of bytes 0..32"),
    ]
    return "\n".join(lines(0, encode_identity(*IDENTITY), fields)) + "\n"


QUARANTINE = (HardState(3, 2), Quarantine("entry 5 is damaged", 42, False))


def describe_quarantine() -> str:
    data = encode_quarantine(*QUARANTINE)
    fields = [
        (8, 'magic "DENGQUA\\n"'),
        (8, f"version 1, length of the record {len(data) - 20}"),
        (len(data) - 20, "term 3, vote 2, reason, held index 42, needs no snapshot: MessagePack"),
        (4, f"CRC32C of bytes 0..{len(data) - 4}"),
    ]
    return "\n".join(lines(0, data, fields)) + "\n"


def describe_segment() -> str:
    data = segment_of_now()
    fields = [
        (8, 'magic "DENGWAL\\n"'),
        (8, "version 1, length of the header 44"),
        (8, "number of the segment 1"),
        (8, "salt"),
        (8, f"size of the file {SEGMENT_BYTES}"),
        (4, "CRC32C of bytes 0..40"),
    ]
    text = list(lines(0, data, fields))
    salt = decode_segment_header(SEGMENT, data[:HEADER_BYTES]).salt
    offset = HEADER_BYTES
    while (frame := decode_frame(salt, offset, data, offset)) is not None:
        body = data[offset + 32 : offset + 32 + frame.length]
        text.append(f"# record {RecordType(frame.type).name}, write batch {frame.batch}")
        fields = [
            (8, f'magic "rec1", type {frame.type}, terms and votes {frame.hard_states}'),
            (8, f"length of the body {frame.length}, the batch begins at {frame.batch_start}"),
            (8, f"number of the write batch {frame.batch}"),
            (8, "CRC32C of the body, of the frame"),
        ]
        text += lines(offset, data[offset:], [*fields, *body_fields(RecordType(frame.type), body)])
        offset += 32 + frame.length
    return "\n".join(text) + "\n"


def snapshot_of_now() -> tuple[str, bytes]:
    """Name and bytes of a snapshot with something in every section."""
    disk = CrashDisk()
    content = (
        (Section.LOG_TIME, (6000).to_bytes(8, "little")),
        (Section.SESSIONS, b"sessions"),
        (Section.STATE, b"the state"),
        (Section.STATE, b", more of it"),
        (Section.DIGEST, bytes(range(16))),
    )
    file = Saving(disk, meta(5, 2), content).run()
    (name,) = disk.files()
    return name, bytes(disk.names[name].current) if file is not None else b""


def describe_snapshot() -> str:
    _, data = snapshot_of_now()
    version, length = struct.unpack_from("<II", data, 8)
    size, index, term, configuration = struct.unpack_from("<QQQI", data, 16)
    fields = [
        (8, 'magic "DENGSNP\\n"'),
        (8, f"version {version}, length of the header {length}"),
        (8, f"size of the file {size}"),
        (16, f"index {index}, term {term}"),
        (4, f"length of the configuration {configuration}"),
        (configuration, "configuration, MessagePack"),
        (32, f"SHA-256 of the chunks, then of bytes 0..{length - 36}"),
        (4, f"CRC32C of bytes 0..{length - 4}"),
    ]
    text = list(lines(0, data, fields))
    offset = length
    while offset < size:
        section, count = struct.unpack_from("<B3xI", data, offset)
        text.append(f"# chunk of section {Section(section).name}")
        fields = [
            (8, f"section {section}, length of the data {count}"),
            (4, "CRC32C of these 8 bytes and the data"),
            (count, "data"),
        ]
        text += lines(offset, data[offset:], fields)
        offset += 12 + count
    return "\n".join(text) + "\n"


def body_fields(kind: RecordType, body: bytes) -> list[Field]:
    if kind is RecordType.ENTRY:
        count, term, index, log_time = struct.unpack_from("<IQQQ", body, 4)
        return [
            (16, f"the entry: version {body[0]}, kind {body[1]}, groups {count}, term {term}"),
            (16, f"index {index}, log time {log_time}"),
            (8, "length of its payload, its CRC32C"),
            (len(body) - 40, "payload"),
        ]
    if kind in (RecordType.COMPACT, RecordType.RESET):
        return [(len(body), "the boundary, MessagePack")]
    term, vote = struct.unpack_from("<QI", body)
    fields = [(12, f"term {term}, vote {vote}")]
    if kind is RecordType.HEAD:
        fields.append((8, f"last index {struct.unpack_from('<Q', body, 12)[0]}, no boundary"))
    return fields


def write_anew() -> None:
    document = DOCUMENT.read_text()
    texts = {
        "identity-1.txt": describe_identity(),
        "segment-1.txt": describe_segment(),
        "snapshot-1.txt": describe_snapshot(),
        "quarantine-1.txt": describe_quarantine(),
    }
    for name, text in texts.items():
        document = document.replace((FOLDER / name).read_text(), text)
        (FOLDER / name).write_text(text)
    DOCUMENT.write_text(document)


if __name__ == "__main__":
    write_anew()
