"""The group: one client's drained batch of commands, numbered within its session.

A group is immutable. It is encoded once, where the commands come from; followers forward it verbatim, the leader puts
it into an entry verbatim, a retry is the same bytes under the same number. That is what makes "exactly once" cheap:
replicas remember results per (session, number), not per command.

Layout, little-endian, 32 bytes, then the commands::

    offset  size  field
         0     8  session id (0: this group opens a session and holds no commands)
         8     8  number, from 1, rising by one for each new group of the session
                  (of a group that opens a session: a random number by which the opener knows its answer)
        16     8  acknowledged floor: the client has the results of all groups up to this number
        24     4  count of commands
        28     4  length of all that follows
        32        commands, each a 4-byte length and its bytes
"""

import struct
from collections.abc import Sequence

import crc32c
from msgspec import Struct

from d_engine.format.errors import MalformedError
from d_engine.format.ids import MAX_U63, SessionId
from d_engine.format.limits import MAX_GROUP_BYTES

_HEADER = struct.Struct("<QQQII")
_LENGTH = struct.Struct("<I")
GROUP_HEADER_BYTES = _HEADER.size
COMMAND_OVERHEAD_BYTES = _LENGTH.size


class Group(Struct, frozen=True):
    """A decoded group; `commands` are the bytes that the state machine gets."""

    session: SessionId
    number: int
    floor: int
    commands: tuple[bytes, ...]
    checksum: int
    """CRC32C of the commands, by which a repeated group is told from another one under the same number."""

    @property
    def opens_session(self) -> bool:
        """True for the group that asks for a new session."""
        return self.session == 0


def encode_group(session: SessionId, number: int, floor: int, commands: Sequence[bytes]) -> bytes:
    """One group, ready for the wire and the log."""
    pack = _LENGTH.pack
    parts = [b""]
    for command in commands:
        parts.append(pack(len(command)))
        parts.append(command)
    length = sum(map(len, commands)) + len(commands) * COMMAND_OVERHEAD_BYTES
    parts[0] = _HEADER.pack(session, number, floor, len(commands), length)
    return b"".join(parts)


def encode_open_session(nonce: int) -> bytes:
    """The group that opens a session. `nonce` is random: the opener recognises its session by it when it is applied."""
    return encode_group(0, nonce, 0, ())


def peek_group(data: bytes | memoryview, offset: int = 0) -> tuple[SessionId, int, int, int]:
    """`(session, number, count of commands, whole size)` of the group at `offset`, without its commands."""
    if len(data) - offset < GROUP_HEADER_BYTES:
        raise MalformedError("a group's header is cut off")
    session, number, floor, count, length = _HEADER.unpack_from(data, offset)
    if length > MAX_GROUP_BYTES:
        raise MalformedError(f"a group claims {length} bytes; the limit is {MAX_GROUP_BYTES}")
    if len(data) - offset - GROUP_HEADER_BYTES < length:
        raise MalformedError("a group is cut off")
    if session > MAX_U63 or number > MAX_U63 or floor > number:
        raise MalformedError(f"a group's session {session}, number {number} or floor {floor} is out of range")
    if number == 0 or (session == 0 and count) or count * COMMAND_OVERHEAD_BYTES > length:
        raise MalformedError(f"a group of session {session}, number {number} cannot hold {count} commands")
    return session, number, count, GROUP_HEADER_BYTES + length


def check_group(data: bytes) -> tuple[SessionId, int, int]:
    """`(session, number, count of commands)` of a group that came from outside. Raises `MalformedError` unless it is
    exactly one group whose commands decode: what is in the log must decode on every replica."""
    session, number, count, size = peek_group(data)
    if size != len(data):
        raise MalformedError(f"a group has {len(data)} bytes and claims {size}")
    position = GROUP_HEADER_BYTES
    unpack = _LENGTH.unpack_from
    for _ in range(count):
        if position + COMMAND_OVERHEAD_BYTES > size:
            raise MalformedError("a group's commands run past its end")
        position += COMMAND_OVERHEAD_BYTES + unpack(data, position)[0]
    if position != size:
        raise MalformedError(f"a group's commands end at {position}, the group at {size}")
    return session, number, count


def decode_group(data: bytes | memoryview, offset: int = 0) -> tuple[Group, int]:
    """The group at `offset`, and the offset behind it. Raises `MalformedError`."""
    session, number, count, size = peek_group(data, offset)
    floor: int = _HEADER.unpack_from(data, offset)[2]
    position, end = offset + GROUP_HEADER_BYTES, offset + size
    checksum = crc32c.crc32c(memoryview(data)[position:end])
    commands: list[bytes] = []
    # One slice a command: this loop runs for every command on every replica.
    source = data if isinstance(data, bytes) else bytes(data)
    unpack, append = _LENGTH.unpack_from, commands.append
    for _ in range(count):
        begin = position + COMMAND_OVERHEAD_BYTES
        if begin > end:
            raise MalformedError("a group's commands run past its end")
        position = begin + unpack(source, position)[0]
        append(source[begin:position])
    if position != end:
        raise MalformedError(
            f"a group's commands end at {position - offset - GROUP_HEADER_BYTES}, "
            f"its length says {size - GROUP_HEADER_BYTES}"
        )
    return Group(session, number, floor, tuple(commands), checksum), end


def decode_groups(data: bytes | memoryview, count: int, offset: int = 0) -> list[Group]:
    """The groups of an entry's payload, which begins at `offset`, in order. Raises `MalformedError`."""
    groups = []
    for _ in range(count):
        group, offset = decode_group(data, offset)
        groups.append(group)
    if offset != len(data):
        raise MalformedError(f"an entry's {count} groups end at {offset}, its payload at {len(data)}")
    return groups
