"""A watch, as applications use it: batches of events to iterate over, and a revision up to which they are all."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from types import TracebackType

from d_engine.client.feed import Feed, WatchBatch
from d_engine.format.errors import InvalidRequestError
from d_engine.kv.events import Event
from d_engine.kv.key_value import KeyValue

_ASK_AGAIN_SECONDS = 0.05
_NOT_ENTERED = "a watch is to be entered first: async with client.watch(...) as watch"


class Watch:
    """Made by `Client.watch`. Enter it with `async with`: from then on everything is told. One task iterates.

    Iterating ends with an error: `CompactedError` or `WatchLaggedError` if there are events that it can not have,
    `EngineStoppedError` if the engine or the client was closed. When the watch is closed it just ends.

    Example::

        async with client.watch("job/1") as watch:
            written = await client.put("job/1", "mop")
            async for batch in watch:
                assert batch.events[0].value == b"mop"
                break
            assert watch.revision >= written.revision
            # How far it is true now, though nothing of what it watches has changed.
            other = await client.put("elsewhere", "x")
            while await watch.progress() < other.revision:
                pass
    """

    def __init__(self, feed: Feed) -> None:
        self._feed = feed
        self._entered = False

    async def __aenter__(self) -> "Watch":
        await self._enter()
        return self

    async def _enter(self) -> None:
        if self._entered:
            raise InvalidRequestError("a watch is entered once")
        feed = self._feed
        feed.transport.check()
        self._entered = True
        feed.open()
        try:
            while feed.line is None and feed.error is None and not feed.stopped:
                await feed.wait()
        except BaseException:
            self.close()
            raise
        if feed.error is not None:
            raise feed.error

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """The end: whoever iterates stops. May be repeated."""
        self._feed.stop()

    @property
    def revision(self) -> int:
        """How far the watch is true: every event up to this revision has come out of it, also if there was none."""
        feed = self._feed
        return feed.batches[0][0].revision - 1 if feed.batches else feed.told or 0

    async def progress(self) -> int:
        """Ask the node how far it is now. When the answer is here, everything up to the revision that is returned has
        come, and is there to be iterated over. A watch whose events are not taken may wait for that."""
        feed = self._feed
        self._check()
        marks, asked = feed.marks, None
        while feed.marks == marks and not feed.stopped:
            if feed.error is not None:
                raise feed.error
            if feed.line is not None and feed.line is not asked:
                asked = feed.line
                asked.ask_progress()
            await feed.wait()
        return feed.told or 0

    def __aiter__(self) -> "Watch":
        return self

    async def __anext__(self) -> WatchBatch:
        feed = self._feed
        self._check()
        while not feed.batches:
            if feed.stopped:
                raise StopAsyncIteration
            if feed.error is not None:
                raise feed.error
            await feed.wait()
        return feed.take()

    async def events(self) -> AsyncIterator[Event]:
        """One event after the other, whatever revision they belong to.

        Example::

            async with client.watch(prefix="service/") as watch:
                await client.put("service/a", "10.0.0.1:80")
                async for event in watch.events():
                    assert (event.kind, event.key, event.value) == ("put", b"service/a", b"10.0.0.1:80")
                    break
        """
        async for batch in self:
            for event in batch.events:
                yield event

    def _check(self) -> None:
        if not self._entered:
            raise InvalidRequestError(_NOT_ENTERED)
        if not self._feed.stopped and self._feed.error is None:
            self._feed.transport.check()


class StateWatch(Watch):
    """Made by `Client.snapshot_then_watch`: a watch that begins with the state. `items` are the entries as they were at
    `snapshot_revision`, by rising key; iterating gives every change after it.

    Example::

        async with client.snapshot_then_watch("job/") as watch:
            jobs = {entry.key: entry.value for entry in watch.items}
            await client.put("job/2", "mop")
            async for batch in watch:
                assert batch.revision > watch.snapshot_revision
                jobs |= {event.key: event.value for event in batch.events if event.kind == "put"}
                break
            assert jobs == {b"job/1": b"sweep", b"job/2": b"mop"}
    """

    def __init__(
        self, feed_from: Callable[[int], Feed], read: Callable[[], Awaitable[tuple[int, int, list[KeyValue]]]]
    ) -> None:
        """`read` gives the revisions of its first and last page, and the entries; `feed_from` a feed that begins at a
        revision."""
        super().__init__(feed_from(0))
        self._feed_from = feed_from
        self._read = read
        self.items: list[KeyValue] = []
        self.snapshot_revision = 0

    async def __aenter__(self) -> "StateWatch":
        if self._entered:
            raise InvalidRequestError("a watch is entered once")
        self._feed.transport.check()
        first, last, items = await self._read()
        before, self._feed = self._feed, self._feed_from(first)
        if before.stopped:
            self._feed.stop()
        await self._enter()
        try:
            self.items = await self._brought_to(last, items) if last > first else items
        except BaseException:
            self.close()
            raise
        self.snapshot_revision = last
        return self

    async def _brought_to(self, revision: int, items: list[KeyValue]) -> list[KeyValue]:
        """Pages are of different moments. The changes between the first and the last make them one."""
        feed, state = self._feed, {entry.key: entry for entry in items}
        while True:
            while feed.batches and feed.batches[0][0].revision <= revision:
                for event in feed.take().events:
                    _change(state, event)
            if feed.batches or (feed.told or 0) >= revision:
                return [state[key] for key in sorted(state)]
            if feed.stopped:
                return []
            if feed.error is not None:
                raise feed.error
            if feed.line is not None:
                feed.line.ask_progress()
            with suppress(TimeoutError):
                async with asyncio.timeout(_ASK_AGAIN_SECONDS):
                    await feed.wait()


def _change(state: dict[bytes, KeyValue], event: Event) -> None:
    known = state.get(event.key)
    if known is not None and known.mod_revision >= event.revision:
        return
    if event.value is None:
        state.pop(event.key, None)
    else:
        state[event.key] = KeyValue(
            event.key, event.value, event.create_revision, event.revision, event.version, event.lease
        )
