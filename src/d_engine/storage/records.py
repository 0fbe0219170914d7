"""Records: what the write-ahead log consists of.

A record is a frame and a body. The frame carries its own checksum, so that a length is trusted, and a batch known,
even where the body was damaged. Both checksums depend on the segment's salt and on the record's place in the file:
bytes that a client stored, be they a copy of this very log, are never taken for a record of it.

The frame, little-endian, 32 bytes::

    offset  size  field
         0     4  magic "rec1"
         4     1  type (RecordType)
         5     3  count of the HARD_STATE records up to this one, itself included, modulo 2**24
         8     4  length of the body
        12     4  place in the file at which the record's write batch begins
        16     8  number of the write batch
        24     4  CRC32C of the body
        28     4  CRC32C of the segment's salt (8 bytes), the record's place in the file (8 bytes) and bytes 0..28

A write batch is what went to the disk in one write, followed by one sync; the next one begins only after that sync.
So a frame whose batch begins behind a damaged record proves that the damaged one had been on stable storage.

The count tells whether a term and vote stood in what cannot be read any more (`d_engine.storage.salvage`).
"""

import struct
from enum import IntEnum
from typing import NamedTuple

import crc32c
import msgspec

from d_engine.format.configuration import Configuration, validate_configuration
from d_engine.format.errors import MalformedError
from d_engine.format.ids import MAX_LOG_INDEX, MAX_NODE_ID, MAX_TERM, LogIndex
from d_engine.format.limits import MAX_ENTRY_BYTES
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import HardState

RECORD_MAGIC = b"rec1"
_SALT = struct.Struct("<QQ")
_FRAME = struct.Struct("<4sIIIQI")
_SALTED_FRAME = struct.Struct("<QQ4sIIIQI")
_CRC = struct.Struct("<I")
FRAME_BYTES = _FRAME.size + _CRC.size
MAX_BODY_BYTES = MAX_ENTRY_BYTES + 4096
"""An entry with its header, or a configuration; nothing larger is ever written."""
_TYPE_BITS = 8
_TYPE_MASK = (1 << _TYPE_BITS) - 1
_COUNT_MASK = (1 << 24) - 1

EMPTY_CONFIGURATION = Configuration(0, (), ())
"""What is in force before the first configuration entry."""


class RecordType(IntEnum):
    """What a record's body is."""

    HEAD = 1
    """First in every segment: the state at that point, so that older segments can be removed."""
    HARD_STATE = 2
    """Term and vote."""
    ENTRY = 3
    """One log entry, as it is everywhere. Replaces all entries of the same and higher index."""
    COMPACT = 4
    """Entries up to the index of this `SnapshotMeta` may be gone."""
    RESET = 5
    """The log starts anew behind this `SnapshotMeta`."""


RECORD_TYPES = {kind.value: kind for kind in RecordType}


class Frame(NamedTuple):
    """A verified frame."""

    type: int
    hard_states: int
    """How many HARD_STATE records there were up to this one, itself included, modulo 2**24."""
    length: int
    batch_start: int
    batch: int
    checksum: int


class Head(NamedTuple):
    """What a segment's first record says: where the log stood when the segment was begun."""

    hard_state: HardState
    last_index: LogIndex
    base: SnapshotMeta | None


def count_hard_state(count: int, kind: int) -> int:
    """The count that a record of this type carries, if the one before it carries `count`."""
    return (count + (kind == RecordType.HARD_STATE)) & _COUNT_MASK


def encode_frame(
    salt: int, place: int, kind: RecordType, hard_states: int, body: bytes, batch_start: int, batch: int
) -> bytes:
    """The frame of a record that will stand at `place` of the segment with this salt."""
    word = hard_states << _TYPE_BITS | kind
    salted = _SALTED_FRAME.pack(
        salt, place, RECORD_MAGIC, word, len(body), batch_start, batch, crc32c.crc32c(body)
    )
    return salted[_SALT.size :] + _CRC.pack(crc32c.crc32c(salted))


def decode_frame(salt: int, place: int, buffer: bytes | memoryview, offset: int = 0) -> Frame | None:
    """The frame in the buffer at `offset`, which is `place` in the file; None if what stands there is none."""
    if len(buffer) - offset < FRAME_BYTES:
        return None
    magic, word, length, batch_start, batch, checksum = _FRAME.unpack_from(buffer, offset)
    if magic != RECORD_MAGIC or length > MAX_BODY_BYTES:
        return None
    (expected,) = _CRC.unpack_from(buffer, offset + _FRAME.size)
    covered = memoryview(buffer)[offset : offset + _FRAME.size]
    if crc32c.crc32c(covered, crc32c.crc32c(_SALT.pack(salt, place))) != expected:
        return None
    return Frame(word & _TYPE_MASK, word >> _TYPE_BITS, length, batch_start, batch, checksum)


# --- bodies ------------------------------------------------------------------------------------------------------

_HARD_STATE = struct.Struct("<QI")
_HEAD = struct.Struct("<QIQ")
_META_ENCODER = msgspec.msgpack.Encoder()
_META_DECODER = msgspec.msgpack.Decoder(SnapshotMeta)


def encode_hard_state(state: HardState) -> bytes:
    """Term (8 bytes), vote (4)."""
    return _HARD_STATE.pack(state.term, state.vote)


def decode_hard_state(body: bytes | memoryview) -> HardState:
    """Raises `MalformedError`."""
    if len(body) != _HARD_STATE.size:
        raise MalformedError(f"a term-and-vote record has {len(body)} bytes")
    return _hard_state(*_HARD_STATE.unpack(body))


def _hard_state(term: int, vote: int) -> HardState:
    if term > MAX_TERM or vote > MAX_NODE_ID:
        raise MalformedError(f"term {term} or vote {vote} is out of range")
    return HardState(term, vote)


def encode_meta(meta: SnapshotMeta) -> bytes:
    """MessagePack, as in messages."""
    return _META_ENCODER.encode(meta)


def decode_meta(body: bytes | memoryview) -> SnapshotMeta:
    """Raises `MalformedError`."""
    try:
        meta = _META_DECODER.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedError(f"a snapshot's boundary does not decode: {error}") from None
    if meta.configuration != EMPTY_CONFIGURATION:
        validate_configuration(meta.configuration)
    return meta


def encode_head(head: Head) -> bytes:
    """Term (8 bytes), vote (4), last index (8), then the boundary as in `encode_meta`, or nothing."""
    state = head.hard_state
    boundary = b"" if head.base is None else encode_meta(head.base)
    return _HEAD.pack(state.term, state.vote, head.last_index) + boundary


def decode_head(body: bytes | memoryview) -> Head:
    """Raises `MalformedError`."""
    if len(body) < _HEAD.size:
        raise MalformedError(f"a segment's first record has {len(body)} bytes")
    term, vote, last_index = _HEAD.unpack_from(body)
    if last_index > MAX_LOG_INDEX:
        raise MalformedError(f"the last index {last_index} is out of range")
    rest = body[_HEAD.size :]
    return Head(_hard_state(term, vote), last_index, decode_meta(rest) if len(rest) else None)
