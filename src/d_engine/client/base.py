"""What the embedded and the remote client have in common: the interface in terms of three primitives.

A client that supplies `_write` (a command to its result), `_read` (a query to its answer) and `_manage` (a rare
operation to its JSON document; see `d_engine.client.cluster`) is complete. The paths of `put` and `get` are short on
purpose: they run once per operation, everything behind them once per batch.
"""

from abc import abstractmethod
from asyncio import Future
from collections.abc import Sequence

from d_engine.client.cluster import check_timeout
from d_engine.client.lease import Lease
from d_engine.client.operations import Consistency, Text, WriteResult
from d_engine.client.translation import hold_of
from d_engine.client.watching import WatchingClient
from d_engine.format.errors import InvalidRequestError
from d_engine.format.ids import MAX_U63
from d_engine.format.limits import MAX_KEY_BYTES, MAX_VALUE_BYTES
from d_engine.format.requests import EVENTUAL, LEASE, LINEARIZABLE
from d_engine.kv.commands import (
    check_key,
    check_value,
    encode_compare_and_swap,
    encode_delete,
    encode_held_put,
    encode_put,
)
from d_engine.kv.key_value import KeyValue
from d_engine.kv.queries import Scan, decode_entries, decode_scan, encode_get_entries, encode_scan_prefix
from d_engine.kv.results import (
    RESULT,
    WRITTEN,
    DeleteResult,
    decode_compare_and_swap,
    decode_delete,
    decode_put,
)

_POLICIES = {"linearizable": LINEARIZABLE, "lease": LEASE, "eventual": EVENTUAL}


class BaseClient(WatchingClient):
    """Implements `Client`. `max_key_bytes` and `max_value_bytes` are the limits that are checked before sending."""

    def __init__(self, max_key_bytes: int = MAX_KEY_BYTES, max_value_bytes: int = MAX_VALUE_BYTES) -> None:
        self.max_key_bytes = max_key_bytes
        self.max_value_bytes = max_value_bytes

    @abstractmethod
    def _read(self, policy: int, min_revision: int, query: bytes, timeout: float | None) -> "Future[bytes]":
        """The future answer to a query (see `BatchReader.read`)."""

    # --- reading -------------------------------------------------------------------------------------------------

    async def get(
        self,
        key: Text,
        *,
        consistency: Consistency = "linearizable",
        min_revision: int | None = None,
        timeout: float | None = None,
    ) -> bytes | None:
        query = encode_get_entries((self._key(key),))
        answer = await self._ask(query, consistency, min_revision, timeout)
        (entry,) = decode_entries(answer).entries
        return None if entry is None else entry.value

    async def get_entry(
        self,
        key: Text,
        *,
        consistency: Consistency = "linearizable",
        min_revision: int | None = None,
        timeout: float | None = None,
    ) -> KeyValue | None:
        query = encode_get_entries((self._key(key),))
        answer = await self._ask(query, consistency, min_revision, timeout)
        (entry,) = decode_entries(answer).entries
        return entry

    async def get_multi(
        self,
        keys: Sequence[Text],
        *,
        consistency: Consistency = "linearizable",
        min_revision: int | None = None,
        timeout: float | None = None,
    ) -> list[bytes | None]:
        if isinstance(keys, bytes | str):
            raise InvalidRequestError("get_multi takes a sequence of keys, not one key")
        query = encode_get_entries([self._key(key) for key in keys])
        answer = await self._ask(query, consistency, min_revision, timeout)
        return [None if entry is None else entry.value for entry in decode_entries(answer).entries]

    async def scan_prefix(
        self,
        prefix: Text,
        *,
        limit: int | None = None,
        after: Text | None = None,
        consistency: Consistency = "linearizable",
        min_revision: int | None = None,
        timeout: float | None = None,
    ) -> Scan:
        if limit is not None and not 1 <= limit <= MAX_U63:
            raise InvalidRequestError(f"a scan's limit must be at least 1, not {limit}")
        behind = None if after is None else self._key(after)
        query = encode_scan_prefix(self._key(prefix), limit or 0, behind)
        scan = decode_scan(await self._ask(query, consistency, min_revision, timeout))
        if scan.more and limit is None:
            raise InvalidRequestError(
                f"the entries under {prefix!r} exceed what one answer holds ({len(scan.items)} fit): "
                "read them in pages, with `limit` and `after`"
            )
        return scan

    # --- writing -------------------------------------------------------------------------------------------------

    async def put(
        self,
        key: Text,
        value: Text,
        *,
        lease: Lease | int | None = None,
        ttl: float | None = None,
        keep_lease: bool = False,
        previous: bool = False,
        timeout: float | None = None,
    ) -> WriteResult:
        # The usual put, bytes within the limits, goes through without a call that it can do without.
        if type(key) is not bytes or len(key) > self.max_key_bytes:
            key = self._key(key)
        if type(value) is not bytes or len(value) > self.max_value_bytes:
            value = self._value(value)
        if timeout is not None:
            check_timeout(timeout)
        if lease is None and ttl is None and not keep_lease:
            command = encode_put(key, value, previous)
        else:
            command = encode_held_put(key, value, previous, *hold_of(lease, ttl, keep_lease))
        result = await self._write(command, timeout, previous)
        if len(result) == RESULT.size:
            status, revision = RESULT.unpack(result)
            if status == WRITTEN:
                return WriteResult(revision)
        decoded = decode_put(result)
        return WriteResult(decoded.revision, decoded.previous)

    async def delete(
        self, key: Text, *, previous: bool = False, timeout: float | None = None
    ) -> DeleteResult:
        command = encode_delete(self._key(key), previous)
        if timeout is not None:
            check_timeout(timeout)
        return decode_delete(await self._write(command, timeout, previous))

    async def compare_and_swap(
        self,
        key: Text,
        expected: Text | None,
        value: Text,
        *,
        lease: Lease | int | None = None,
        ttl: float | None = None,
        keep_lease: bool = False,
        timeout: float | None = None,
    ) -> bool:
        old = None if expected is None else self._value(expected)
        hold, number = hold_of(lease, ttl, keep_lease)
        command = encode_compare_and_swap(self._key(key), old, self._value(value), hold, number)
        if timeout is not None:
            check_timeout(timeout)
        return decode_compare_and_swap(await self._write(command, timeout, False)).succeeded

    # --- inside --------------------------------------------------------------------------------------------------

    def _key(self, key: Text) -> bytes:
        data = key.encode() if isinstance(key, str) else key
        check_key(data, self.max_key_bytes)
        return data

    def _value(self, value: Text) -> bytes:
        data = value.encode() if isinstance(value, str) else value
        check_value(data, self.max_value_bytes)
        return data

    def _ask(
        self, query: bytes, consistency: str, min_revision: int | None, timeout: float | None
    ) -> "Future[bytes]":
        policy = _POLICIES.get(consistency)
        if policy is None:
            raise InvalidRequestError(f"the consistency {consistency!r} is none of {', '.join(_POLICIES)}")
        if min_revision is None:
            min_revision = 0
        elif not 1 <= min_revision <= MAX_U63:
            raise InvalidRequestError(f"min_revision must be at least 1, not {min_revision}")
        if timeout is not None:
            check_timeout(timeout)
        return self._read(policy, min_revision, query, timeout)
