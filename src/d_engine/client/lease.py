"""A lease that a client keeps alive, and how the client knows that it has lost it.

The lease itself lives in the cluster and is counted in log time (`d_engine.kv.leases`). Here is only what its holder
must know: until when it may act as if it held the lease. It counts from the moment at which it *sent* the last
keep-alive that was acknowledged, on its own boot-time clock (which counts suspended time), and stops a margin before
the TTL is over. The cluster began to count later, when the command reached the leader, and its leases never end early:
so the holder always stops first, unless its clock runs slower than the leader's by more than the margin.

Whether the cluster can be reached does not matter: who hears nothing loses the lease when the time is over, not when
an answer fails to come.
"""

import asyncio
from collections.abc import Callable, Generator
from contextlib import suppress
from functools import partial

from d_engine.format.errors import DEngineError, EngineStoppedError, InvalidRequestError, LeaseNotFoundError
from d_engine.format.ids import MAX_U63, Nanoseconds
from d_engine.kv.lease_commands import MAX_KEPT, encode_keep_alive
from d_engine.kv.leases import MAX_TTL, MIN_TTL
from d_engine.kv.results import decode_kept

SECOND = 1_000_000_000
MIN_KEPT_TTL_SECONDS = 0.3
"""Below, the margin would leave nothing to keep alive."""
MARGIN_PART = 10
MIN_MARGIN: Nanoseconds = SECOND // 10
ATTEMPTS_PER_TTL = 3
RETRY_PART = 10
"""After an attempt that failed, the next one comes a tenth of the TTL later."""
_SMALL_RESULT_LEASES = 6
"""The result of keeping more alive is no small one."""


def ttl_ns(seconds: float) -> Nanoseconds:
    """A TTL in nanoseconds. Raises `InvalidRequestError` if it is none."""
    if not MIN_TTL <= seconds * SECOND <= MAX_TTL:
        raise InvalidRequestError(
            f"a TTL of {seconds} s is out of range: {MIN_TTL / SECOND} to {MAX_TTL / SECOND:.0f} s"
        )
    return int(seconds * SECOND)


def margin_of(ttl: Nanoseconds) -> Nanoseconds:
    """How long before its end a lease counts as lost."""
    return max(ttl // MARGIN_PART, MIN_MARGIN)


_LOOK_SECONDS = 1.0
"""The loop's clock does not count for how long the machine slept: look at the right one so often."""


class LeaseLost:
    """An event that comes once: the lease is lost. To be awaited, or asked with `is_set`; `reason` says why.

    `is_set` looks at the clock, so it is right at that very moment, even after the machine slept. Who waits is woken
    within a second of the loop's running again.
    """

    __slots__ = ("_event", "_passed", "reason")

    def __init__(self, passed: Callable[[], bool]) -> None:
        self.reason = ""
        self._event = asyncio.Event()
        self._passed = passed

    def is_set(self) -> bool:
        """Whether the lease is lost."""
        if not self._event.is_set() and self._passed():
            self.set("no keep-alive was acknowledged in time")
        return self._event.is_set()

    async def wait(self) -> None:
        """Until the lease is lost."""
        await self._event.wait()

    def __await__(self) -> Generator[object, None, None]:
        return self.wait().__await__()

    def set(self, reason: str) -> None:
        """It is lost. The first reason stays."""
        if not self._event.is_set():
            self.reason = reason
            self._event.set()


class Lease:
    """A lease that is held and kept alive, from `Client.lease`. `id` is its number in the cluster, `ttl` in seconds.

    Example::

        async with client.lease(10) as lease:
            await client.put("leader/reports", "me", lease=lease)
            while lease.remaining() > 1 and not lease.lost.is_set():
                print("a piece of work that takes less than a second")
                break
            else:
                await lease.lost
                print("stopped:", lease.lost.reason)
    """

    def __init__(
        self, lease_id: int, ttl: Nanoseconds, sent: Nanoseconds, clock: Callable[[], Nanoseconds]
    ) -> None:
        self.id = lease_id
        self.ttl = ttl / SECOND
        self._ttl = ttl
        self._clock = clock
        self._until: Nanoseconds = 0
        self.next_attempt: Nanoseconds = 0
        """When to keep it alive next, on this client's clock."""
        self.lost = LeaseLost(lambda: clock() >= self._until)
        """Comes when this client must no longer act as if it held the lease: a tenth of the TTL, at least 0.1 s, before
        it could end in the cluster; or when the cluster says that it has ended."""
        self.acknowledged(sent)

    def remaining(self) -> float:
        """For how many seconds this client may still act as if it held the lease, if no keep-alive were acknowledged
        any more. 0 once it is lost."""
        return 0.0 if self.lost.is_set() else max(0, self._until - self._clock()) / SECOND

    @property
    def until(self) -> Nanoseconds:
        """When it is lost, on this client's clock."""
        return self._until

    def acknowledged(self, sent: Nanoseconds) -> None:
        """The cluster has kept it alive by what was sent then."""
        self._until = max(self._until, sent + self._ttl - margin_of(self._ttl))
        self.next_attempt = max(self.next_attempt, sent + self._ttl // ATTEMPTS_PER_TTL)

    def attempted(self, now: Nanoseconds, failed: bool = False) -> None:
        """A keep-alive was sent, or has failed."""
        self.next_attempt = now + self._ttl // (RETRY_PART if failed else ATTEMPTS_PER_TTL)

    def __repr__(self) -> str:
        state = f"lost: {self.lost.reason}" if self.lost.is_set() else f"{self.remaining():.1f} s left"
        return f"<Lease {self.id}, TTL {self.ttl} s, {state}>"


def lease_number(lease: Lease | int) -> int:
    """The id. Raises `LeaseNotFoundError` if this client has lost the lease, `InvalidRequestError` for no id."""
    if isinstance(lease, Lease):
        if lease.lost.is_set():
            raise LeaseNotFoundError(f"lease {lease.id} is lost: {lease.lost.reason}")
        return lease.id
    if type(lease) is not int or not 1 <= lease <= MAX_U63:
        raise InvalidRequestError(f"a lease is given as a `Lease` or by its id, not as {lease!r}")
    return lease


class LeaseKeeper:
    """Keeps the leases of one client on one loop alive: those that are due together, by one command."""

    def __init__(
        self,
        write: "Callable[[bytes, float | None, bool], asyncio.Future[bytes]]",
        clock: Callable[[], Nanoseconds],
    ) -> None:
        self._write = write
        self._clock = clock
        self._leases: dict[int, Lease] = {}
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def add(self, lease: Lease) -> None:
        """Keep this one alive from now on."""
        self._leases[lease.id] = lease
        self._changed.set()
        if self._task is None or self._task.done():
            self._task = asyncio.get_running_loop().create_task(self._run())

    def drop(self, lease: Lease) -> None:
        """Leave this one alone. The last one takes the task with it."""
        self._leases.pop(lease.id, None)
        if not self._leases and self._task is not None:
            self._task.cancel()
            self._task = None

    def end(self, reason: str) -> None:
        """The client is closed: all leases are lost."""
        for lease in list(self._leases.values()):
            self._lose(lease, reason)

    async def _run(self) -> None:
        while self._leases:
            self._changed.clear()
            now = self._clock()
            for lease in [lease for lease in self._leases.values() if lease.lost.is_set()]:
                self._lose(lease, lease.lost.reason)
            due: list[Lease] = []
            if any(lease.next_attempt <= now for lease in self._leases.values()):
                # What is due soon goes along: so leases of the same TTL fall into step.
                due = [
                    lease for lease in self._leases.values() if lease.next_attempt <= now + lease_slack(lease)
                ]
            for start in range(0, len(due), MAX_KEPT):
                self._send(due[start : start + MAX_KEPT], now)
            if not self._leases:
                return
            moments = [min(lease.next_attempt, lease.until) for lease in self._leases.values()]
            with suppress(TimeoutError):
                pause = min(_LOOK_SECONDS, (min(moments) - now) / SECOND)
                await asyncio.wait_for(self._changed.wait(), max(0.001, pause))

    def _send(self, leases: list[Lease], now: Nanoseconds) -> None:
        for lease in leases:
            lease.attempted(now)
        patience = max(0.05, min(lease.until - now for lease in leases) / SECOND)
        command = encode_keep_alive([lease.id for lease in leases])
        try:
            future = self._write(command, patience, len(leases) > _SMALL_RESULT_LEASES)
        except EngineStoppedError as error:
            self.end(str(error))
        except DEngineError:
            self._failed(leases)
        else:
            future.add_done_callback(partial(self._answered, leases, now))

    def _answered(self, leases: list[Lease], sent: Nanoseconds, future: "asyncio.Future[bytes]") -> None:
        if future.cancelled():
            return
        try:
            kept = decode_kept(future.result(), len(leases))
        except EngineStoppedError as error:
            self.end(str(error))
        except DEngineError:
            self._failed(leases)
        else:
            for lease, ttl in zip(leases, kept, strict=True):
                if ttl:
                    lease.acknowledged(sent)
                else:
                    self._lose(lease, "the cluster has ended it: it expired or was revoked")
        self._changed.set()

    def _failed(self, leases: list[Lease]) -> None:
        now = self._clock()
        for lease in leases:
            lease.attempted(now, failed=True)
        self._changed.set()

    def _lose(self, lease: Lease, reason: str) -> None:
        lease.lost.set(reason)
        self.drop(lease)


def lease_slack(lease: Lease) -> Nanoseconds:
    """How much earlier than its time a keep-alive may be sent."""
    return int(lease.ttl * SECOND) // (ATTEMPTS_PER_TTL * 4)
