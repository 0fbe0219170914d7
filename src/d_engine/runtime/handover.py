"""Handing work from a caller's loop to the engine's thread, and results back.

The rule that makes it safe: **a list has one owner at a time**. The producing thread appends to its own list; once in
a loop turn it passes the finished list as the argument of `call_soon_threadsafe` and never touches it again. No list is
swapped by one thread while another appends to it, and one wake-up of the other loop carries a whole batch.

`Crossing` is one direction of that. `Desk` is a pair of them with a callback for each request: one desk for each loop
that uses the engine. A loop that is closed drops the results that were on their way to it, and nothing else. When the
engine ends, every request that has no answer fails, also those that were handed over and never looked at: with
`OutcomeUnknownError` if it was in doubt by then, else with `EngineStoppedError`.
"""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

from d_engine.format.errors import DEngineError, OutcomeUnknownError
from d_engine.runtime.thread import EngineThread
from d_engine.runtime.turn import at_end

_Item = TypeVar("_Item")
_Request = TypeVar("_Request")
_Answer = TypeVar("_Answer")


class Crossing(Generic[_Item]):
    """From one loop to another, a batch each turn. `put` belongs to the source loop's thread; `deliver` gets the lists
    on the target's. If the target is closed, `lost` gets them instead, on the source's thread."""

    __slots__ = ("_deliver", "_items", "_lost", "_source", "_target")

    def __init__(
        self,
        source: asyncio.AbstractEventLoop,
        target: asyncio.AbstractEventLoop,
        deliver: Callable[[list[_Item]], None],
        lost: Callable[[list[_Item]], None],
    ) -> None:
        self._source = source
        self._target = target
        self._deliver = deliver
        self._lost = lost
        self._items: list[_Item] = []

    def put(self, item: _Item) -> None:
        """Goes over at the end of this turn."""
        items = self._items
        if not items:
            at_end(self._source, self._drain)
        items.append(item)

    def _drain(self) -> None:
        items, self._items = self._items, []
        self.hand_over(items)

    def hand_over(self, items: list[_Item]) -> None:
        """Goes over at once: for a producer that has gathered them itself."""
        try:
            self._target.call_soon_threadsafe(self._deliver, items)
        except RuntimeError:
            # What the loops say when they are closed. Anything else that could raise it is not in this line.
            self._lost(items)


class Ticket(Generic[_Request, _Answer]):
    """One request on its way. The engine's side reads `request` and answers once; `done` is the caller's."""

    __slots__ = ("_desk", "done", "error", "in_doubt", "request", "result")

    def __init__(
        self, desk: "Desk[_Request, _Answer]", request: _Request, done: "Done[_Request, _Answer]"
    ) -> None:
        self._desk = desk
        self.request = request
        self.done = done
        self.result: _Answer
        """Set unless `error` is."""
        self.error: DEngineError | None = None
        self.in_doubt = False
        """To be set on the engine's thread before the request enters a log or a message: from then on, an end of the
        engine means that the outcome is unknown."""

    def answer(self, result: _Answer) -> None:
        """On the engine's thread, once, instead of `fail`."""
        self.result = result
        self._desk.back.put(self)

    def fail(self, error: DEngineError) -> None:
        """On the engine's thread, once, instead of `answer`."""
        self.error = error
        self._desk.back.put(self)


Done = Callable[[Ticket[_Request, _Answer]], None]
"""Called once, on the caller's loop, when the ticket holds its result or error."""


class Desk(Generic[_Request, _Answer]):
    """Where one loop's callers meet the engine. Make it, use it and close it on that loop's thread. `handle` gets the
    tickets of a turn on the engine's thread and sees to it that each is answered, in any order."""

    def __init__(
        self,
        thread: EngineThread,
        handle: Callable[[list[Ticket[_Request, _Answer]]], None],
        at_once: bool = False,
    ) -> None:
        """`at_once`: a request is a whole turn's batch, and need not wait for others."""
        thread.check()
        self._loop = asyncio.get_running_loop()
        self._thread = thread
        self._at_once = at_once
        self._open: dict[Ticket[_Request, _Answer], None] = {}
        self._there: Crossing[Ticket[_Request, _Answer]] = Crossing(
            self._loop, thread.loop, handle, self._fail
        )
        self.back: Crossing[Ticket[_Request, _Answer]] = Crossing(
            thread.loop, self._loop, self._resolve, self._drop
        )
        """Used by the tickets, on the engine's thread."""
        thread.on_end(self._engine_ended)

    def send(self, request: _Request, done: Done[_Request, _Answer]) -> None:
        """Hand over; `done` comes later. Raises `ForkedError` and `EngineStoppedError`."""
        self._thread.check()
        ticket = Ticket(self, request, done)
        self._open[ticket] = None
        if self._at_once:
            self._there.hand_over([ticket])
        else:
            self._there.put(ticket)

    def submit(self, request: _Request) -> "asyncio.Future[_Answer]":
        """Hand over; the answer to come. Cancelling the future only means that nobody waits for it any more."""
        future: asyncio.Future[_Answer] = self._loop.create_future()

        def done(ticket: Ticket[_Request, _Answer]) -> None:
            if future.done():
                return
            if ticket.error is None:
                future.set_result(ticket.result)
            else:
                future.set_exception(ticket.error)

        self.send(request, done)
        return future

    @property
    def unanswered(self) -> int:
        """How many requests are under way."""
        return len(self._open)

    def close(self) -> None:
        """Nobody will use it any more. Whoever still waits is told that the outcome is unknown: what was handed over
        may be carried out yet."""
        self._thread.off_end(self._engine_ended)
        tickets, self._open = list(self._open), {}
        for ticket in tickets:
            ticket.error = OutcomeUnknownError("the client was closed while the request was under way")
            ticket.done(ticket)

    def abandon(self) -> None:
        """The caller's loop is closed. On any thread."""
        self._thread.off_end(self._engine_ended)
        self._open = {}

    # --- on the caller's thread ----------------------------------------------------------------------------------

    def _resolve(self, tickets: list[Ticket[_Request, _Answer]]) -> None:
        waiting = self._open
        for ticket in tickets:
            if ticket in waiting:
                del waiting[ticket]
                ticket.done(ticket)

    def _fail(self, tickets: list[Ticket[_Request, _Answer]]) -> None:
        for ticket in tickets:
            if ticket not in self._open:
                continue
            del self._open[ticket]
            stopped = self._thread.stopped_error()
            ticket.error = stopped
            if ticket.in_doubt:
                ticket.error = OutcomeUnknownError(f"{stopped}; the request was under way")
            ticket.done(ticket)

    def _fail_all(self) -> None:
        self._fail(list(self._open))

    # --- on the engine's thread ----------------------------------------------------------------------------------

    def _drop(self, tickets: list[Ticket[_Request, _Answer]]) -> None:
        """The caller's loop is closed: nobody waits."""

    def _engine_ended(self, cause: BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._fail_all)
        except RuntimeError:
            return  # the caller's loop is closed: nobody waits
