"""The part of the `Client` interface that is about leases."""

import asyncio
from asyncio import AbstractEventLoop
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import cached_property

from msgspec import Struct

from d_engine.client.lease import MIN_KEPT_TTL_SECONDS, SECOND, Lease, LeaseKeeper, lease_number, ttl_ns
from d_engine.client.operations import Consistency
from d_engine.client.primitives import Primitives, check_timeout
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


class LeaseInfo(Struct, frozen=True):
    """A lease as the node that was asked knows it. `ttl` and `remaining` are seconds; `key_count` keys hang on it, and
    `keys` names them, if this one lease was asked for. `single`: it came with a key that was put with a TTL.

    Example::

        await client.put("session/anna/2", "token", ttl=60)
        entry = await client.get_entry("session/anna/2")
        info = await client.lease_info(entry.lease)
        assert info.single and info.keys == (b"session/anna/2",) and 0 < info.remaining <= info.ttl == 60
    """

    id: int
    ttl: float
    remaining: float
    key_count: int = 0
    single: bool = False
    keys: tuple[bytes, ...] = ()


class LeaseList(Struct, frozen=True):
    """Leases by rising id, at a revision. `more`: there are others behind the last one.

    Example::

        for _ in range(3):
            await client.grant_lease(60)
        page = await client.leases(limit=2)
        rest = await client.leases(after=page.items[-1].id)
        assert page.more and len(rest.items) == 1 and not rest.more
    """

    revision: int
    items: tuple[LeaseInfo, ...]
    more: bool


class Leases(Primitives):
    """Inherited by `Client`, which says what errors every method may raise. Leases are those of etcd, except that one
    never ends early when the leader changes or clocks are wrong: they are counted in log time (docs/design/leases.md).
    """

    _clock: Callable[[], Nanoseconds] = staticmethod(boot_time_ns)

    def lease(self, ttl: float, *, timeout: float | None = None) -> AbstractAsyncContextManager[Lease]:
        """A lease of `ttl` seconds (at least 0.3) that is kept alive in the background as long as the block runs, and
        revoked at its end: then the keys on it go, all at one revision. If it cannot be revoked it ends by itself, at
        the latest one TTL after the last keep-alive.

        `Lease.lost` can be awaited: it comes when this client must no longer act as if it held the lease, a tenth of
        the TTL (at least 0.1 s) before that could end, whether or not the cluster can be reached. Who does something
        that only a holder may do also passes on the revision of a key that it wrote with the lease, as a fencing
        token: a process may stand still between looking and acting. Raises `LeaseLimitError` if there are too many.

        Example::

            async with client.lease(10) as lease:
                await client.put("service/web/1", "10.0.0.1:80", lease=lease)
                print(lease.id, lease.remaining(), lease.lost.is_set())
        """
        if not ttl >= MIN_KEPT_TTL_SECONDS:
            raise InvalidRequestError(
                f"a lease that is to be kept alive needs a TTL of at least {MIN_KEPT_TTL_SECONDS} s, not {ttl!r}"
            )
        ttl_ns(ttl)
        return self._held(ttl, timeout)

    async def grant_lease(self, ttl: float, *, timeout: float | None = None) -> LeaseInfo:
        """A lease of `ttl` seconds that nobody keeps alive. Raises `LeaseLimitError` if there are too many.

        Example::

            granted = await client.grant_lease(60)
            await client.put("announcement", "back in a minute", lease=granted.id)
        """
        granted = await self._grant(ttl, timeout)
        return LeaseInfo(granted.id, granted.ttl / SECOND, granted.ttl / SECOND)

    async def keep_alive(self, *leases: Lease | int, timeout: float | None = None) -> list[bool]:
        """Let leases live their whole TTL from now on, many with one command. Says for each whether it exists.

        Example::

            granted = await client.grant_lease(60)
            assert await client.keep_alive(granted.id, 123456) == [True, False]
        """
        numbers = list(map(lease_number, leases))
        if not 1 <= len(numbers) <= MAX_KEPT:
            raise InvalidRequestError(f"1 to {MAX_KEPT} leases are kept alive at a time, not {len(numbers)}")
        if timeout is not None:
            check_timeout(timeout)
        result = await self._write(encode_keep_alive(numbers), timeout, True)
        return [ttl > 0 for ttl in decode_kept(result, len(numbers))]

    async def revoke_lease(self, lease: Lease | int, *, timeout: float | None = None) -> int:
        """End a lease now. Its keys go, all at one revision; returns how many. Raises `LeaseNotFoundError` if it does
        not exist (any more).

        Example::

            granted = await client.grant_lease(60)
            await client.put("announcement", "soon gone", lease=granted.id)
            assert await client.revoke_lease(granted.id) == 1
        """
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
        """A lease with its keys; None if it does not exist (any more). `remaining` is what is left as far as the node
        that is asked knows; a lease that is due may still exist for a moment.

        Example::

            granted = await client.grant_lease(60)
            info = await client.lease_info(granted.id)
            print(info.remaining, info.keys)
        """
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
        """The leases with ids greater than `after`, at most `limit` (1 to 1000), without their keys. Those that came
        with a key that was put with a TTL are among them.

        Example::

            page = await client.leases(limit=100)
            for info in page.items:
                print(info.id, info.ttl, info.remaining, info.key_count)
        """
        if not 0 <= after <= MAX_U63 or not 1 <= limit <= MAX_LEASES_LISTED:
            raise InvalidRequestError(
                f"1 to {MAX_LEASES_LISTED} leases are listed behind an id, not {limit} behind {after}"
            )
        answer = decode_leases(await self._ask(encode_list_leases(after, limit), consistency, None, timeout))
        return LeaseList(answer.revision, tuple(map(_info, answer.items)), answer.more)

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

    async def _grant(self, ttl: float, timeout: float | None) -> LeaseGranted:
        command = encode_grant(ttl_ns(ttl))
        if timeout is not None:
            check_timeout(timeout)
        return decode_granted(await self._write(command, timeout, False))

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
