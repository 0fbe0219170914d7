"""Time-outs of many operations by one timer.

An operation that has a timer of its own pays for creating, sorting and cancelling it, although nearly none ever fires.
Here each operation only has its deadline in a list next to its future. One timer per owner stands at the earliest
deadline that was announced; when it fires the owner walks its lists, ends what is due and says when to look again.
"""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from copy import copy

from d_engine.format.errors import DEngineError

RESOLUTION_SECONDS = 0.005
"""Two walks are at least so far apart, so that many different deadlines cannot make the walks the main work."""

GRACE_SECONDS = 0.25
"""Who carries a batch ends it at its last deadline, and knows why. Only if it does not, its owner does, this much
later."""


class Sweeper:
    """Calls `sweep(now)` when the earliest announced deadline has passed. `sweep` returns the next deadline, if any."""

    def __init__(self, loop: asyncio.AbstractEventLoop, sweep: Callable[[float], float | None]) -> None:
        self._loop = loop
        self._sweep = sweep
        self._timer: asyncio.TimerHandle | None = None
        self._at = 0.0

    def announce(self, deadline: float) -> None:
        """Something is due at `deadline`, in seconds of the loop's clock."""
        if self._timer is not None:
            if self._at <= deadline:
                return
            self._timer.cancel()
        self._at = deadline
        self._timer = self._loop.call_at(deadline, self._fire)

    def stop(self) -> None:
        """Nothing is due any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        now = self._loop.time()
        following = self._sweep(now)
        if following is not None:
            self.announce(max(following, now + RESOLUTION_SECONDS))


def fail_all(futures: "Iterable[asyncio.Future[bytes]]", error: DEngineError) -> None:
    """End those that are not done. Each gets an exception of its own, because raising one writes into it."""
    for future in futures:
        if not future.done():
            future.set_exception(copy(error))


def expire(
    futures: "Sequence[asyncio.Future[bytes]]", deadlines: Sequence[float], now: float, error: DEngineError
) -> float | None:
    """End those of a batch on its way that are due. Returns when to look again, None if the batch is over."""
    last = max(deadlines)
    over = last + GRACE_SECONDS
    due = []
    following = over
    for future, deadline in zip(futures, deadlines, strict=True):
        if not future.done():
            when = over if deadline == last else deadline
            if when <= now:
                due.append(future)
            else:
                following = min(following, when)
    fail_all(due, error)
    return following if over > now else None
