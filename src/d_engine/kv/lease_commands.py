"""Commands about leases (see `d_engine.kv.leases`), as bytes. All numbers are little-endian, times are nanoseconds::

    grant                                keep_alive
    offset  size  field                  offset  size  field
         0     1  kind                        0     1  kind
         1     1  flags, 0                    1     1  flags, 0
         2     8  TTL                         2     2  count, 1 to 1000
                                              4        the leases' ids, 8 bytes each

    revoke                               expire
    offset  size  field                  offset  size  field
         0     1  kind                        0     1  kind
         1     1  flags, 0                    1     1  flags, 0
         2     8  the lease's id              2     8  the lease's id
                                             10     8  deadline, log time

Expire comes from the leader itself, when its log time has reached the deadline. It does nothing unless the lease still
has this deadline, and the log time of its own entry has reached it: so it may come late, twice, or from anybody.
"""

import struct
from collections.abc import Sequence
from enum import IntEnum
from typing import TypeAlias

from msgspec import Struct

from d_engine.format.errors import MalformedError
from d_engine.format.ids import MAX_U63, Nanoseconds

MAX_KEPT = 1000
"""Leases that one command keeps alive."""

_NUMBER = struct.Struct("<BBQ")
_EXPIRE = struct.Struct("<BBQQ")
_KEEP_ALIVE_HEAD = struct.Struct("<BBH")


class LeaseCommandKind(IntEnum):
    """The first byte, beside those of `d_engine.kv.commands.CommandKind`."""

    GRANT = 6
    KEEP_ALIVE = 7
    REVOKE = 8
    EXPIRE = 9


class Grant(Struct, frozen=True, gc=False):
    """A new lease."""

    ttl: Nanoseconds


class KeepAlive(Struct, frozen=True, gc=False):
    """These leases live their whole TTL from now on."""

    leases: tuple[int, ...]


class Revoke(Struct, frozen=True, gc=False):
    """The lease and its keys go."""

    lease: int


class Expire(Struct, frozen=True, gc=False):
    """The lease and its keys go, if this is its deadline, and it has passed."""

    lease: int
    deadline: Nanoseconds


LeaseCommand: TypeAlias = Grant | KeepAlive | Revoke | Expire


def encode_grant(ttl: Nanoseconds) -> bytes:
    """The caller has checked that it is a number of nanoseconds above 0."""
    return _NUMBER.pack(LeaseCommandKind.GRANT, 0, ttl)


def encode_keep_alive(leases: Sequence[int]) -> bytes:
    """At most `MAX_KEPT`."""
    head = _KEEP_ALIVE_HEAD.pack(LeaseCommandKind.KEEP_ALIVE, 0, len(leases))
    return head + struct.pack(f"<{len(leases)}Q", *leases)


def encode_revoke(lease: int) -> bytes:
    """The caller has checked that this can be an id."""
    return _NUMBER.pack(LeaseCommandKind.REVOKE, 0, lease)


def encode_expire(lease: int, deadline: Nanoseconds) -> bytes:
    """As the leader proposes it."""
    return _EXPIRE.pack(LeaseCommandKind.EXPIRE, 0, lease, deadline)


def decode_lease_command(command: bytes) -> LeaseCommand:
    """Read a command of one of these kinds. Raises `MalformedError`, in words that depend on the bytes only."""
    kind = command[0]
    if kind == LeaseCommandKind.KEEP_ALIVE:
        return _decode_keep_alive(command)
    layout = _EXPIRE if kind == LeaseCommandKind.EXPIRE else _NUMBER
    if len(command) != layout.size:
        raise MalformedError(f"a command of kind {kind} has {len(command)} bytes instead of {layout.size}")
    _, flags, number, *rest = layout.unpack(command)
    _check(kind, flags, (number, *rest))
    if kind == LeaseCommandKind.EXPIRE:
        return Expire(number, rest[0])
    return Grant(number) if kind == LeaseCommandKind.GRANT else Revoke(number)


def _decode_keep_alive(command: bytes) -> KeepAlive:
    if len(command) < _KEEP_ALIVE_HEAD.size:
        raise MalformedError(f"a keep_alive of {len(command)} bytes is too short to be one")
    kind, flags, count = _KEEP_ALIVE_HEAD.unpack_from(command)
    if not 1 <= count <= MAX_KEPT or len(command) != _KEEP_ALIVE_HEAD.size + 8 * count:
        raise MalformedError(f"a keep_alive of {len(command)} bytes names {count} leases")
    leases = struct.unpack_from(f"<{count}Q", command, _KEEP_ALIVE_HEAD.size)
    _check(kind, flags, leases)
    return KeepAlive(leases)


def _check(kind: int, flags: int, numbers: Sequence[int]) -> None:
    if flags:
        raise MalformedError(f"a command of kind {kind} has unknown flags {flags:#04x}")
    if not all(1 <= number <= MAX_U63 for number in numbers):
        raise MalformedError(f"a command of kind {kind} has a number out of range")
