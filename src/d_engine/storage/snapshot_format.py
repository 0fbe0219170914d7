"""The bytes of a snapshot file, which are also what a snapshot is on the wire: it is sent as it is on disk.

A header, then chunks to the end of the file. Little-endian::

    header                                        each chunk
    offset  size  field                           offset  size  field
         0     8  magic "DENGSNP\\n"                   0     1  section (Section)
         8     4  format version (1)                  1     3  reserved, 0
        12     4  length of the header                4     4  length of the data, at most 65,536
        16     8  size of the file                    8     4  CRC32C of bytes 0..8 and the data
        24     8  index                              12        data
        32     8  term
        40     4  length of the configuration
        44        configuration, MessagePack
        ..    32  SHA-256 of all chunks, then of the header up to here
        ..     4  CRC32C of the header up to here

A section is the data of its chunks, one behind the other; sections stand in the order of their numbers, each with at
least one chunk. Equal states give equal files, whichever node wrote them: so a transfer that one node began can be
continued by another.

Each checksum has its own use. The digest says that the whole is what was written. A chunk's says so of a part, before
the rest is there: of what a sender reads, of what a receiver has had before it was restarted.
"""

import hashlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum

import crc32c

from d_engine.format.configuration import Configuration, decode_configuration, encode_configuration
from d_engine.format.errors import CorruptionError, MalformedError, UnknownFormatError
from d_engine.format.ids import MAX_LOG_INDEX, MAX_TERM, MAX_U63, LogIndex, Term
from d_engine.format.messages import SnapshotMeta

SNAPSHOT_MAGIC = b"DENGSNP\n"
SNAPSHOT_VERSION = 1
DIGEST_BYTES = 32
MAX_CHUNK_BYTES = 64 * 1024
MAX_HEADER_BYTES = 64 * 1024
"""More than the configuration of a cluster with as many members as there may be."""

_FIXED = struct.Struct("<8sIIQQQI")
_PREFIX = struct.Struct("<8sII")
_CHUNK = struct.Struct("<B3xI")
_CRC = struct.Struct("<I")
CHUNK_HEAD_BYTES = _CHUNK.size + _CRC.size
_TRAILER_BYTES = DIGEST_BYTES + _CRC.size


class Section(IntEnum):
    """What the data is of. A reader that does not know a section must not guess what it means: it refuses the file."""

    LOG_TIME = 1
    """The highest log time applied, 8 bytes."""
    SESSIONS = 2
    """The session table (`d_engine.replica.session_codec`)."""
    STATE = 3
    """Whatever the state machine wrote."""
    DIGEST = 4
    """The rolling digest of all that was applied, 16 bytes (`d_engine.replica.digest`)."""


SECTIONS = {section.value: section for section in Section}


@dataclass(frozen=True, slots=True)
class SnapshotHeader:
    """What a file says of itself. `digest` names its content: two files with the same one are the same. `unsigned` is
    the header up to there as it stands in the file, which another release may have encoded otherwise."""

    size: int
    index: LogIndex
    term: Term
    configuration: Configuration
    digest: bytes
    unsigned: bytes

    @property
    def meta(self) -> SnapshotMeta:
        """What the snapshot stands for."""
        return SnapshotMeta(self.index, self.term, self.configuration)

    @property
    def length(self) -> int:
        """Bytes of the header: the first chunk follows."""
        return len(self.unsigned) + _TRAILER_BYTES

    def encode(self) -> bytes:
        """The header."""
        part = self.unsigned + self.digest
        return part + _CRC.pack(crc32c.crc32c(part))


def header_bytes(meta: SnapshotMeta) -> int:
    """How long the header of a snapshot of this is."""
    return _FIXED.size + len(encode_configuration(meta.configuration)) + _TRAILER_BYTES


def encode_unsigned(meta: SnapshotMeta, size: int) -> bytes:
    """The header up to the digest: what the digest covers of it."""
    configuration = encode_configuration(meta.configuration)
    length = _FIXED.size + len(configuration) + _TRAILER_BYTES
    fields = (length, size, meta.index, meta.term, len(configuration))
    return _FIXED.pack(SNAPSHOT_MAGIC, SNAPSHOT_VERSION, *fields) + configuration


def decode_header(name: str, data: bytes | memoryview) -> SnapshotHeader:
    """The header at the beginning of `data`. Raises `CorruptionError`, or `UnknownFormatError` for another version."""
    if len(data) < _FIXED.size or bytes(data[:8]) != SNAPSHOT_MAGIC:
        raise CorruptionError(f"{name}, offset 0: this is not the header of a snapshot")
    _, version, length, size, index, term, configuration_bytes = _FIXED.unpack_from(data)
    if version != SNAPSHOT_VERSION:
        raise UnknownFormatError(
            f"{name} has format version {version}; this release knows version {SNAPSHOT_VERSION}"
        )
    crc_at = length - _CRC.size
    whole = _FIXED.size + configuration_bytes + _TRAILER_BYTES == length <= min(len(data), MAX_HEADER_BYTES)
    if not whole or _CRC.unpack_from(data, crc_at)[0] != crc32c.crc32c(data[:crc_at]):
        raise CorruptionError(f"{name}, offset 0: the header's checksum does not match its bytes")
    if not 0 < index <= MAX_LOG_INDEX or term > MAX_TERM or not length <= size <= MAX_U63:
        raise CorruptionError(f"{name}, offset 16: size {size}, index {index} or term {term} is out of range")
    try:
        configuration = decode_configuration(data[_FIXED.size : _FIXED.size + configuration_bytes])
    except MalformedError as error:
        raise CorruptionError(f"{name}, offset {_FIXED.size}: {error}") from error
    digest_at = crc_at - DIGEST_BYTES
    digest, unsigned = bytes(data[digest_at:crc_at]), bytes(data[:digest_at])
    return SnapshotHeader(size, index, term, configuration, digest, unsigned)


def header_length(data: bytes | memoryview) -> int | None:
    """How long the header that begins here claims to be; None if that cannot be said of these bytes."""
    if len(data) < _PREFIX.size or bytes(data[:8]) != SNAPSHOT_MAGIC:
        return None
    length = int(_PREFIX.unpack_from(data)[2])
    return length if length <= MAX_HEADER_BYTES else None


def encode_chunks(section: Section, data: bytes) -> Iterator[bytes]:
    """The data as chunks of this section, in parts to be written one behind the other; no data is one empty chunk."""
    view = memoryview(data)
    for start in range(0, max(len(data), 1), MAX_CHUNK_BYTES):
        part = data if len(data) <= MAX_CHUNK_BYTES else bytes(view[start : start + MAX_CHUNK_BYTES])
        head = _CHUNK.pack(section, len(part))
        yield head + _CRC.pack(crc32c.crc32c(part, crc32c.crc32c(head)))
        yield part


def decode_chunk(name: str, place: int, data: memoryview, offset: int) -> tuple[Section, memoryview] | None:
    """The chunk in `data` at `offset`, which is `place` in the file; None if not all of it is there. Raises
    `CorruptionError`, or `UnknownFormatError` for an unknown section."""
    start = offset + CHUNK_HEAD_BYTES
    if start > len(data):
        return None
    kind, length = _CHUNK.unpack_from(data, offset)
    if length > MAX_CHUNK_BYTES:
        raise CorruptionError(f"{name}, offset {place}: a chunk claims {length} bytes")
    if start + length > len(data):
        return None
    (expected,) = _CRC.unpack_from(data, offset + _CHUNK.size)
    head = data[offset : offset + _CHUNK.size]
    content = data[start : start + length]
    if crc32c.crc32c(content, crc32c.crc32c(head)) != expected:
        raise CorruptionError(f"{name}, offset {place}: a chunk's checksum does not match its bytes")
    section = SECTIONS.get(kind)
    if section is None:
        raise UnknownFormatError(
            f"{name}, offset {place}: the snapshot has a section of the unknown type {kind}"
        )
    return section, content


def whole_parts(name: str, place: int, data: memoryview, limit: int = MAX_U63) -> int:
    """How many bytes of `data`, which stands at `place` of the file (0, or where a chunk begins), are whole: the
    header, and chunks, up to about `limit`, or to where damage begins. Raises like the decoders if that is at once."""
    end = 0
    if place == 0:
        length = header_length(data)
        if length is None:
            raise CorruptionError(f"{name}, offset 0: this is not the header of a snapshot")
        if length > len(data):
            return 0
        decode_header(name, data)
        end = length
    try:
        while end < limit and (chunk := decode_chunk(name, place + end, data, end)) is not None:
            end += CHUNK_HEAD_BYTES + len(chunk[1])
    except (CorruptionError, UnknownFormatError):
        if not end:
            raise
    return end


class Digest:
    """The digest of a snapshot, as its chunks go by."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self.update = self._hash.update

    def finish(self, unsigned: bytes) -> bytes:
        """Behind the last chunk; of the header, what comes before the digest."""
        self._hash.update(unsigned)
        return self._hash.digest()

    def header(self, meta: SnapshotMeta, size: int) -> SnapshotHeader:
        """The header of a new file of these chunks."""
        unsigned = encode_unsigned(meta, size)
        return SnapshotHeader(
            size, meta.index, meta.term, meta.configuration, self.finish(unsigned), unsigned
        )
