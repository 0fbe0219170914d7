"""The part of the `Client` interface that is about keys one by one.

The paths of `put` and `get` are short on purpose: they run once per operation, everything behind them once per batch.
"""

from collections.abc import Sequence

from d_engine.client.lease import Lease
from d_engine.client.operations import Consistency, Text, WriteResult
from d_engine.client.primitives import Primitives, check_timeout
from d_engine.client.translation import hold_of
from d_engine.format.errors import InvalidRequestError
from d_engine.format.ids import MAX_U63
from d_engine.kv.commands import encode_compare_and_swap, encode_delete, encode_held_put, encode_put
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


class SingleKeys(Primitives):
    """Inherited by `Client`, which says what errors every method may raise."""

    # --- reading -------------------------------------------------------------------------------------------------

    async def get(
        self,
        key: Text,
        *,
        consistency: Consistency = "linearizable",
        min_revision: int | None = None,
        timeout: float | None = None,
    ) -> bytes | None:
        """The value under `key`, None if there is none.

        `consistency` (Raft dissertation, section 6.4):

        * "linearizable": sees every write that was acknowledged anywhere before the call.
        * "lease": the same, as long as the clocks of the members run at nearly the same pace. Without a round trip on
          a leader; served as linearizable unless the cluster's configuration allows it.
        * "eventual": what the node that is asked has applied; may be old.

        `min_revision` (at least 1) waits until the node has reached that revision, for example one that another
        client got from a write.

        Example::

            written = await client.put("greeting", "hello")
            assert await client.get("greeting") == b"hello"
            assert await client.get("greeting", consistency="eventual", min_revision=written.revision) == b"hello"
            assert await client.get("nobody wrote this") is None
        """
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
        """The value under `key` with `create_revision`, `mod_revision`, `version` and `lease`. Otherwise as `get`.

        Example::

            written = await client.put("greeting", "hello")
            entry = await client.get_entry("greeting")
            assert (entry.value, entry.mod_revision) == (b"hello", written.revision)
        """
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
        """The values of several keys at one moment, in the order of `keys`, None where there is none. Together they
        must not exceed 8 MiB. Otherwise as `get`.

        Example::

            await client.put("host", "10.0.0.1")
            assert await client.get_multi(["host", "port"]) == [b"10.0.0.1", None]
        """
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
        """All entries whose keys begin with `prefix` (b"": all), by rising key, at one moment: `Scan.items`, and the
        `Scan.revision` of that moment. Otherwise as `get`.

        Without `limit` the answer is complete; more than 8 MiB of it raise `InvalidRequestError`. With `limit`
        (at least 1), or where 8 MiB are reached, `Scan.more` says that there is more: ask again `after` the last key
        that came. Each page is of a moment of its own.

        Example::

            await client.put("service/web/1", "10.0.0.1:80")
            found = await client.scan_prefix("service/")
            print(found.revision, [(entry.key, entry.value) for entry in found.items])
        """
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
        """Set `key` to `value`. It stays until it is deleted; with `lease`, until that lease ends; with `ttl` (seconds,
        0.01 or more), for so long; with `keep_lease`, as long as it would have stayed. (So a plain put over a key that
        had a TTL makes it stay.) Raises `LeaseNotFoundError` or `LeaseLimitError`; nothing was written then.

        With `previous`, the result holds the entry that was replaced; such writes travel in smaller groups, because
        their results may be large.

        Example::

            written = await client.put("greeting", "hello")
            print("visible from revision", written.revision, "on")
            await client.put("session/anna", "token", ttl=2.5)
            async with client.lease(10) as lease:
                await client.put("service/web/1", "10.0.0.1:80", lease=lease)
            replaced = await client.put("greeting", "good bye", previous=True)
            assert replaced.previous.value == b"hello"
        """
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
        """Remove `key`. `DeleteResult.deleted` is false if it did not exist. `previous` as with `put`.

        Example::

            await client.put("greeting", "hello")
            assert (await client.delete("greeting")).deleted
            assert not (await client.delete("greeting")).deleted
        """
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
        """Set `key` to `value` if it holds `expected` at that moment; `expected=None`: if it does not exist. Returns
        whether it did. False is an answer, not an error. `lease`, `ttl` and `keep_lease` as with `put`.

        Example::

            assert await client.compare_and_swap("leader", None, "me")
            assert not await client.compare_and_swap("leader", None, "somebody else")
            assert await client.compare_and_swap("leader", "me", "you")
        """
        old = None if expected is None else self._value(expected)
        hold, number = hold_of(lease, ttl, keep_lease)
        command = encode_compare_and_swap(self._key(key), old, self._value(value), hold, number)
        if timeout is not None:
            check_timeout(timeout)
        return decode_compare_and_swap(await self._write(command, timeout, False)).succeeded
