"""Reads, as bytes: what a client asks of the applied state, and what it is answered. Both are msgpack arrays whose
first element tells which one it is.

All entries of one answer are of one moment, whose revision the answer carries. An answer has at most `MAX_ANSWER_BYTES`
of keys and values: a scan then stops early and says `more`, to be continued `after` its last key (at a later moment);
asking for too many large keys by name is an error.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Annotated, Protocol, TypeAlias

import msgspec
from msgspec import Meta, Struct

from d_engine.format.errors import InvalidRequestError, MalformedError
from d_engine.format.ids import MAX_U63, Nanoseconds
from d_engine.kv.key_value import KeyValue
from d_engine.kv.leases import Lease, LeaseId, LeaseTable
from d_engine.kv.store import Store

MAX_ANSWER_BYTES = 8 * 1024 * 1024
"""Keys and values of one answer, unless it is a single larger entry."""

MAX_LEASES_LISTED = 1000
"""In one answer."""

_Count = Annotated[int, Meta(ge=0, le=MAX_U63)]


class GetEntries(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1, gc=False):
    """The entries of these keys."""

    keys: tuple[bytes, ...]


class ScanPrefix(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """The entries whose keys begin with `prefix`, in key order, at most `limit` (0: no limit), only keys greater than
    `after` if that is given."""

    prefix: bytes
    limit: _Count = 0
    after: bytes | None = None


class GetRange(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """The entries of the range from `start` up to but without `end` (None: to the last key), in key order or, with
    `reverse`, the last one first; at most `limit` (0: no limit). With `keys_only` all values are left out, as if they
    were empty."""

    start: bytes
    end: bytes | None
    limit: _Count = 0
    reverse: bool = False
    keys_only: bool = False


class CountRange(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """How many keys the range holds."""

    start: bytes
    end: bytes | None


class GetLease(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """One lease, with its keys."""

    lease: LeaseId


class ListLeases(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6):
    """The leases with ids greater than `after`, by rising id, at most `limit`, without their keys."""

    after: _Count
    limit: Annotated[int, Meta(ge=1, le=MAX_LEASES_LISTED)]


class Entries(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1, gc=False):
    """For each key asked for, in that order, its entry or None; and the store's revision."""

    revision: _Count
    entries: tuple[KeyValue | None, ...]


class Scan(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """The entries found, the store's revision, and whether there are more behind the last one.

    Example::

        page = await client.scan_prefix("balance/", limit=1)
        rest = await client.scan_prefix("balance/", after=page.items[-1].key)
        assert page.more and len(page.items) == len(rest.items) == 1
    """

    revision: _Count
    items: tuple[KeyValue, ...]
    more: bool


class Count(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """How many keys there are, and the store's revision.

    Example::

        balances = await client.count(prefix="balance/")
        assert balances.count == 2
        print("as of revision", balances.revision)
    """

    revision: _Count
    count: _Count


class LeaseFound(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """One lease: id, TTL and the time that is left, in nanoseconds; how many keys hang on it. A *single* one came with
    a key that was put with a TTL."""

    id: LeaseId
    ttl: _Count
    remaining: _Count
    key_count: _Count
    single: bool


class Leases(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """The leases found, the store's revision, whether there are more behind the last one, and the keys of the one lease
    that was asked for."""

    revision: _Count
    items: tuple[LeaseFound, ...]
    more: bool = False
    keys: tuple[bytes, ...] = ()


class QueryFailed(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """The query cannot be answered: why."""

    text: str


Query: TypeAlias = GetEntries | ScanPrefix | GetRange | CountRange | GetLease | ListLeases
Answer: TypeAlias = Entries | Scan | QueryFailed | Count | Leases
_ENCODER = msgspec.msgpack.Encoder()
_QUERY_DECODER: "msgspec.msgpack.Decoder[Query]" = msgspec.msgpack.Decoder(Query)
_ANSWER_DECODER: "msgspec.msgpack.Decoder[Answer]" = msgspec.msgpack.Decoder(Answer)


def encode_get_entries(keys: Sequence[bytes]) -> bytes:
    """The caller has checked the keys."""
    return _ENCODER.encode(GetEntries(tuple(keys)))


def encode_scan_prefix(prefix: bytes, limit: int = 0, after: bytes | None = None) -> bytes:
    """The caller has checked that `limit` is not negative."""
    return _ENCODER.encode(ScanPrefix(prefix, limit, after))


def encode_get_range(
    start: bytes, end: bytes | None, limit: int = 0, reverse: bool = False, keys_only: bool = False
) -> bytes:
    """The answer is a `Scan`. The caller has checked that `limit` is not negative."""
    return _ENCODER.encode(GetRange(start, end, limit, reverse, keys_only))


def encode_count_range(start: bytes, end: bytes | None) -> bytes:
    """The answer is a `Count`."""
    return _ENCODER.encode(CountRange(start, end))


def encode_get_lease(lease_id: int) -> bytes:
    """The answer is `Leases`, of one or none. The caller has checked that this can be an id."""
    return _ENCODER.encode(GetLease(lease_id))


def encode_list_leases(after: int, limit: int) -> bytes:
    """The answer is `Leases`. The caller has checked `limit`."""
    return _ENCODER.encode(ListLeases(after, limit))


def decode_entries(answer: bytes | memoryview) -> Entries:
    """Raises `InvalidRequestError` if the state machine refused the query, `MalformedError` for no such answer."""
    decoded = _decode_answer(answer)
    if not isinstance(decoded, Entries):
        raise MalformedError(f"a get was answered with a {type(decoded).__name__}")
    return decoded


def decode_scan(answer: bytes | memoryview) -> Scan:
    """Raises like `decode_entries`."""
    decoded = _decode_answer(answer)
    if not isinstance(decoded, Scan):
        raise MalformedError(f"a scan was answered with a {type(decoded).__name__}")
    return decoded


def decode_count(answer: bytes | memoryview) -> Count:
    """Raises like `decode_entries`."""
    decoded = _decode_answer(answer)
    if not isinstance(decoded, Count):
        raise MalformedError(f"a count was answered with a {type(decoded).__name__}")
    return decoded


def decode_leases(answer: bytes | memoryview) -> Leases:
    """Raises like `decode_entries`."""
    decoded = _decode_answer(answer)
    if not isinstance(decoded, Leases):
        raise MalformedError(f"a question about leases was answered with a {type(decoded).__name__}")
    return decoded


def _decode_answer(answer: bytes | memoryview) -> Entries | Scan | Count | Leases:
    try:
        decoded = _ANSWER_DECODER.decode(answer)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedError(f"an answer does not decode: {error}") from None
    if isinstance(decoded, QueryFailed):
        raise InvalidRequestError(decoded.text)
    return decoded


def answer_query(store: Store, request: bytes | memoryview, clock: Callable[[], Nanoseconds]) -> bytes:
    """Answer from the store as it is. What cannot be read is answered with `QueryFailed`. `clock` reads log time, as
    far as this node knows it: only what is left of leases depends on it."""
    try:
        query = _QUERY_DECODER.decode(request)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        return _ENCODER.encode(QueryFailed(f"a query does not decode: {error}"))
    if isinstance(query, GetEntries):
        return _ENCODER.encode(get_entries(store, query.keys))
    if isinstance(query, ScanPrefix):
        return _ENCODER.encode(_scan(store, store.scan(query.prefix, query.after), query.limit))
    if isinstance(query, GetRange):
        return _ENCODER.encode(get_range(store, query))
    if isinstance(query, CountRange):
        return _ENCODER.encode(Count(store.revision, store.count_range(query.start, query.end)))
    return _ENCODER.encode(_leases(store, query, clock()))


class Readable(Protocol):
    """A store, or a view of one."""

    @property
    def revision(self) -> int: ...

    @property
    def get(self) -> Callable[[bytes], KeyValue | None]: ...


def get_entries(store: Readable, keys: Sequence[bytes]) -> Entries | QueryFailed:
    """Look every key up."""
    if len(keys) == 1:  # most often: one entry may have any size
        return Entries(store.revision, (store.get(keys[0]),))
    entries = tuple(map(store.get, keys))
    size = sum(len(entry.key) + len(entry.value) for entry in entries if entry is not None)
    if size > MAX_ANSWER_BYTES:
        return QueryFailed(
            f"the {len(entries)} keys hold {size} bytes, an answer at most {MAX_ANSWER_BYTES}: ask for fewer at a time"
        )
    return Entries(store.revision, entries)


def get_range(store: Store, query: GetRange) -> Scan:
    """Walk the range."""
    return scan(store, store.range(query.start, query.end, query.reverse), query)


def scan(store: Readable, entries: Iterator[KeyValue], query: GetRange) -> Scan:
    """Answer the query with these entries, as many as fit."""
    return _scan(store, map(_without_value, entries) if query.keys_only else entries, query.limit)


def _scan(store: Readable, entries: Iterator[KeyValue], limit: int) -> Scan:
    """Walk until the entries, the limit or the answer's size ends."""
    items: list[KeyValue] = []
    size = 0
    for entry in entries:
        size += len(entry.key) + len(entry.value)
        if items and (len(items) == limit or size > MAX_ANSWER_BYTES):
            return Scan(store.revision, tuple(items), True)
        items.append(entry)
    return Scan(store.revision, tuple(items), False)


def _leases(store: Store, query: GetLease | ListLeases, log_time: Nanoseconds) -> Leases:
    leases = store.leases
    if isinstance(query, GetLease):
        lease = leases.get(query.lease)
        found = () if lease is None else (_lease(leases, lease, log_time),)
        return Leases(store.revision, found, False, tuple(leases.keys_of(query.lease)))
    listed = leases.behind(query.after, query.limit + 1)
    items = tuple(_lease(leases, lease, log_time) for lease in listed[: query.limit])
    return Leases(store.revision, items, len(listed) > query.limit)


def _lease(leases: LeaseTable, lease: Lease, log_time: Nanoseconds) -> LeaseFound:
    left = min(lease.ttl, max(0, lease.deadline - log_time))
    return LeaseFound(lease.id, lease.ttl, left, leases.count_of(lease.id), lease.single)


def _without_value(entry: KeyValue) -> KeyValue:
    return KeyValue(entry.key, b"", entry.create_revision, entry.mod_revision, entry.version, entry.lease)
