"""Commands: what a client asks the state machine to do, as the bytes that travel in groups and stand in the log.

The first byte is the kind; whatever comes later takes a kind of its own. All numbers
are little-endian. A command's length is known from outside, so its last part needs none. Empty keys and values are
legal::

    put, delete                          compare_and_swap
    offset  size  field                  offset  size  field
         0     1  kind                        0     1  kind
         1     1  flags                       1     1  flags
         2     2  key length                  2     2  key length
         4     8  lease or TTL (flag 2 or 4)  4     4  length of the expected value
                  key                         8     8  lease or TTL (flag 2 or 4)
                  value (put only)                     key
                                                       expected value
                                                       value

    delete_range                         transaction
    offset  size  field                  offset  size  field
         0     1  kind                        0     1  kind
         1     1  flags                       1        see `d_engine.kv.transactions`
         2     2  start length
         4        start
                  end (flag 1 only)

Flags of put and delete: 1, the previous entry is wanted. Flags of compare_and_swap: 1, a value is expected (without
it the key must be absent, and the expected length is 0). Flags of put and compare_and_swap, of which at most one is
set: 2, the key shall hang on the lease that is named; 4, on a new one of its own with this TTL in nanoseconds; 8, on
the one on which it hangs already. (Without any, on none: see `d_engine.kv.holding`.) Flags of delete_range: 1, there
is an end (without it the range has none, and the command ends behind its start). Any other flag makes the command
unreadable, so that an option that this release does not know is refused and not ignored.

Commands about leases have a module of their own, `d_engine.kv.lease_commands`.

Limits of keys and values are checked where commands come from, with `check_key` and `check_value`. The state machine
does not look at them: they may differ from node to node, its results must not.
"""

import struct
from enum import IntEnum
from typing import TypeAlias

from msgspec import Struct

from d_engine.format.errors import InvalidRequestError, MalformedError
from d_engine.format.limits import MAX_KEY_BYTES, MAX_VALUE_BYTES
from d_engine.kv.holding import FOR_EVER, KEEP_LEASE, ON_LEASE, WITH_TTL, hold_objection
from d_engine.kv.lease_commands import LeaseCommand, LeaseCommandKind, decode_lease_command
from d_engine.kv.transactions import Transaction, pack_transaction, unpack_transaction

HIGHEST_KEY_LIMIT = 2**16 - 1
"""No configuration may allow longer keys: the format has two bytes for their length."""

HEAD = struct.Struct("<BBH")
_COMPARE_HEAD = struct.Struct("<BBHI")


class CommandKind(IntEnum):
    """The first byte of a command."""

    PUT = 1
    DELETE = 2
    COMPARE_AND_SWAP = 3
    DELETE_RANGE = 4
    TRANSACTION = 5


PUT = CommandKind.PUT.value
"""A plain integer: an enum member costs the hot paths a look-up."""
DELETE = CommandKind.DELETE.value
COMPARE_AND_SWAP = CommandKind.COMPARE_AND_SWAP.value
DELETE_RANGE = CommandKind.DELETE_RANGE.value
TRANSACTION = CommandKind.TRANSACTION.value
WANT_PREVIOUS = 1
_EXPECTS_VALUE = 1
_HAS_END = 1
_TRANSACTION_KIND = bytes((TRANSACTION,))
_HOLD_FLAGS = {FOR_EVER: 0, ON_LEASE: 2, WITH_TTL: 4, KEEP_LEASE: 8}
_HOLDS = {flag: hold for hold, flag in _HOLD_FLAGS.items()}
_ANY_HOLD = 2 | 4 | 8
_HOLD_NUMBER = struct.Struct("<Q")


class Put(Struct, frozen=True, gc=False):
    """Set the key to the value. `hold` and `number`: see `d_engine.kv.holding`."""

    key: bytes
    value: bytes
    want_previous: bool = False
    hold: int = FOR_EVER
    number: int = 0


class Delete(Struct, frozen=True, gc=False):
    """Remove the key, if it exists."""

    key: bytes
    want_previous: bool = False


class CompareAndSwap(Struct, frozen=True, gc=False):
    """Set the key to the value if it holds `expected` now (None: if it does not exist). `hold`, `number`: as of put."""

    key: bytes
    expected: bytes | None
    value: bytes
    hold: int = FOR_EVER
    number: int = 0


class DeleteRange(Struct, frozen=True, gc=False):
    """Remove all keys from `start` up to but without `end` (None: to the last), at one revision."""

    start: bytes
    end: bytes | None


Command: TypeAlias = Put | Delete | CompareAndSwap | DeleteRange | Transaction | LeaseCommand


def check_key(key: bytes, max_bytes: int = MAX_KEY_BYTES) -> None:
    """Raise `InvalidRequestError` unless this is a key within the limit."""
    if not isinstance(key, bytes):
        raise InvalidRequestError(f"a key must be bytes, not {type(key).__name__}")
    if len(key) > max_bytes:
        raise InvalidRequestError(
            f"a key of {len(key)} bytes is too long: the limit is {max_bytes} (limits.max_key_bytes)"
        )


def check_value(value: bytes, max_bytes: int = MAX_VALUE_BYTES) -> None:
    """Raise `InvalidRequestError` unless this is a value within the limit."""
    if not isinstance(value, bytes):
        raise InvalidRequestError(f"a value must be bytes, not {type(value).__name__}")
    if len(value) > max_bytes:
        raise InvalidRequestError(
            f"a value of {len(value)} bytes is too long: the limit is {max_bytes} (limits.max_value_bytes)"
        )


def encode_put(key: bytes, value: bytes, want_previous: bool = False) -> bytes:
    """The caller has checked key and value."""
    return b"".join((HEAD.pack(PUT, want_previous, len(key)), key, value))


def encode_held_put(key: bytes, value: bytes, want_previous: bool, hold: int, number: int) -> bytes:
    """A put that says how long the key stays. The caller has checked key and value, and found no `hold_objection`."""
    head = HEAD.pack(PUT, want_previous | _HOLD_FLAGS[hold], len(key))
    return b"".join((head, _number(hold, number), key, value))


def encode_delete(key: bytes, want_previous: bool = False) -> bytes:
    """The caller has checked the key."""
    return HEAD.pack(DELETE, want_previous, len(key)) + key


def encode_compare_and_swap(
    key: bytes, expected: bytes | None, value: bytes, hold: int = FOR_EVER, number: int = 0
) -> bytes:
    """`expected=None`: only if the key does not exist. The caller has checked key and values, and found no
    `hold_objection`."""
    flags = _HOLD_FLAGS[hold]
    if expected is None:
        head = _COMPARE_HEAD.pack(COMPARE_AND_SWAP, flags, len(key), 0)
        return b"".join((head, _number(hold, number), key, value))
    head = _COMPARE_HEAD.pack(COMPARE_AND_SWAP, flags | _EXPECTS_VALUE, len(key), len(expected))
    return b"".join((head, _number(hold, number), key, expected, value))


def _number(hold: int, number: int) -> bytes:
    return _HOLD_NUMBER.pack(number) if hold in (ON_LEASE, WITH_TTL) else b""


def encode_delete_range(start: bytes, end: bytes | None) -> bytes:
    """`end=None`: up to the last key. The caller has checked both."""
    if end is None:
        return HEAD.pack(DELETE_RANGE, 0, len(start)) + start
    return b"".join((HEAD.pack(DELETE_RANGE, _HAS_END, len(start)), start, end))


def encode_transaction(transaction: Transaction) -> bytes:
    """The caller has checked keys and values, and found no `objection`."""
    return _TRANSACTION_KIND + pack_transaction(transaction)


def decode_command(command: bytes) -> Command:
    """Read any command. Raises `MalformedError`, whose text depends on the bytes only: it is part of a result, and
    results are the same on every replica."""
    if command[:1] == _TRANSACTION_KIND:
        return unpack_transaction(memoryview(command)[1:])
    if len(command) < HEAD.size:
        raise MalformedError(f"a command of {len(command)} bytes is too short to be one")
    kind, flags, key_length = HEAD.unpack_from(command)
    if kind == COMPARE_AND_SWAP:
        return _decode_compare_and_swap(command)
    if kind == DELETE_RANGE:
        return _decode_delete_range(command)
    if LeaseCommandKind.GRANT <= kind <= LeaseCommandKind.EXPIRE:
        return decode_lease_command(command)
    if kind != PUT and kind != DELETE:
        raise MalformedError(f"a command has the unknown kind {kind}")
    if flags & ~(WANT_PREVIOUS | (_ANY_HOLD if kind == PUT else 0)):
        raise MalformedError(f"a command of kind {kind} has unknown flags {flags:#04x}")
    hold, number, start = _decode_hold(command, flags, HEAD.size)
    end = start + key_length
    if end > len(command):
        raise MalformedError(f"a command's key of {key_length} bytes runs past its {len(command)} bytes")
    key = command[start:end]
    if kind == PUT:
        return Put(key, command[end:], bool(flags & WANT_PREVIOUS), hold, number)
    if end != len(command):
        raise MalformedError(f"a delete has {len(command) - end} bytes behind its key")
    return Delete(key, bool(flags))


def _decode_hold(command: bytes, flags: int, offset: int) -> tuple[int, int, int]:
    """`(hold, number, where the key begins)`."""
    hold = _HOLDS.get(flags & _ANY_HOLD)
    if hold is None:
        raise MalformedError(
            f"a command of kind {command[0]} has flags {flags:#04x}, which contradict each other"
        )
    if hold not in (ON_LEASE, WITH_TTL):
        return hold, 0, offset
    end = offset + _HOLD_NUMBER.size
    if end > len(command):
        raise MalformedError(f"a command of kind {command[0]} ends within its lease or TTL")
    (number,) = _HOLD_NUMBER.unpack_from(command, offset)
    found = hold_objection(hold, number)
    if found is not None:
        raise MalformedError(found)
    return hold, number, end


def _decode_compare_and_swap(command: bytes) -> CompareAndSwap:
    if len(command) < _COMPARE_HEAD.size:
        raise MalformedError(f"a compare_and_swap of {len(command)} bytes is too short to be one")
    _, flags, key_length, expected_length = _COMPARE_HEAD.unpack_from(command)
    if flags & ~(_EXPECTS_VALUE | _ANY_HOLD):
        raise MalformedError(f"a compare_and_swap has unknown flags {flags:#04x}")
    expects = bool(flags & _EXPECTS_VALUE)
    if not expects and expected_length:
        raise MalformedError("a compare_and_swap that expects an absent key names an expected value")
    hold, number, start = _decode_hold(command, flags, _COMPARE_HEAD.size)
    key_end = start + key_length
    expected_end = key_end + expected_length
    if expected_end > len(command):
        raise MalformedError(
            f"a compare_and_swap's parts of {key_length} and {expected_length} bytes run past its {len(command)}"
        )
    expected = command[key_end:expected_end] if expects else None
    return CompareAndSwap(command[start:key_end], expected, command[expected_end:], hold, number)


def _decode_delete_range(command: bytes) -> DeleteRange:
    _, flags, start_length = HEAD.unpack_from(command)
    if flags & ~_HAS_END:
        raise MalformedError(f"a delete_range has unknown flags {flags:#04x}")
    middle = HEAD.size + start_length
    if middle > len(command):
        raise MalformedError(
            f"a delete_range's start of {start_length} bytes runs past its {len(command)} bytes"
        )
    start, end = command[HEAD.size : middle], command[middle:]
    if flags:
        return DeleteRange(start, end)
    if end:
        raise MalformedError(f"a delete_range without an end has {len(end)} bytes behind its start")
    return DeleteRange(start, None)
