"""An event loop over virtual time, just enough for what the production clients ask of one."""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, cast

from d_engine.format.ids import Nanoseconds
from d_engine.testing.sim.events import SECOND, EventQueue


class _Timer(asyncio.TimerHandle):
    """Tells the loop nothing when it is cancelled: the event comes and finds it so."""

    def cancel(self) -> None:
        self._cancelled = True


class SimLoop:
    """`call_soon`, `call_later`, `call_at`, `time` (seconds, from the start of the run) and futures."""

    def __init__(self, events: EventQueue) -> None:
        self._events = events

    def get_debug(self) -> bool:
        return False

    def time(self) -> float:
        return self._events.now / SECOND

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self.as_event_loop())

    def as_event_loop(self) -> asyncio.AbstractEventLoop:
        """For those who want a whole one and use no more than this."""
        return cast("asyncio.AbstractEventLoop", self)

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        return self._schedule(self._events.now, callback, args, context)

    def call_at(
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self._schedule(int(when * SECOND), callback, args, context)

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self._schedule(self._events.now + int(delay * SECOND), callback, args, context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Nobody looks at the future of a client that is gone."""

    def _schedule(
        self,
        time: Nanoseconds,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> _Timer:
        handle = _Timer(time / SECOND, callback, args, self.as_event_loop(), context)
        self._events.at(time, self._run, handle)
        return handle

    @staticmethod
    def _run(handle: _Timer) -> None:
        if not handle.cancelled():
            handle._run()
