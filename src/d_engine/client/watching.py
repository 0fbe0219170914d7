"""Watches in terms of a `WatchTransport`: what the embedded and the remote client have in common."""

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial

from d_engine.client.cluster import check_timeout
from d_engine.client.feed import Feed, WatchTransport, WatchWish
from d_engine.client.operations import Text
from d_engine.client.views import ViewsClient
from d_engine.client.watch import StateWatch, Watch
from d_engine.format.errors import InvalidRequestError
from d_engine.format.ids import MAX_U63
from d_engine.kv.events import EventKind
from d_engine.kv.key_value import KeyValue
from d_engine.kv.ranges import prefix_end
from d_engine.kv.watching import Selection, select


class WatchingClient(ViewsClient):
    """Implements this part of `Client`."""

    @abstractmethod
    def _watches(self) -> WatchTransport:
        """The way to the node, for the running loop."""

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
