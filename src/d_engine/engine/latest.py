"""A value that changes, published on the engine's thread, awaited on any loop.

Subscribers see the newest state, not each step, unless the last few values are kept. Publishing an equal value wakes
nobody.
"""

import asyncio
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Latest(Generic[T]):
    """The value and who wants to know of changes. Of the values, the last `keep` are there for slow subscribers."""

    def __init__(self, value: T, keep: int = 1) -> None:
        self._lock = threading.Lock()
        self._value = value
        self._version = 0
        self._kept: deque[tuple[int, T]] = deque(((0, value),), keep)
        self._subscriptions: list[Subscription[T]] = []

    @property
    def value(self) -> T:
        """The newest value, from any thread."""
        return self._value

    def publish(self, value: T) -> None:
        """Replace the value and wake all subscribers, unless it is equal to the present one."""
        with self._lock:
            if value == self._value:
                return
            self._value = value
            self._version += 1
            self._kept.append((self._version, value))
            subscriptions = tuple(self._subscriptions)
        for subscription in subscriptions:
            subscription._wake()

    def subscribe(self) -> "Subscription[T]":
        """A subscription for the running loop. It has seen the present value."""
        subscription = Subscription(self, asyncio.get_running_loop())
        with self._lock:
            subscription._seen = self._version
            self._subscriptions.append(subscription)
        return subscription

    @property
    def newest(self) -> tuple[int, T]:
        """The present version and value."""
        with self._lock:
            return self._version, self._value

    def newer_than(self, version: int) -> tuple[int, T] | None:
        """The first kept version behind that one, and its value."""
        with self._lock:
            return next((kept for kept in self._kept if kept[0] > version), None)

    def forget(self, subscription: "Subscription[T]") -> None:
        """The subscription ends."""
        with self._lock:
            if subscription in self._subscriptions:
                self._subscriptions.remove(subscription)


class Subscription(Generic[T]):
    """One reader of a `Latest`, on one loop. Iterate over it, or ask.

    >>> async def example(changes: Subscription[int | None]) -> int:
    ...     value = await changes.wait_for(lambda value: value is not None)
    ...     assert value is not None
    ...     return value
    """

    def __init__(self, latest: Latest[T], loop: asyncio.AbstractEventLoop) -> None:
        self._latest = latest
        self._loop = loop
        self._seen = 0
        self._event = asyncio.Event()

    @property
    def value(self) -> T:
        """The newest value. Does not count as seen."""
        return self._latest.value

    async def changed(self) -> T:
        """Wait for a value that this subscription has not seen yet: the newest, or the first of those that are kept."""
        while True:
            self._event.clear()
            newer = self._latest.newer_than(self._seen)
            if newer is not None:
                self._seen = newer[0]
                return newer[1]
            await self._event.wait()

    async def wait_for(self, predicate: Callable[[T], bool]) -> T:
        """Return the newest value as soon as the predicate holds for it; that may be at once."""
        value = self._latest.value
        while not predicate(value):
            value = await self.changed()
        return value

    async def __aiter__(self) -> AsyncIterator[T]:
        self._seen, value = self._latest.newest
        yield value
        while True:
            yield await self.changed()

    def close(self) -> None:
        """Stop being told."""
        self._latest.forget(self)

    def _wake(self) -> None:
        if not self._loop.is_closed():
            try:
                self._loop.call_soon_threadsafe(self._event.set)
            except RuntimeError:
                # The loop was closed between the question and the call: nobody is left to be told.
                self._latest.forget(self)
