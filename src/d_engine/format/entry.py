"""The log entry: one immutable `bytes` object from the proposal to the last peer's disk.

An entry is everything that was waiting when the leader's loop turned. It is framed once; the same bytes go to the
leader's log, over the wire, to the peers' logs, and are decoded once per node when they are applied.

Layout, little-endian, 40 bytes, then the payload::

    offset  size  field
         0     1  format version (1)
         1     1  kind (EntryKind)
         2     2  reserved, 0
         4     4  count of groups (or of commands) in the payload
         8     8  term
        16     8  index
        24     8  log time, nanoseconds (see docs/design/leases.md)
        32     4  payload length
        36     4  CRC32C of bytes 0..36 and the payload
"""

import struct
from collections.abc import Sequence
from enum import IntEnum

import crc32c
from msgspec import Struct

from d_engine.format.errors import MalformedError
from d_engine.format.ids import MAX_LOG_INDEX, MAX_TERM, MAX_U63, LogIndex, Nanoseconds, Term
from d_engine.format.limits import MAX_ENTRY_BYTES

ENTRY_VERSION = 1
_HEADER = struct.Struct("<BBHIQQQI")
_CRC = struct.Struct("<I")
ENTRY_HEADER_BYTES = _HEADER.size + _CRC.size


class EntryKind(IntEnum):
    """What an entry's payload is."""

    COMMANDS = 1
    """Groups of client commands (see `d_engine.format.group`)."""
    NOOP = 2
    """Empty: a new leader's first entry, which lets it commit what earlier terms left."""
    CONFIGURATION = 3
    """A `d_engine.format.configuration.Configuration`."""
    MARKER = 4
    """A place in the log at which replicas compare their digests."""
    TIMED = 5
    """Commands that the state machine asked for because log time had come (see `d_engine.format.state_machine`), each a
    4-byte length and its bytes; `count` of them. They belong to no session: the state machine applies none twice."""


_KINDS = {kind.value: kind for kind in EntryKind}


class Entry(Struct, frozen=True, gc=False):
    """One entry, with its encoded form. Build with `Entry.create` or `Entry.decode`, never directly."""

    kind: EntryKind
    term: Term
    index: LogIndex
    log_time: Nanoseconds
    count: int
    data: bytes

    @classmethod
    def create(
        cls,
        kind: EntryKind,
        term: Term,
        index: LogIndex,
        log_time: Nanoseconds,
        payload: Sequence[bytes] = (),
        count: int = 0,
    ) -> "Entry":
        """Frame the payload's parts as one entry."""
        body = b"".join(payload)
        header = _HEADER.pack(ENTRY_VERSION, kind, 0, count, term, index, log_time, len(body))
        crc = crc32c.crc32c(body, crc32c.crc32c(header))
        return cls(kind, term, index, log_time, count, b"".join((header, _CRC.pack(crc), body)))

    @classmethod
    def decode(cls, buffer: bytes | memoryview, offset: int = 0) -> "Entry":
        """Read and verify the entry at `offset`. Raises `MalformedError`; the text says what is wrong."""
        size = encoded_size(buffer, offset)
        data = bytes(buffer[offset : offset + size])
        if len(data) != size:
            raise MalformedError(f"an entry of {size} bytes has only {len(data)}")
        version, kind, reserved, count, term, index, log_time, _ = _HEADER.unpack_from(data)
        (crc,) = _CRC.unpack_from(data, _HEADER.size)
        body = memoryview(data)[ENTRY_HEADER_BYTES:]
        if crc32c.crc32c(body, crc32c.crc32c(memoryview(data)[: _HEADER.size])) != crc:
            raise MalformedError("an entry's checksum does not match its bytes")
        if version != ENTRY_VERSION:
            raise MalformedError(f"an entry has format version {version}; this release knows {ENTRY_VERSION}")
        if kind not in _KINDS or reserved != 0:
            raise MalformedError(f"an entry has the unknown kind {kind}")
        if not 0 < term <= MAX_TERM or not 0 < index <= MAX_LOG_INDEX or log_time > MAX_U63:
            raise MalformedError(
                f"an entry's term {term}, index {index} or log time {log_time} is out of range"
            )
        return cls(_KINDS[kind], term, index, log_time, count, data)

    @property
    def payload(self) -> memoryview:
        """What stands behind the header."""
        return memoryview(self.data)[ENTRY_HEADER_BYTES:]

    @property
    def checksum(self) -> int:
        """The entry's CRC32C."""
        value: int = _CRC.unpack_from(self.data, _HEADER.size)[0]
        return value

    @property
    def size(self) -> int:
        """Bytes, encoded."""
        return len(self.data)

    def __repr__(self) -> str:
        return f"Entry({self.index}@{self.term} {self.kind.name.lower()} {len(self.data)}B)"


def encoded_size(buffer: bytes | memoryview, offset: int = 0) -> int:
    """The whole size of the entry whose header stands at `offset`, checked against the limit."""
    if len(buffer) - offset < ENTRY_HEADER_BYTES:
        raise MalformedError("an entry's header is cut off")
    length: int = _HEADER.unpack_from(buffer, offset)[-1]
    if length > MAX_ENTRY_BYTES:
        raise MalformedError(f"an entry claims {length} bytes; the limit is {MAX_ENTRY_BYTES}")
    return ENTRY_HEADER_BYTES + length
