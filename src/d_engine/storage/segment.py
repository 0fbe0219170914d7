"""Segments: the files of the write-ahead log, and where in them each entry stands.

A segment is filled with zeros and given its header under a temporary name, synced, renamed, and the directory synced,
before anything is written to it. So a file that bears a segment's name is complete, records are only ever written
over zeros, and what follows the last record is zeros. The header has a page of its own, which no later write touches.

The header, little-endian, 44 bytes, then zeros up to 4,096::

    offset  size  field
         0     8  magic "DENGWAL\\n"
         8     4  format version (1)
        12     4  length of the header (44)
        16     8  the segment's number, from 1, rising by one
        24     8  salt of its records' checksums
        32     8  size of the file
        40     4  CRC32C of bytes 0..40
"""

import hashlib
import re
import struct
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import crc32c

from d_engine.format.errors import CorruptionError, InvariantViolation, UnknownFormatError, check
from d_engine.format.ids import LogIndex
from d_engine.storage.disk import (
    CreateFile,
    DiskOperation,
    RemoveFile,
    RenameFile,
    SyncDirectory,
    SyncFile,
    WriteFile,
)

SEGMENT_MAGIC = b"DENGWAL\n"
SEGMENT_VERSION = 1
HEADER_BYTES = 4096
MIN_SEGMENT_BYTES = 2 * HEADER_BYTES
MAX_SEGMENT_BYTES = 2**30
UNFINISHED_NAME = "log-next.tmp"
_HEADER = struct.Struct("<8sIIQQQ")
_CRC = struct.Struct("<I")
_NAME = re.compile(r"log-(\d{12})\.wal")


def segment_name(number: int) -> str:
    """The file's name."""
    return f"log-{number:012d}.wal"


def segment_number(name: str) -> int | None:
    """The number in a segment's file name; None for other files."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else None


def segment_salt(seed: int, number: int) -> int:
    """Not to be guessed without the seed, which each data directory draws for itself."""
    key = seed.to_bytes(8, "little")
    digest = hashlib.blake2b(number.to_bytes(8, "little"), digest_size=8, key=key).digest()
    return int.from_bytes(digest, "little")


@dataclass(slots=True)
class Segment:
    """One file, with the places of the entries that live in it: `first_index` and those behind it."""

    number: int
    salt: int
    size: int
    end: int = HEADER_BYTES
    first_index: LogIndex = 0
    offsets: "array[int]" = field(default_factory=lambda: array("I"))

    @property
    def name(self) -> str:
        """The file's name."""
        return segment_name(self.number)

    @property
    def empty(self) -> bool:
        """True until the first record."""
        return self.end == HEADER_BYTES

    def abandon(self) -> None:
        """It has no room for anything; another of its number will take its place."""
        self.size = HEADER_BYTES


def encode_segment_header(segment: Segment) -> bytes:
    """What stands at the beginning of the file."""
    header = _HEADER.pack(
        SEGMENT_MAGIC,
        SEGMENT_VERSION,
        _HEADER.size + _CRC.size,
        segment.number,
        segment.salt,
        segment.size,
    )
    return header + _CRC.pack(crc32c.crc32c(header))


def decode_segment_header(name: str, data: bytes) -> Segment:
    """Raises `UnknownFormatError` for another version, `CorruptionError` for anything else that is wrong."""
    size = _HEADER.size + _CRC.size
    if len(data) < size or data[:8] != SEGMENT_MAGIC:
        raise CorruptionError(f"{name}, offset 0: this is not the header of a log segment")
    _, version, length, number, salt, file_size = _HEADER.unpack_from(data)
    if version != SEGMENT_VERSION:
        raise UnknownFormatError(
            f"{name} has format version {version}; this release knows version {SEGMENT_VERSION}"
        )
    (crc,) = _CRC.unpack_from(data, _HEADER.size)
    if length != size or crc32c.crc32c(data[: _HEADER.size]) != crc:
        raise CorruptionError(f"{name}, offset 0: the header's checksum does not match its bytes")
    if segment_name(number) != name:
        raise CorruptionError(f"{name}, offset 16: the header is that of {segment_name(number)}")
    return Segment(number, salt, file_size)


def creation(segment: Segment) -> Sequence[DiskOperation]:
    """The operations after which the file exists, complete and durable. It replaces an unused one of its name."""
    return (
        RemoveFile(UNFINISHED_NAME),
        CreateFile(UNFINISHED_NAME, segment.size),
        WriteFile(UNFINISHED_NAME, 0, (encode_segment_header(segment),)),
        SyncFile(UNFINISHED_NAME),
        RenameFile(UNFINISHED_NAME, segment.name),
        SyncDirectory(),
    )


class Segments:
    """The segments in use, oldest first, and the places of all live entries. The newest one is being written."""

    def __init__(self) -> None:
        self._segments: list[Segment] = []

    @property
    def active(self) -> Segment:
        """The one that is being written."""
        return self._segments[-1]

    def __bool__(self) -> bool:
        return bool(self._segments)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self._segments)

    def begin(self, segment: Segment) -> None:
        """From now on this one is written. It takes the place of the active one if that is still empty."""
        if self._segments and self.active.empty:
            self._segments.pop()
        check(
            not self._segments or segment.number == self.active.number + 1,
            f"{segment.name} does not follow the active segment",
        )
        self._segments.append(segment)

    def place(self, index: LogIndex, offset: int) -> None:
        """The entry stands in the active segment at `offset`; it replaces those of its and higher index."""
        self.cut(index)
        active = self.active
        if not active.offsets:
            active.first_index = index
        if index != active.first_index + len(active.offsets):
            raise InvariantViolation(f"entry {index} leaves a gap in {active.name}")
        active.offsets.append(offset)

    def cut(self, index: LogIndex) -> None:
        """Entries from `index` on live no more."""
        for segment in reversed(self._segments):
            keep = index - segment.first_index
            if segment.offsets and keep >= len(segment.offsets):
                return
            del segment.offsets[max(keep, 0) :]

    def drop(self, index: LogIndex) -> None:
        """Entries up to `index` live no more."""
        for segment in self._segments:
            gone = index + 1 - segment.first_index
            if segment.offsets and gone <= 0:
                return
            del segment.offsets[: max(gone, 0)]
            segment.first_index = index + 1

    def find(self, index: LogIndex) -> Segment:
        """The segment in which the entry lives."""
        for segment in reversed(self._segments):
            place = index - segment.first_index
            if 0 <= place < len(segment.offsets):
                return segment
        raise InvariantViolation(f"entry {index} lives in no segment")

    @property
    def dispensable(self) -> Segment | None:
        """The oldest segment, if nothing lives in it and it is not the active one."""
        oldest = self._segments[0]
        return None if oldest is self.active or oldest.offsets else oldest

    def forget(self, segment: Segment) -> None:
        """The oldest segment's file is gone."""
        check(
            self._segments[0] is segment and len(self._segments) > 1, f"{segment.name} cannot be removed now"
        )
        del self._segments[0]
