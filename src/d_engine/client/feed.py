"""Where a watch's events come from: a *line* to one node, and another one when it ends.

The line's end is not the watch's: if another one can be had, the watch goes on from the revision up to which it has
heard everything. What it heard of a revision that was not complete is dropped then, and heard again. So whatever
happens on the way, every event comes once, in order.

What came and was not taken is bounded: a node sends no more than a window before it hears that some was taken.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

from msgspec import Struct

from d_engine.format.errors import DEngineError, InvalidRequestError, WatchLaggedError
from d_engine.kv.events import Event
from d_engine.kv.watching import Selection, weigh

RESUME_SECONDS = 0.1
"""Between two attempts. A line that had begun is followed by another one at once."""


class WatchBatch(Struct, frozen=True):
    """All events of one revision that the watch wants, in the order in which they were written. Without events: a
    progress mark, if the watch asked for them: nothing up to `revision` is missing.

    Example::

        async with client.watch(prefix="balance/") as watch:
            paid = await client.txn(then=[Put("balance/anna", "90"), Put("balance/ben", "110")])
            batch = await anext(watch)
            assert batch.revision == paid.revision and len(batch.events) == 2
    """

    revision: int
    events: tuple[Event, ...]


class WatchLine(Protocol):
    """A way to a node that tells events. After `stop`, nothing more is told."""

    def take(self, size: int) -> None: ...

    def ask_progress(self) -> None: ...

    def stop(self) -> None: ...


class WatchSink(Protocol):
    """Who is told what a line brings, on its loop: `started` first; with `events`, everything up to `revision` was
    told; `ended` last, or instead of `started`."""

    def started(self, line: WatchLine, revision: int, window: int) -> None: ...

    def events(self, revision: int, events: Sequence[Event]) -> None: ...

    def progress(self, revision: int) -> None: ...

    def ended(self, error: DEngineError) -> None: ...


class WatchTransport(Protocol):
    """Opens lines. `open` returns what gives the attempt up; it raises nothing. `can_resume`: whether another line may
    be had after one ended so; `served`: it had begun. `check` raises if the engine is gone, or belongs to another
    process, or if the running loop is not the one on which the transport was made."""

    def check(self) -> None: ...

    def open(
        self, selection: Selection, since: int | None, timeout: float | None, sink: WatchSink
    ) -> Callable[[], None]: ...

    def can_resume(self, error: DEngineError, served: bool) -> bool: ...


class WatchWish(NamedTuple):
    """What is to be told; whether progress marks are batches too; how long a node is looked for, in seconds."""

    selection: Selection
    marks: bool
    timeout: float | None


class Feed:
    """Batches, in order, until it fails or is stopped. A `WatchSink` itself."""

    def __init__(
        self,
        transport: WatchTransport,
        wish: WatchWish,
        since: int | None,
    ) -> None:
        self.transport = transport
        self.told = since
        """Up to where everything was heard; None: not begun."""
        self.marks = 0
        """How many progress marks came."""
        self.line: WatchLine | None = None
        self.error: DEngineError | None = None
        self.stopped = False
        self.batches: deque[tuple[WatchBatch, int, WatchLine | None]] = deque()
        self._wish = wish
        self._lagged: DEngineError | None = None
        self._window = 0
        """What the node sends before it hears that some was taken; 0: no line has begun yet."""
        self._taken = 0
        self._partial: list[Event] = []
        self._unsaid = 0
        """What these weigh, as far as the node was not told that they were taken."""
        self._give_up: Callable[[], None] = _nothing
        self._news = asyncio.Event()

    def open(self) -> None:
        """Look for a line."""
        if not self.stopped:
            self._give_up = self.transport.open(self._wish.selection, self.told, self._wish.timeout, self)

    def stop(self) -> None:
        """The end. May be repeated."""
        self.stopped = True
        self.batches.clear()
        self._partial.clear()
        self._give_up()
        self._give_up = _nothing
        if self.line is not None:
            self.line.stop()
            self.line = None
        self._news.set()

    async def wait(self) -> None:
        """Until something may have changed."""
        self._news.clear()
        await self._news.wait()

    def take(self) -> WatchBatch:
        """The next batch, of which there is one."""
        batch, size, line = self.batches.popleft()
        if line is self.line:
            self._took(size)
        self._take_partial()
        return batch

    # --- what the line tells -----------------------------------------------------------------------------------------

    def started(self, line: WatchLine, revision: int, window: int) -> None:
        if self.stopped:
            line.stop()
            return
        self.line, self._window, self._taken = line, window, 0
        self._lagged = None
        self._give_up = _nothing
        self._hear(revision)

    def events(self, revision: int, events: Sequence[Event]) -> None:
        partial = self._partial
        for event in events:
            if partial and event.revision > partial[-1].revision:
                self._complete()
            partial.append(event)
            self._unsaid += weigh(event)
        if partial and partial[-1].revision <= revision:
            self._complete()
        self._take_partial()
        self._hear(revision)

    def progress(self, revision: int) -> None:
        if self._partial and self._partial[-1].revision <= revision:
            self._complete()
        self.marks += 1
        if self._wish.marks and not self._partial and revision > (self.told or 0):
            if self.batches and not self.batches[-1][0].events:
                self.batches.pop()
            self.batches.append((WatchBatch(revision, ()), 0, None))
        self._hear(revision)

    def ended(self, error: DEngineError) -> None:
        served, self.line = self.line is not None, None
        self._give_up = _nothing
        self._partial.clear()
        self._unsaid = 0
        if self.stopped:
            return
        if isinstance(error, WatchLaggedError):
            self._lagged = error
        if self._window and self.transport.can_resume(error, served):
            pause = 0.0 if served else RESUME_SECONDS
            self._give_up = asyncio.get_running_loop().call_later(pause, self.open).cancel
        else:
            # Whoever was too slow, and is told elsewhere that all is gone, is to know that it was too slow.
            self.error = self._lagged or error
            self._news.set()

    def _complete(self) -> None:
        """What was gathered is a whole revision."""
        events = tuple(self._partial)
        self._partial.clear()
        size, self._unsaid = self._unsaid, 0
        revision = events[0].revision
        if revision > (self.told or 0):
            self.batches.append((WatchBatch(revision, events), size, self.line))

    def _hear(self, revision: int) -> None:
        self.told = revision if self.told is None else max(self.told, revision)
        self._news.set()

    def _take_partial(self) -> None:
        """A revision may be larger than the window, so it is taken as it comes. But not while there are others for the
        application to take: else whoever takes nothing is sent one large revision after the other."""
        if self._unsaid and not self.batches:
            size, self._unsaid = self._unsaid, 0
            self._took(size)

    def _took(self, size: int) -> None:
        """Say so, once in a while."""
        self._taken += size
        if self._taken >= self._window // 4 and self.line is not None:
            self.line.take(self._taken)
            self._taken = 0


def check_loop(loop: asyncio.AbstractEventLoop) -> None:
    """Raise `InvalidRequestError` unless this is the running loop."""
    if asyncio.get_running_loop() is not loop:
        raise InvalidRequestError(
            "a watch is used on the event loop on which it was made; make another one here"
        )


def _nothing() -> None:
    """There is nothing to give up."""
