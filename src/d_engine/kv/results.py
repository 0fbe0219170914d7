"""Results: what the state machine answers to a command. They are remembered per session, so they are compact.

Layout, little-endian::

    offset  size  field
         0     1  status: 1 written, 2 unchanged, 3 written and the previous entry follows,
                  4 a range was deleted, 5 a transaction was done
         1     8  revision: of this write, or the store's when nothing was written
         9     8  previous entry (status 3 only): create revision
        17     8  mod revision
        25     8  version
        33     8  lease
        41     2  key length
        43        key, value
         9     8  count of deleted keys (status 4 only)

Status 6 (a lease was granted): revision, then 8 bytes each of its id and its TTL. Status 7 (leases were kept alive):
revision, then 8 bytes for each lease: its TTL, 0 if there is no such lease. Status 8 (a lease was ended): revision,
then 8 bytes of the count of keys that went with it.

Status 5 is followed by a msgpack array and by nothing of the above (see `d_engine.kv.transactions`). A command that
could not be read, or not be done, has status 255 and a UTF-8 text that says why. One that was refused for another
reason has status 254, a byte of length, the code of the error (`d_engine.format.errors`), and the text.
"""

import struct
from collections.abc import Sequence

from msgspec import Struct

from d_engine.format.errors import (
    DEngineError,
    InvalidRequestError,
    MalformedError,
    NotAppliedError,
    error_from_code,
)
from d_engine.format.ids import MAX_U63, Nanoseconds
from d_engine.kv.key_value import KeyValue
from d_engine.kv.transactions import (
    Transaction,
    TransactionDone,
    pack_transaction_done,
    unpack_transaction_done,
)

WRITTEN = 1
UNCHANGED = 2
_WRITTEN_WITH_PREVIOUS = 3
_RANGE_DELETED = 4
_TRANSACTION_DONE = b"\x05"
_LEASE_GRANTED = 6
_LEASES_KEPT = b"\x07"
_LEASE_ENDED = 8
_REFUSED = 254
_INVALID = 255

RESULT = struct.Struct("<BQ")
"""Status and revision: the whole result of most commands."""
_WITH_PREVIOUS = struct.Struct("<BQQQQQH")
_WITH_COUNT = struct.Struct("<BQQ")
_GRANTED = struct.Struct("<BQQQ")


class PutResult(Struct, frozen=True, gc=False):
    """The revision of the write; the entry that it replaced, if that was asked for and there was one."""

    revision: int
    previous: KeyValue | None = None


class DeleteResult(Struct, frozen=True, gc=False):
    """`deleted` is false if the key did not exist; `revision` is then that of the store. `previous` is the entry that
    was removed, if that was asked for.

    Example::

        removed = await client.delete("job/1", previous=True)
        assert removed.deleted and removed.previous.value == b"sweep"
    """

    revision: int
    deleted: bool
    previous: KeyValue | None = None


class CompareAndSwapResult(Struct, frozen=True, gc=False):
    """`succeeded` is false if the key did not hold what was expected; `revision` is then that of the store."""

    revision: int
    succeeded: bool


class DeleteRangeResult(Struct, frozen=True, gc=False):
    """How many keys were removed; the revision at which, or the store's if there were none.

    Example::

        removed = await client.delete_prefix("balance/")
        assert removed.deleted == 2
        print("gone from revision", removed.revision, "on")
    """

    revision: int
    deleted: int


class LeaseGranted(Struct, frozen=True, gc=False):
    """A new lease's id and its TTL in nanoseconds."""

    id: int
    ttl: Nanoseconds


def encode_with_previous(revision: int, previous: KeyValue) -> bytes:
    """The result of a write whose caller wants to know what was there before."""
    head = _WITH_PREVIOUS.pack(
        _WRITTEN_WITH_PREVIOUS,
        revision,
        previous.create_revision,
        previous.mod_revision,
        previous.version,
        previous.lease,
        len(previous.key),
    )
    return b"".join((head, previous.key, previous.value))


def encode_range_deleted(revision: int, count: int) -> bytes:
    """The result of a delete_range."""
    return _WITH_COUNT.pack(_RANGE_DELETED, revision, count)


def encode_transaction_done(done: TransactionDone) -> bytes:
    """The result of a transaction."""
    return _TRANSACTION_DONE + pack_transaction_done(done)


def encode_granted(revision: int, lease_id: int, ttl: Nanoseconds) -> bytes:
    """The result of a grant."""
    return _GRANTED.pack(_LEASE_GRANTED, revision, lease_id, ttl)


def encode_kept(revision: int, ttls: Sequence[Nanoseconds]) -> bytes:
    """The result of a keep_alive: for each lease its TTL, 0 if it does not exist."""
    return _LEASES_KEPT + struct.pack(f"<Q{len(ttls)}Q", revision, *ttls)


def encode_lease_ended(revision: int, count: int) -> bytes:
    """The result of a revoke or an expire that ended a lease with so many keys."""
    return _WITH_COUNT.pack(_LEASE_ENDED, revision, count)


def encode_refused(error: DEngineError) -> bytes:
    """The result of a command that was well-formed and could not be done now."""
    code = error.code.encode()
    return b"".join((bytes((_REFUSED, len(code))), code, str(error).encode()))


def encode_invalid(text: str) -> bytes:
    """The result of a command that cannot be read."""
    return bytes((_INVALID,)) + text.encode()


def decode_put(result: bytes) -> PutResult:
    """Raises `InvalidRequestError` if the state machine refused the command, `MalformedError` for no such result."""
    if len(result) == RESULT.size:
        status, revision = RESULT.unpack(result)
        if status == WRITTEN:
            return PutResult(revision)
    status, revision, previous = _decode(result)
    if status == UNCHANGED:
        raise MalformedError("a put's result says that nothing was written")
    return PutResult(revision, previous)


def decode_delete(result: bytes) -> DeleteResult:
    """Raises like `decode_put`."""
    status, revision, previous = _decode(result)
    return DeleteResult(revision, status != UNCHANGED, previous)


def decode_compare_and_swap(result: bytes) -> CompareAndSwapResult:
    """Raises like `decode_put`."""
    status, revision, previous = _decode(result)
    if previous is not None:
        raise MalformedError("a compare_and_swap's result has a previous entry")
    return CompareAndSwapResult(revision, status == WRITTEN)


def decode_delete_range(result: bytes) -> DeleteRangeResult:
    """Raises like `decode_put`."""
    _check_valid(result)
    if len(result) != _WITH_COUNT.size or result[0] != _RANGE_DELETED:
        raise MalformedError(f"{len(result)} bytes are no result of a delete_range")
    _, revision, count = _WITH_COUNT.unpack(result)
    if revision > MAX_U63 or count > MAX_U63:
        raise MalformedError(f"a delete_range removed {count} keys at {revision}")
    return DeleteRangeResult(revision, count)


def decode_transaction_done(result: bytes, asked: Transaction) -> TransactionDone:
    """Raises like `decode_put`."""
    _check_valid(result)
    if result[:1] != _TRANSACTION_DONE:
        raise MalformedError(f"{len(result)} bytes are no result of a transaction")
    return unpack_transaction_done(memoryview(result)[1:], asked)


def decode_granted(result: bytes) -> LeaseGranted:
    """Raises like `decode_put`."""
    _check_valid(result)
    if len(result) != _GRANTED.size or result[0] != _LEASE_GRANTED:
        raise MalformedError(f"{len(result)} bytes are no result of a grant")
    _, _, lease_id, ttl = _GRANTED.unpack(result)
    return LeaseGranted(lease_id, ttl)


def decode_kept(result: bytes, count: int) -> tuple[Nanoseconds, ...]:
    """The TTLs of so many leases, 0 for those that do not exist. Raises like `decode_put`."""
    _check_valid(result)
    if len(result) != 9 + 8 * count or result[:1] != _LEASES_KEPT:
        raise MalformedError(f"{len(result)} bytes are no result of keeping {count} leases alive")
    return struct.unpack_from(f"<{count}Q", result, 9)


def decode_lease_ended(result: bytes) -> int:
    """How many keys went with it. Raises like `decode_put`."""
    _check_valid(result)
    if len(result) != _WITH_COUNT.size or result[0] != _LEASE_ENDED:
        raise MalformedError(f"{len(result)} bytes are no result of ending a lease")
    count: int = _WITH_COUNT.unpack(result)[2]
    return count


def _check_valid(result: bytes) -> None:
    if result[:1] == bytes((_REFUSED,)) and len(result) > 1:
        text_at = 2 + result[1]
        error = error_from_code(
            result[2:text_at].decode(errors="replace"), result[text_at:].decode(errors="replace")
        )
        raise (
            error
            if isinstance(error, NotAppliedError)
            else MalformedError(f"refused for no known reason: {error}")
        )
    if result[:1] == bytes((_INVALID,)):
        raise InvalidRequestError(result[1:].decode(errors="replace"))


def _decode(result: bytes) -> tuple[int, int, KeyValue | None]:
    if len(result) == RESULT.size:
        status, revision = RESULT.unpack(result)
        if status in (WRITTEN, UNCHANGED) and revision <= MAX_U63:
            return status, revision, None
    _check_valid(result)
    if len(result) < _WITH_PREVIOUS.size or result[0] != _WRITTEN_WITH_PREVIOUS:
        raise MalformedError(f"{len(result)} bytes, beginning with {result[:9].hex()}, are no result")
    status, revision, create, mod, version, lease, key_length = _WITH_PREVIOUS.unpack_from(result)
    end = _WITH_PREVIOUS.size + key_length
    if not 1 <= create <= mod < revision <= MAX_U63 or not 1 <= version <= mod or lease > MAX_U63:
        raise MalformedError(
            f"a previous entry has revisions {create}, {mod} and version {version} at {revision}"
        )
    if end > len(result):
        raise MalformedError(f"a previous entry's key of {key_length} bytes runs past the result")
    previous = KeyValue(result[_WITH_PREVIOUS.size : end], result[end:], create, mod, version, lease)
    return status, revision, previous
