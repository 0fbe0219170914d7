"""The event queue: virtual time, in integer nanoseconds, and what happens when.

Events at one time happen in the order in which they were asked for. Nothing is ever cancelled: who may be gone or
overtaken when its event comes looks for itself.
"""

from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any

from d_engine.format.ids import Nanoseconds

MICROSECOND: Nanoseconds = 1_000
MILLISECOND: Nanoseconds = 1_000_000
SECOND: Nanoseconds = 1_000_000_000


class EventQueue:
    """Pending events by time. `now` is the time of the one that happens, `count` how many have happened."""

    __slots__ = ("_heap", "_order", "count", "now")

    def __init__(self) -> None:
        self.now: Nanoseconds = 0
        self.count = 0
        self._order = 0
        self._heap: list[tuple[Nanoseconds, int, Callable[..., object], tuple[Any, ...]]] = []

    def __len__(self) -> int:
        return len(self._heap)

    def at(self, time: Nanoseconds, action: Callable[..., object], *arguments: object) -> None:
        """Call the action at that time; not before what is due now."""
        self._order += 1
        heappush(self._heap, (time if time > self.now else self.now, self._order, action, arguments))

    def after(self, delay: Nanoseconds, action: Callable[..., object], *arguments: object) -> None:
        """Call the action so much later."""
        self._order += 1
        heappush(self._heap, (self.now + delay, self._order, action, arguments))

    def run(self, until: Nanoseconds, max_events: int) -> bool:
        """Let events happen: up to that time, and up to so many in all (see `count`). True if the time was reached."""
        heap = self._heap
        while self.count < max_events:
            if not heap or heap[0][0] > until:
                self.now = max(self.now, until)
                return True
            self.now, _, action, arguments = heappop(heap)
            self.count += 1
            action(*arguments)
        return False
