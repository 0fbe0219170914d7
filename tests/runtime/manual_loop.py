"""An event loop and a transport that do nothing until they are told to, for tests of time-outs and queues."""

import asyncio
import contextvars
import heapq
import socket
from collections.abc import Callable, Iterable
from typing import Any, cast

from d_engine.format.errors import DEngineError
from d_engine.format.frames import Frame


class ManualLoop:
    """`turn` runs what was asked for soon, `sleep` lets time pass."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._soon: list[asyncio.Handle] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """Itself, for those who ask for a whole loop and use what there is of it."""
        return cast(asyncio.AbstractEventLoop, self)

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def call_soon(
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self.loop, context)
        self._soon.append(handle)
        return handle

    def call_later(
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> asyncio.TimerHandle:
        handle = asyncio.TimerHandle(self._now + delay, callback, args, self.loop, context)
        heapq.heappush(self._timers, (handle.when(), len(self._timers), handle))
        return handle

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Asked for by asyncio's timers."""

    @property
    def timers(self) -> int:
        """How many are armed."""
        return sum(not handle.cancelled() for _, _, handle in self._timers)

    def turn(self) -> None:
        while self._soon:
            soon, self._soon = self._soon, []
            for handle in soon:
                if not handle.cancelled():
                    handle._run()

    def sleep(self, seconds: float) -> None:
        """Time passes timer by timer."""
        end = self._now + seconds
        while self._timers and self._timers[0][0] <= end:
            when, _, handle = heapq.heappop(self._timers)
            self._now = max(self._now, when)
            if not handle.cancelled():
                handle._run()
            self.turn()
        self._now = end

    def stall(self, seconds: float) -> None:
        """The process stood still: time passes, and every timer is late."""
        self._now += seconds
        self.sleep(0)


class NoSocket:
    family = socket.AF_UNIX

    def fileno(self) -> int:
        return -1


class ManualTransport(asyncio.Transport):
    """Takes what is written; `pressure` says how much of it the kernel refuses to take."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.writes = 0
        self.unread = 0
        self.reading = True
        self.closed = ""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return NoSocket() if name == "socket" else "far"

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """The test decides."""

    def get_write_buffer_size(self) -> int:
        return self.unread

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.writelines([data])

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        self.writes += 1
        self.written += [bytes(data) for data in list_of_data]

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def close(self) -> None:
        self.closed = self.closed or "closed"

    def abort(self) -> None:
        self.closed = "aborted"


class Recorder:
    """A handler that keeps everything."""

    def __init__(self) -> None:
        self.batches: list[list[bytes]] = []
        self.closed: list[DEngineError | None] = []

    def on_frames(self, frames: list[Frame]) -> None:
        self.batches.append([bytes(frame.head) for frame in frames])

    def on_close(self, reason: DEngineError | None) -> None:
        self.closed.append(reason)
