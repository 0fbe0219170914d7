"""The frame: how anything travels over a stream connection.

Layout, little-endian, 16 bytes, then the body::

    offset  size  field
         0     2  magic 0xDE51
         2     1  protocol version (1)
         3     1  kind (FrameKind)
         4     4  length of the body (head and tail)
         8     4  length of the head
        12     4  CRC32C of bytes 0..12 and the head
        16        head, then tail

The tail holds log entries only; they carry their own checksums. A length is checked against the limit before a byte
of the body is waited for.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

import crc32c

from d_engine.format.errors import MalformedError, UnsupportedVersionError
from d_engine.format.limits import MAX_FRAME_BYTES

FRAME_MAGIC = 0xDE51
PROTOCOL_VERSION = 1
_HEADER = struct.Struct("<HBBII")
_CRC = struct.Struct("<I")
_WHOLE_HEADER = struct.Struct("<HBBIII")
FRAME_HEADER_BYTES = _HEADER.size + _CRC.size


class FrameKind(IntEnum):
    """Whom a frame is for."""

    HELLO = 1
    """The first frame on every connection, in each direction (`d_engine.format.hello`)."""
    PEER = 2
    """Between members (`d_engine.format.messages`)."""
    REQUEST = 3
    """From a client (`d_engine.format.requests`)."""
    RESPONSE = 4
    """To a client."""


_KINDS = {kind.value: kind for kind in FrameKind}


class Frame(NamedTuple):
    """A decoded frame. `head` was verified; `tail` verifies itself when it is decoded."""

    kind: FrameKind
    head: memoryview
    tail: memoryview


def encode_frame(kind: FrameKind, head: bytes, tail: Sequence[bytes] = ()) -> list[bytes]:
    """The frame's parts, to be written in order. The tail's parts are not copied."""
    length = len(head) + sum(map(len, tail))
    header = _HEADER.pack(FRAME_MAGIC, PROTOCOL_VERSION, kind, length, len(head))
    crc = crc32c.crc32c(head, crc32c.crc32c(header))
    return [header + _CRC.pack(crc) + head, *tail]


def frame_size(
    buffer: bytes | bytearray | memoryview, offset: int = 0, limit: int = MAX_FRAME_BYTES
) -> int | None:
    """The whole size of the frame at `offset`, or None while its header is not complete. Raises `MalformedError` for
    what is no frame of ours or is longer than `limit`, `UnsupportedVersionError` for another version."""
    if len(buffer) - offset < FRAME_HEADER_BYTES:
        return None
    magic, version, kind, length, head = _HEADER.unpack_from(buffer, offset)
    if magic != FRAME_MAGIC:
        raise MalformedError(f"this is not a d-engine connection (first bytes {magic:#06x})")
    if version != PROTOCOL_VERSION:
        raise UnsupportedVersionError(
            f"the other side speaks protocol version {version}, this one {PROTOCOL_VERSION}"
        )
    if kind not in _KINDS:
        raise MalformedError(f"a frame has the unknown kind {kind}")
    if length > limit or head > length:
        raise MalformedError(f"a frame claims {length} bytes with a head of {head}; the limit is {limit}")
    return FRAME_HEADER_BYTES + int(length)


def decode_frame(data: bytes | bytearray | memoryview, offset: int = 0) -> Frame:
    """The complete frame at `offset`, whose size `frame_size` told. Raises `MalformedError`."""
    view = memoryview(data)
    _, _, kind, length, head_length, crc = _WHOLE_HEADER.unpack_from(view, offset)
    begin = offset + FRAME_HEADER_BYTES
    middle = begin + head_length
    head = view[begin:middle]
    if crc32c.crc32c(head, crc32c.crc32c(view[offset : offset + _HEADER.size])) != crc:
        raise MalformedError("a frame's checksum does not match its bytes")
    return Frame(_KINDS[kind], head, view[middle : begin + length])
