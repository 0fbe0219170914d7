"""Commands of a state machine's own, as the payload of an entry of the kind `EntryKind.TIMED`.

Each is a 4-byte length, little-endian, and its bytes; how many there are, the entry says.
"""

import struct
from collections.abc import Sequence

from d_engine.format.errors import MalformedError

_LENGTH = struct.Struct("<I")


def encode_timed(commands: Sequence[bytes]) -> bytes:
    """The payload."""
    parts: list[bytes] = []
    for command in commands:
        parts += (_LENGTH.pack(len(command)), command)
    return b"".join(parts)


def decode_timed(payload: bytes | memoryview, count: int) -> tuple[bytes, ...]:
    """The commands. Raises `MalformedError` unless there are exactly so many."""
    commands = []
    offset, size = 0, len(payload)
    for _ in range(count):
        start = offset + _LENGTH.size
        end = start + _LENGTH.unpack_from(payload, offset)[0] if start <= size else size + 1
        if end > size:
            raise MalformedError(f"an entry's {count} timed commands run past its {size} bytes")
        commands.append(bytes(payload[start:end]))
        offset = end
    if offset != size:
        raise MalformedError(f"an entry's {count} timed commands end at {offset}, its payload at {size}")
    return tuple(commands)
