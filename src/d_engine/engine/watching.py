"""An application's watches on the node in its own process: from a caller's loop to the engine's thread, and back.

One `EmbeddedWatches` for each loop that uses the engine. What a turn of the engine tells all watches of a loop comes
over in one hand-over. A loop that is closed takes its watches with it.
"""

import asyncio
from collections.abc import Callable
from functools import partial

from d_engine.client.feed import WatchSink, check_loop
from d_engine.format.errors import DEngineError, EngineStoppedError
from d_engine.kv.events import Event
from d_engine.kv.watching import Selection
from d_engine.replica.watches import Watches
from d_engine.runtime.handover import Crossing
from d_engine.runtime.thread import EngineThread

_Step = Callable[[], None]


class _Line:
    """A watch, as its sink uses it (`WatchLine`)."""

    def __init__(self, watches: "EmbeddedWatches", number: int, sink: WatchSink) -> None:
        self._watches = watches
        self._number = number
        self.sink = sink

    def take(self, size: int) -> None:
        self._watches.there(partial(self._watches.node.take, self._watches, self._number, size))

    def ask_progress(self) -> None:
        self._watches.there(partial(self._watches.node.ask_progress, self._watches, self._number))

    def stop(self) -> None:
        if self._watches.lines.pop(self._number, None) is not None:
            self._watches.there(partial(self._watches.node.close, self._watches, self._number))


class EmbeddedWatches:
    """Make, use and close on the caller's loop. A `WatchTransport` there; on the engine's thread a `WatchOwner`."""

    def __init__(self, thread: EngineThread, node: Watches) -> None:
        self.node = node
        self.lines: dict[int, _Line] = {}
        self._thread = thread
        self._loop = asyncio.get_running_loop()
        self._number = 0
        self._there: Crossing[_Step] = Crossing(self._loop, thread.loop, _take_all, self._never_arrived)
        self._back: Crossing[_Step] = Crossing(thread.loop, self._loop, _take_all, self._nobody_listens)
        self._registered = False

    # --- on the caller's thread ----------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise `ForkedError` or `EngineStoppedError` unless the engine runs; `InvalidRequestError` on another loop."""
        self._thread.check()
        check_loop(self._loop)

    def open(
        self, selection: Selection, since: int | None, timeout: float | None, sink: WatchSink
    ) -> Callable[[], None]:
        """See `WatchTransport`."""
        self._number += 1
        number, line = self._number, _Line(self, self._number, sink)
        self.lines[number] = line
        try:
            if not self._registered:
                self._thread.on_end(self._engine_ended)
                self._registered = True
            self._thread.check()
        except DEngineError as error:
            self._loop.call_soon(self._tell_end, number, error)
        else:
            self.there(partial(self._open_there, number, selection, since))
        return line.stop

    def can_resume(self, error: DEngineError, served: bool) -> bool:
        """There is no other node."""
        return False

    def there(self, step: _Step) -> None:
        """Do this on the engine's thread."""
        self._there.put(step)

    def close(self) -> None:
        """Nobody will use it any more. All watches end."""
        self._thread.off_end(self._engine_ended)
        self._end_all(EngineStoppedError("the engine is stopped"))
        self.there(partial(self.node.close, self))

    def abandon(self) -> None:
        """The caller's loop is closed. On any thread."""
        self._thread.off_end(self._engine_ended)

    def _never_arrived(self, steps: list[_Step]) -> None:
        self._end_all(self._thread.stopped_error())

    def _end_all(self, error: DEngineError) -> None:
        for number in list(self.lines):
            self._tell_end(number, error)

    def _tell_start(self, number: int, revision: int, window: int) -> None:
        line = self.lines.get(number)
        if line is not None:
            line.sink.started(line, revision, window)

    def _tell_events(self, number: int, revision: int, events: list[Event]) -> None:
        line = self.lines.get(number)
        if line is not None:
            line.sink.events(revision, events)

    def _tell_progress(self, numbers: list[int], revision: int) -> None:
        for number in numbers:
            line = self.lines.get(number)
            if line is not None:
                line.sink.progress(revision)

    def _tell_end(self, number: int, error: DEngineError) -> None:
        line = self.lines.pop(number, None)
        if line is not None:
            line.sink.ended(error)

    # --- on the engine's thread ----------------------------------------------------------------------------------

    def _open_there(self, number: int, selection: Selection, since: int | None) -> None:
        try:
            revision = self.node.open(self, number, selection, since)
        except DEngineError as error:
            self._back.put(partial(self._tell_end, number, error))
        else:
            window = self.node.settings.told_window_bytes
            self._back.put(partial(self._tell_start, number, revision, window))

    def events(self, number: int, revision: int, events: list[Event]) -> None:
        """See `WatchOwner`."""
        self._back.put(partial(self._tell_events, number, revision, events))

    def progress(self, numbers: list[int], revision: int) -> None:
        """See `WatchOwner`."""
        self._back.put(partial(self._tell_progress, numbers, revision))

    def ended(self, number: int, error: DEngineError) -> None:
        """See `WatchOwner`."""
        self._back.put(partial(self._tell_end, number, error))

    def _nobody_listens(self, steps: list[_Step]) -> None:
        """The caller's loop is closed."""
        self.node.close(self)

    def _engine_ended(self, cause: BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._end_all, self._thread.stopped_error())
        except RuntimeError:
            return  # the caller's loop is closed: nobody waits


def _take_all(steps: list[_Step]) -> None:
    for step in steps:
        step()
