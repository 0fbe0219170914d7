"""A remote client's watches: lines over the link that everything goes over, and over others if need be.

A node keeps as much history as its memory allows, and since its own start. What one has let go another may still have:
so before a watch is told that its events are gone, the other members are asked, each over a connection of its own that
is kept for such watches.
"""

import asyncio
from collections.abc import Callable

from d_engine.client.dispatcher import Dispatcher
from d_engine.client.endpoints import Endpoints
from d_engine.client.feed import WatchSink, check_loop
from d_engine.client.link import Call, Link
from d_engine.format.errors import (
    CompactedError,
    DEngineError,
    EngineStoppedError,
    MalformedError,
    ProtocolError,
    WatchLaggedError,
    error_from_code,
)
from d_engine.format.requests import (
    Response,
    Watch,
    WatchEnded,
    WatchEvents,
    WatchProgress,
    WatchStarted,
)
from d_engine.kv.watching import Selection, decode_events, encode_selection
from d_engine.runtime.fork import ForkGuard


def error_of(ended: WatchEnded) -> DEngineError:
    """Why a watch ended, as the node said."""
    if ended.code == CompactedError.code:
        return CompactedError(ended.text, ended.revision)
    if ended.code == WatchLaggedError.code:
        return WatchLaggedError(ended.text, ended.revision)
    return error_from_code(ended.code, ended.text)


class _Line:
    """One watch, from the question to its end: a `LinkWatch`, and a `WatchLine` for its sink."""

    def __init__(
        self, watches: "RemoteWatches", selection: bytes, since: int | None, timeout: float, sink: WatchSink
    ) -> None:
        self._watches = watches
        self._selection = selection
        self._since = since
        self._timeout = timeout
        self._sink = sink
        self._link: Link | None = None
        self._number = 0
        self._over = False
        self._others: list[str] | None = None
        self._compacted: DEngineError | None = None

    def ask(self, dispatcher: Dispatcher) -> None:
        """Ask the node that this dispatcher leads to."""
        deadline = self._watches.loop.time() + self._timeout
        dispatcher.start(Call(self._make, deadline, self._answered, watch=self))

    def _make(self, number: int, timeout_ms: int) -> Watch:
        return Watch(number, timeout_ms, self._since, self._selection)

    def _answered(self, answer: Response | DEngineError) -> None:
        if self._over or isinstance(answer, WatchStarted):
            return
        if isinstance(answer, WatchEnded):
            self._end(error_of(answer))
        elif isinstance(answer, DEngineError):
            self._end(answer)
        else:
            self._end(ProtocolError(f"a watch was answered with a {type(answer).__name__}"))

    def _end(self, error: DEngineError) -> None:
        if self._over:
            return
        self._link = None
        if isinstance(error, CompactedError) and self._others is None:
            self._compacted, self._others = error, self._watches.others()
        if self._others and not self._watches.ended:
            self.ask(self._watches.detour(self._others.pop()))
            return
        self._over = True
        # If nobody has it, the first answer is as good as any.
        self._sink.ended(self._compacted or error)

    # --- from the link -----------------------------------------------------------------------------------------------

    def began(self, link: Link, started: WatchStarted) -> None:
        self._link, self._number = link, started.request
        if self._over:
            link.control(self._number, stop=True)
        else:
            self._sink.started(self, started.revision, started.window)

    def came(self, response: WatchEvents | WatchProgress | WatchEnded) -> None:
        if isinstance(response, WatchEnded):
            self.lost(error_of(response))
        elif isinstance(response, WatchProgress):
            self._sink.progress(response.revision)
        else:
            try:
                events = decode_events(response.events)
            except MalformedError as error:
                if self._link is not None:
                    self._link.connection.abort(error)
                return
            self._sink.events(response.revision, events)

    def lost(self, reason: DEngineError) -> None:
        self._link = None
        if not self._over:
            self._over = True
            self._sink.ended(reason)

    # --- for the sink ------------------------------------------------------------------------------------------------

    def take(self, size: int) -> None:
        if self._link is not None:
            self._link.control(self._number, taken=size)

    def ask_progress(self) -> None:
        if self._link is not None:
            self._link.control(self._number, progress=True)

    def stop(self) -> None:
        self._over = True
        link, self._link = self._link, None
        if link is not None:
            link.control(self._number, stop=True)


class RemoteWatches:
    """A `WatchTransport`. `end` and `closed` as with the dispatcher."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        dispatcher: Dispatcher,
        timeout: float,
    ) -> None:
        self.loop = loop
        self._dispatcher = dispatcher
        self._timeout = timeout
        self._guard = ForkGuard()
        self._detours: dict[str, Dispatcher] = {}
        self.ended = False

    def check(self) -> None:
        """Raise `ForkedError` in another process, `InvalidRequestError` on another loop. A closed client ends its
        watches by itself."""
        self._guard.check()
        check_loop(self.loop)

    def open(
        self, selection: Selection, since: int | None, timeout: float | None, sink: WatchSink
    ) -> Callable[[], None]:
        """See `WatchTransport`."""
        line = _Line(self, encode_selection(selection), since, timeout or self._timeout, sink)
        line.ask(self._dispatcher)
        return line.stop

    def can_resume(self, error: DEngineError, served: bool) -> bool:
        """What is lost for good does not come back, and a closed client does nothing more. A node under whose watch the
        state was replaced by a snapshot has only asked itself."""
        if self.ended:
            return False
        return isinstance(error, ConnectionError | TimeoutError | EngineStoppedError | WatchLaggedError) or (
            served and isinstance(error, CompactedError)
        )

    def others(self) -> list[str]:
        """Nodes that may have kept what the one that was asked has not, the likeliest last."""
        return self._dispatcher.others()[::-1]

    def detour(self, address: str) -> Dispatcher:
        """The way to this node and no other."""
        known = self._detours.get(address)
        if known is None:
            endpoints, dialer = Endpoints([address], discover=False), self._dispatcher.dialer
            known = Dispatcher(self.loop, endpoints, dialer.cluster_id, dialer.outside)
            self._detours[address] = known
        return known

    def end(self) -> None:
        """The client is closed."""
        self.ended = True
        for dispatcher in self._detours.values():
            dispatcher.end()

    async def closed(self) -> None:
        """Wait until the connections are."""
        for dispatcher in self._detours.values():
            await dispatcher.closed()
