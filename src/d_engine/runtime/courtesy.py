"""Letting the engine's thread in, from beside it.

CPython's interpreter lock has a blind spot. A thread that waits for it has the holder give it up only if nobody
released it for the switch interval, 5 ms. An event loop that is busy with short callbacks releases it whenever it looks
at its sockets, for a microsecond, has it again before the waiting thread is awake, and so starts the 5 ms anew. Beside
a loop with callbacks of a millisecond a thread does not run once in three seconds (docs/design/threads.md has figures):
long enough for the other members to elect another leader.

The waiting thread can do nothing about it. So the loops that use the engine do: each looks now and then whether the
engine's loop has run lately. If it has not, this loop may well be such a one, and for a while it sleeps every few
milliseconds, just long enough for another thread to wake up. A loop that is not busy loses nothing by it.
"""

import asyncio
from collections.abc import Callable
from time import monotonic, sleep
from weakref import WeakSet

LOOK_SECONDS = 0.02
OVERDUE_SECONDS = 0.05
"""A loop that did not run for so long is starved, or busy itself."""
EAGER_SECONDS = 0.005
EAGER_FOR_SECONDS = 0.5
NAP_SECONDS = 50e-6
"""With what the kernel adds, enough to wake a thread."""


class Pulse:
    """When a loop ran last, for the loops that are to let it in, as long as `needed` is true."""

    def __init__(self, loop: asyncio.AbstractEventLoop, needed: Callable[[], bool]) -> None:
        self.needed = needed
        self.at = monotonic()
        self._loop = loop
        self._accompanied: WeakSet[asyncio.AbstractEventLoop] = WeakSet()

    def beat(self) -> None:
        """On that loop: note that it runs, from now on regularly."""
        self.at = monotonic()
        self._loop.call_later(LOOK_SECONDS, self.beat)

    def accompany(self) -> None:
        """On another loop: from now on let that one in. Harmless when repeated."""
        loop = asyncio.get_running_loop()
        if loop not in self._accompanied:
            self._accompanied.add(loop)
            _Courtesy(self, loop)


class _Courtesy:
    """What one loop does for another one's pulse."""

    def __init__(self, pulse: Pulse, loop: asyncio.AbstractEventLoop) -> None:
        self._pulse = pulse
        self._loop = loop
        self._eager_until = 0.0
        loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        if not self._pulse.needed():
            return
        now = monotonic()
        if now - self._pulse.at > OVERDUE_SECONDS:
            self._eager_until = now + EAGER_FOR_SECONDS
        if now < self._eager_until:
            sleep(NAP_SECONDS)
            self._loop.call_later(EAGER_SECONDS, self._look)
        else:
            self._loop.call_later(LOOK_SECONDS, self._look)
