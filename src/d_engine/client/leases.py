"""Leases in terms of the primitives of `d_engine.client.base`."""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import cached_property

from d_engine.client.cluster import check_timeout
from d_engine.client.lease import MIN_KEPT_TTL_SECONDS, SECOND, Lease, LeaseKeeper, lease_number, ttl_ns
from d_engine.client.leases_api import LeaseInfo, LeaseList
from d_engine.client.many_keys import ManyKeysClient
from d_engine.client.operations import Consistency
from d_engine.format.errors import DEngineError, InvalidRequestError
from d_engine.format.ids import MAX_U63, Nanoseconds
from d_engine.kv.lease_commands import MAX_KEPT, encode_grant, encode_keep_alive, encode_revoke
from d_engine.kv.queries import (
    MAX_LEASES_LISTED,
    LeaseFound,
    decode_leases,
    encode_get_lease,
    encode_list_leases,
)
from d_engine.kv.results import LeaseGranted, decode_granted, decode_kept, decode_lease_ended
from d_engine.runtime.clock import boot_time_ns

_CLOSED = "the client is closed"


class LeasesClient(ManyKeysClient):
    """Implements this part of `Client`."""

    _clock: Callable[[], Nanoseconds] = staticmethod(boot_time_ns)

    def lease(self, ttl: float, *, timeout: float | None = None) -> AbstractAsyncContextManager[Lease]:
        if not ttl >= MIN_KEPT_TTL_SECONDS:
            raise InvalidRequestError(
                f"a lease that is to be kept alive needs a TTL of at least {MIN_KEPT_TTL_SECONDS} s, not {ttl!r}"
            )
        ttl_ns(ttl)
        return self._held(ttl, timeout)

    @asynccontextmanager
    async def _held(self, ttl: float, timeout: float | None) -> AsyncIterator[Lease]:
        sent = self._clock()
        granted = await self._grant(ttl, timeout)
        lease = Lease(granted.id, granted.ttl, sent, self._clock)
        keeper = self._keeper()
        keeper.add(lease)
        try:
            yield lease
        finally:
            keeper.drop(lease)
            # Whatever prevents it: without keep-alives the lease ends by itself.
            with suppress(DEngineError):
                await self.revoke_lease(lease.id, timeout=timeout)
            lease.lost.set("it was given back")

    async def grant_lease(self, ttl: float, *, timeout: float | None = None) -> LeaseInfo:
        granted = await self._grant(ttl, timeout)
        return LeaseInfo(granted.id, granted.ttl / SECOND, granted.ttl / SECOND)

    async def keep_alive(self, *leases: Lease | int, timeout: float | None = None) -> list[bool]:
        numbers = list(map(lease_number, leases))
        if not 1 <= len(numbers) <= MAX_KEPT:
            raise InvalidRequestError(f"1 to {MAX_KEPT} leases are kept alive at a time, not {len(numbers)}")
        if timeout is not None:
            check_timeout(timeout)
        result = await self._write(encode_keep_alive(numbers), timeout, True)
        return [ttl > 0 for ttl in decode_kept(result, len(numbers))]

    async def revoke_lease(self, lease: Lease | int, *, timeout: float | None = None) -> int:
        command = encode_revoke(lease.id if isinstance(lease, Lease) else lease_number(lease))
        if timeout is not None:
            check_timeout(timeout)
        return decode_lease_ended(await self._write(command, timeout, False))

    async def lease_info(
        self,
        lease: Lease | int,
        *,
        consistency: Consistency = "linearizable",
        timeout: float | None = None,
    ) -> LeaseInfo | None:
        query = encode_get_lease(lease.id if isinstance(lease, Lease) else lease_number(lease))
        answer = decode_leases(await self._ask(query, consistency, None, timeout))
        return _info(answer.items[0], answer.keys) if answer.items else None

    async def leases(
        self,
        *,
        after: int = 0,
        limit: int = 1000,
        consistency: Consistency = "linearizable",
        timeout: float | None = None,
    ) -> LeaseList:
        if not 0 <= after <= MAX_U63 or not 1 <= limit <= MAX_LEASES_LISTED:
            raise InvalidRequestError(
                f"1 to {MAX_LEASES_LISTED} leases are listed behind an id, not {limit} behind {after}"
            )
        answer = decode_leases(await self._ask(encode_list_leases(after, limit), consistency, None, timeout))
        return LeaseList(answer.revision, tuple(map(_info, answer.items)), answer.more)

    async def _grant(self, ttl: float, timeout: float | None) -> LeaseGranted:
        command = encode_grant(ttl_ns(ttl))
        if timeout is not None:
            check_timeout(timeout)
        return decode_granted(await self._write(command, timeout, False))

    # --- what is kept alive ---

    @cached_property
    def _keepers(self) -> dict[AbstractEventLoop, LeaseKeeper]:
        return {}

    def _keeper(self) -> LeaseKeeper:
        loop = asyncio.get_running_loop()
        keeper = self._keepers.get(loop)
        if keeper is None:
            for gone in [other for other in self._keepers if other.is_closed()]:
                del self._keepers[gone]
            keeper = self._keepers[loop] = LeaseKeeper(self._write, self._clock)
        return keeper

    def _lose_leases(self) -> None:
        """The client is closed: every holder is told, on its loop."""
        here = asyncio.get_running_loop()
        for loop, keeper in list(self._keepers.items()):
            if loop is here:
                keeper.end(_CLOSED)
            elif not loop.is_closed():
                loop.call_soon_threadsafe(keeper.end, _CLOSED)


def _info(found: LeaseFound, keys: tuple[bytes, ...] = ()) -> LeaseInfo:
    return LeaseInfo(
        found.id, found.ttl / SECOND, found.remaining / SECOND, found.key_count, found.single, keys
    )
