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

LOOK_SECONDS = 0.02
OVERDUE_SECONDS = 0.05
"""A loop that did not run for so long is starved, or busy itself."""
EAGER_SECONDS = 0.005
EAGER_FOR_SECONDS = 0.5
NAP_SECONDS = 50e-6
"""With what the kernel adds, enough to wake a thread."""


class Pulse:
    """When a loop ran last. `beat` is called on that loop; any thread may read `at`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.at = monotonic()

    def beat(self) -> None:
        """Note that it runs, from now on regularly."""
        self.at = monotonic()
        self._loop.call_later(LOOK_SECONDS, self.beat)


class Courtesy:
    """What one loop does for the thread whose `pulse` this is, as long as it is `needed`. Made on that loop."""

    def __init__(self, pulse: Pulse, needed: Callable[[], bool]) -> None:
        self._loop = asyncio.get_running_loop()
        self._pulse = pulse
        self._needed = needed
        self._eager_until = 0.0
        self._loop.call_later(LOOK_SECONDS, self._look)

    def _look(self) -> None:
        if not self._needed():
            return
        now = monotonic()
        if now - self._pulse.at > OVERDUE_SECONDS:
            self._eager_until = now + EAGER_FOR_SECONDS
        if now < self._eager_until:
            sleep(NAP_SECONDS)
            self._loop.call_later(EAGER_SECONDS, self._look)
        else:
            self._loop.call_later(LOOK_SECONDS, self._look)
