"""The part of the `Client` interface that is about watches."""

from collections.abc import Sequence
from functools import partial

from d_engine.client.feed import Feed, WatchWish
from d_engine.client.many_keys import ManyKeys
from d_engine.client.operations import Text
from d_engine.client.primitives import check_timeout
from d_engine.client.watch import StateWatch, Watch
from d_engine.format.errors import InvalidRequestError
from d_engine.format.ids import MAX_U63
from d_engine.kv.events import EventKind
from d_engine.kv.key_value import KeyValue
from d_engine.kv.ranges import prefix_end
from d_engine.kv.watching import Selection, select


class Watching(ManyKeys):
    """Inherited by `Client`, which says what errors every method may raise."""

    def watch(
        self,
        key: Text | None = None,
        *,
        prefix: Text | None = None,
        start: Text | None = None,
        end: Text | None = None,
        since: int | None = None,
        kinds: Sequence[EventKind] = ("put", "delete"),
        previous: bool = False,
        progress: bool = False,
        timeout: float | None = None,
    ) -> Watch:
        """Watch `key`, all keys that begin with `prefix`, or those from `start` up to but without `end` (nothing: all
        keys), on the node that is asked, whichever that is. To be entered with `async with`.

        Iterating gives one `WatchBatch` for each revision that concerns the watch: all its events of a transaction
        together. They come in order, none is missing and none comes twice, whatever happens to nodes, leaders and
        connections; a client that cannot keep that promise raises.

        `since`: what happened behind this revision comes first, from the node's history; 0 is the beginning. A revision
        in the future is waited for. Without it the watch begins at the state of the node, which may be a little behind
        the leader's. `kinds`: only "put", or only "delete". `previous`: each event has the entry that was replaced or
        removed. `progress`: batches without events say how far the watch is true, every 10 s and when asked.
        `timeout`: for entering it.

        Entering raises `CompactedError` if what happened behind `since` is not kept any more (`oldest` is the lowest
        revision that would do), `WatchLimitError` if there are too many watches. Iterating raises `WatchLaggedError` if
        the events were taken so slowly that the history has passed by, and `CompactedError` if nobody has what is
        missing after a break. What to do then: `snapshot_then_watch`.

        Example::

            async with client.watch(prefix="service/") as watch:
                await client.put("service/a", "10.0.0.1:80")
                async for batch in watch:
                    assert batch.events[0].value == b"10.0.0.1:80"
                    break
        """
        if since is not None and not 0 <= since <= MAX_U63:
            raise InvalidRequestError(f"a watch begins behind a revision from 0 on, not {since!r}")
        if timeout is not None:
            check_timeout(timeout)
        first, behind = self._watched(key, prefix, start, end)
        selection = select(first, behind, kinds, previous)
        return Watch(Feed(self._watches(), WatchWish(selection, progress, timeout), since))

    def snapshot_then_watch(
        self,
        prefix: Text = b"",
        *,
        previous: bool = False,
        progress: bool = False,
        timeout: float | None = None,
    ) -> StateWatch:
        """The state of all keys that begin with `prefix`, at one revision, and every change after it: nothing is missed
        between the two. Entering it reads the state into `items`; the state must fit into memory. Otherwise as `watch`.

        Example::

            async with client.snapshot_then_watch("config/") as watch:
                settings = {entry.key: entry.value for entry in watch.items}
                await client.put("config/colour", "green")
                async for event in watch.events():
                    settings[event.key] = event.value
                    break
                assert settings[b"config/colour"] == b"green"
        """
        if timeout is not None:
            check_timeout(timeout)
        first = self._key(prefix)
        selection = Selection(first, prefix_end(first), previous=previous)

        def feed_from(revision: int) -> Feed:
            return Feed(self._watches(), WatchWish(selection, progress, timeout), revision)

        return StateWatch(feed_from, partial(self._read_state, first, timeout))

    def _watched(
        self, key: Text | None, prefix: Text | None, start: Text | None, end: Text | None
    ) -> tuple[bytes, bytes | None]:
        if (key is not None) + (prefix is not None) + (start is not None or end is not None) > 1:
            raise InvalidRequestError("a watch is of a key, of a prefix, or of a range")
        if key is not None:
            first = self._key(key)
            return first, first + b"\x00"
        if prefix is not None:
            first = self._key(prefix)
            return first, prefix_end(first)
        return b"" if start is None else self._key(start), None if end is None else self._key(end)

    async def _read_state(self, prefix: bytes, timeout: float | None) -> tuple[int, int, list[KeyValue]]:
        items: list[KeyValue] = []
        first: int | None = None
        pages = self.range(prefix=prefix, timeout=timeout)
        async for page in pages:
            first = page.revision if first is None else first
            items += page.items
        return first or 0, pages.revision, items
