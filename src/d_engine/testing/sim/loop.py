"""An event loop over virtual time, just enough for what the production clients ask of one."""

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from contextvars import Context
from typing import Any, TypeVar, cast

from d_engine.format.ids import Nanoseconds
from d_engine.testing.sim.events import SECOND, EventQueue

_Result = TypeVar("_Result")


class _Timer(asyncio.TimerHandle):
    """Tells the loop nothing when it is cancelled: the event comes and finds it so."""

    def cancel(self) -> None:
        self._cancelled = True


class SimLoop:
    """`call_soon`, `call_later`, `call_at`, `time` (seconds, from the start of the run), futures and tasks."""

    def __init__(self, events: EventQueue) -> None:
        self._events = events
        self._works: dict[Coroutine[Any, Any, Any], None] = {}

    def get_debug(self) -> bool:
        return False

    def time(self) -> float:
        return self._events.now / SECOND

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self.as_event_loop())

    def create_task(self, work: Coroutine[Any, Any, _Result]) -> "asyncio.Task[_Result]":
        task = asyncio.Task(work, loop=self.as_event_loop())
        self._works[work] = None
        task.add_done_callback(lambda task: self._works.pop(work))
        return task

    @contextmanager
    def running(self) -> Iterator[None]:
        """Within, this is the loop that runs. Tasks that are not done at the end never will be."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self.as_event_loop())
        try:
            yield
            for work in self._works:
                work.close()
        finally:
            asyncio._set_running_loop(before)

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
        """A callback must not fail. But nobody looks at the future of a client that is gone."""
        if "handle" in context:
            raise context["exception"]

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
