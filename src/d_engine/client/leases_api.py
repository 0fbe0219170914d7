"""The part of the `Client` interface that is about leases."""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager

from msgspec import Struct

from d_engine.client.lease import Lease
from d_engine.client.operations import Consistency


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


class LeasesApi(ABC):
    """Inherited by `Client`, which says what errors every method may raise. Leases are those of etcd, except that one
    never ends early when the leader changes or clocks are wrong: they are counted in log time (docs/design/leases.md).
    """

    @abstractmethod
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

    @abstractmethod
    async def grant_lease(self, ttl: float, *, timeout: float | None = None) -> LeaseInfo:
        """A lease of `ttl` seconds that nobody keeps alive. Raises `LeaseLimitError` if there are too many.

        Example::

            granted = await client.grant_lease(60)
            await client.put("announcement", "back in a minute", lease=granted.id)
        """

    @abstractmethod
    async def keep_alive(self, *leases: Lease | int, timeout: float | None = None) -> list[bool]:
        """Let leases live their whole TTL from now on, many with one command. Says for each whether it exists.

        Example::

            granted = await client.grant_lease(60)
            assert await client.keep_alive(granted.id, 123456) == [True, False]
        """

    @abstractmethod
    async def revoke_lease(self, lease: Lease | int, *, timeout: float | None = None) -> int:
        """End a lease now. Its keys go, all at one revision; returns how many. Raises `LeaseNotFoundError` if it does
        not exist (any more).

        Example::

            granted = await client.grant_lease(60)
            await client.put("announcement", "soon gone", lease=granted.id)
            assert await client.revoke_lease(granted.id) == 1
        """

    @abstractmethod
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

    @abstractmethod
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
