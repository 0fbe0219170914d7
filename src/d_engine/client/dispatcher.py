"""Which node to ask, and what to do when it does not answer.

All calls go over one link to one node: to the leader where it is known and can be reached, because every other node
only adds a hop, else to any. So what a client reads eventually is what the node knows that took its writes. When the
link breaks, what was not answered is sent again, byte for byte, over the next one, until the call's deadline. Then
the call ends: as *not applied* if it changes nothing, or no copy of it ever left, or each was refused; else as outcome
unknown.
"""

import asyncio
from collections.abc import Iterable

from d_engine.client.deadlines import Sweeper
from d_engine.client.dialer import NETWORK, Dialer, Outside
from d_engine.client.endpoints import Endpoints
from d_engine.client.link import SEND_LIMIT_BYTES, Call, Link
from d_engine.client.pulse import Pulse
from d_engine.format.errors import (
    DEngineError,
    EngineStoppedError,
    NotAppliedError,
    NotAppliedTimeoutError,
    OutcomeUnknownError,
    OutcomeUnknownTimeoutError,
    UnavailableError,
    error_from_code,
)
from d_engine.format.ids import ClusterId, NodeId
from d_engine.format.requests import Failure, Response, WatchEnded
from d_engine.runtime.connection import Connection

RESEND_SECONDS = 0.1
_ELSEWHERE = (EngineStoppedError.code, UnavailableError.code)


class Dispatcher:
    """Carries calls to the cluster. Everything happens on one loop."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        endpoints: Endpoints,
        cluster_id: ClusterId = 0,
        outside: Outside = NETWORK,
    ) -> None:
        self._loop = loop
        self._endpoints = endpoints
        self._link: Link | None = None
        self._links: dict[Link, None] = {}
        self._waiting: list[Call] = []
        self._ready: list[asyncio.Future[None]] = []
        self._closed = False
        self.dialer = Dialer(loop, endpoints, cluster_id, self._wanted, self._established, outside)
        self._sweeper = Sweeper(loop, self._sweep)
        self._pulse = Pulse(loop, endpoints, self._send, self.dialer.go_to)

    # --- for the client ------------------------------------------------------------------------------------------

    async def connect(self, timeout: float) -> None:
        """Wait until there is a link. Raises `UnavailableError` that names all endpoints."""
        ready = self._loop.create_future()
        self._ready.append(ready)
        self.dialer.look()
        try:
            async with asyncio.timeout(timeout):
                await ready
        except TimeoutError:
            raise UnavailableError(
                f"no endpoint could be reached within {timeout:g} s: {self._endpoints.describe()}"
            ) from None
        finally:
            self._ready.remove(ready)

    def start(self, call: Call) -> None:
        """Take care of the call: its `done` is called once, later."""
        if self._closed:
            self._loop.call_soon(call.done, EngineStoppedError("the client is closed"))
        elif self._link is not None:
            self._send(self._link, call)
        else:
            self._sweeper.announce(call.deadline)
            self._waiting.append(call)
            self.dialer.look()
        self._pulse.active()

    @property
    def address(self) -> str:
        """Of the node that is used now, or that would be tried first."""
        return self._endpoints.order(self._loop.time())[0] if self._link is None else self._link.address

    async def closed(self) -> None:
        """Wait until all connections are closed, after `end`."""
        await self.dialer.stop()
        while self._links:
            # Each closes within its linger time, and says so to `lost`.
            gone = self._loop.create_future()
            self._ready.append(gone)
            await gone

    def others(self) -> list[str]:
        """Where there are nodes besides the one that is asked now, the likeliest first."""
        current = None if self._link is None else self._link.address
        return [address for address in self._endpoints.order(self._loop.time()) if address != current]

    def end(self) -> None:
        """End everything: whoever waits is told. May be repeated."""
        self._closed = True
        self._sweeper.stop()
        self._pulse.stop()
        waiting, self._waiting = self._waiting, []
        for link in list(self._links):
            link.lose_watches(EngineStoppedError("the client is closed"))
            calls, link.calls = link.calls, {}
            for call in calls.values():
                call.doubtful = call.doubtful or call.changes
            waiting += calls.values()
            link.connection.close()
        for call in waiting:
            if call.doubtful:
                call.done(OutcomeUnknownError("the client was closed while the request was on its way"))
            else:
                call.done(EngineStoppedError("the client is closed"))

    # --- what links tell -----------------------------------------------------------------------------------------

    def answered(self, link: Link, call: Call, response: Response) -> None:
        """An answer came."""
        if isinstance(response, Failure) or (
            isinstance(response, WatchEnded) and response.code in _ELSEWHERE
        ):
            self._failed(link, call, error_from_code(response.code, response.text))
        else:
            call.done(response)
        self._release(link)

    def lost(self, link: Link, reason: DEngineError | None) -> None:
        """A connection ended: what it owes is asked for elsewhere."""
        del self._links[link]
        if self._closed:
            self._tell_ready()
            return
        why = reason or UnavailableError(f"{link.address} closed the connection")
        link.lose_watches(why)
        calls, link.calls = list(link.calls.values()), {}
        for call in calls:
            call.doubtful = call.doubtful or call.changes
            if call.repeatable:
                self._waiting.append(call)
            else:
                call.done(OutcomeUnknownError(f"the request was sent, then the connection ended: {why}"))
        if link is self._link:
            self._leave(link, why)
        else:
            self._flush()

    def _failed(self, link: Link, call: Call, error: DEngineError) -> None:
        if isinstance(error, EngineStoppedError | UnavailableError):
            # This node does not serve any more, and did nothing with the call: others may.
            self._waiting.append(call)
            self._leave(link, error)
        elif not call.changes:
            call.done(error)
        elif type(error) is OutcomeUnknownError and call.repeatable and not call.asked_again:
            # A node that stops says so too. Its session knows the group, so the result can be had elsewhere.
            call.asked_again = call.doubtful = True
            self._send_again(call)
        elif isinstance(error, NotAppliedError) and call.doubtful:
            # This copy was refused, an earlier one may be on its way: only a result will tell.
            self._send_again(call)
        elif isinstance(error, NotAppliedError | OutcomeUnknownError):
            call.done(error)
        else:
            call.done(OutcomeUnknownError(f"{link.address} failed: {error.code}: {error}"))

    def _send_again(self, call: Call) -> None:
        self._waiting.append(call)
        self._loop.call_later(RESEND_SECONDS, self._flush)

    def _release(self, link: Link) -> None:
        """A link that is used no more stays until it has brought what it owes."""
        if link is not self._link and not link.calls:
            link.connection.close()

    # --- the link ------------------------------------------------------------------------------------------------

    def _send(self, link: Link, call: Call) -> None:
        now = self._loop.time()
        self._sweeper.announce(call.deadline)
        link.send(call, now)

    def _leave(self, link: Link, why: DEngineError) -> None:
        """Ask this node nothing more."""
        self._endpoints.failed(link.address, why, self._loop.time())
        if link is self._link:
            self._link = None
        link.stop_watches(why)
        self._flush()

    def _flush(self) -> None:
        """Send what waits, or see to it that it can be."""
        if self._closed or not self._waiting:
            return
        if self._link is None:
            self.dialer.look()
            return
        waiting, self._waiting = self._waiting, []
        for call in waiting:
            self._send(self._link, call)

    def _wanted(self) -> bool:
        return self._link is None and not self._closed and bool(self._waiting or self._ready)

    def _established(self, connection: Connection, address: str, node_id: NodeId) -> None:
        link = Link(self, connection, address, node_id)
        connection.establish(link, SEND_LIMIT_BYTES)
        self._links[link] = None
        if self._closed:
            connection.abort()
            return
        before, self._link = self._link, link
        if before is not None:
            before.stop_watches(
                UnavailableError(f"{address} is asked from now on, and {before.address} no more")
            )
            self._release(before)
        self._pulse.watch(link)
        self._tell_ready()
        self._flush()

    def _tell_ready(self) -> None:
        for ready in self._ready:
            if not ready.done():
                ready.set_result(None)

    # --- the end of time -----------------------------------------------------------------------------------------

    def _sweep(self, now: float) -> float | None:
        late = [call for call in self._waiting if call.deadline <= now]
        self._waiting = [call for call in self._waiting if call.deadline > now]
        for call in late:
            call.done(_late_unsent(call, self._endpoints))
        for link in list(self._links):
            for number, call in list(link.calls.items()):
                if call.deadline <= now:
                    del link.calls[number]
                    call.done(_late_sent(call, link))
            self._release(link)
        return min((call.deadline for call in self._all()), default=None)

    def _all(self) -> Iterable[Call]:
        yield from self._waiting
        for link in self._links:
            yield from link.calls.values()


def _late_unsent(call: Call, endpoints: Endpoints) -> DEngineError:
    if call.doubtful:
        return OutcomeUnknownTimeoutError(
            "the write was sent, then its connection ended or its node failed, and no other node told its result "
            f"in time: {endpoints.describe()}"
        )
    return UnavailableError(f"no endpoint could serve in time, nothing was changed: {endpoints.describe()}")


def _late_sent(call: Call, link: Link) -> DEngineError:
    if call.changes:
        return OutcomeUnknownTimeoutError(
            f"the request was sent to {link.address} and no result came in time"
        )
    return NotAppliedTimeoutError(f"the request was sent to {link.address} and no answer came in time")
