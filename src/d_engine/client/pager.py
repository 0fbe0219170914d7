"""Reading a range of any size, page by page."""

from collections.abc import Awaitable, Callable

from d_engine.format.errors import MalformedError
from d_engine.kv.queries import Scan, decode_scan, encode_get_range


class RangePager:
    """The pages of a range, from `Client.range`: iterate with `async for`. Each page is a `Scan`: `revision`, `items`,
    `more`. The first page always comes, if need be without items.

    A page is read when it is asked for. If that fails the error is raised, and the pager stays where it is: asking
    again reads the same page.

    Example::

        pages = client.range(prefix="balance/", limit=1)
        first = await anext(pages)
        assert first.more and pages.revision == first.revision
        async for page in pages:
            print(page.revision, page.items)
    """

    def __init__(
        self,
        ask: Callable[[bytes, int | None], Awaitable[bytes]],
        start: bytes,
        end: bytes | None,
        limit: int,
        reverse: bool,
        keys_only: bool,
    ) -> None:
        self._ask = ask
        self._start = start
        self._end = end
        self._limit = limit
        self._reverse = reverse
        self._keys_only = keys_only
        self._done = False
        self.revision = 0
        """Of the last page that came."""

    def __aiter__(self) -> "RangePager":
        return self

    async def __anext__(self) -> Scan:
        if self._done:
            raise StopAsyncIteration
        query = encode_get_range(self._start, self._end, self._limit, self._reverse, self._keys_only)
        page = decode_scan(await self._ask(query, self.revision or None))
        if page.more:
            if not page.items:
                raise MalformedError("a page has no items, and yet there is more of it")
            self.skip_to(page.items[-1].key)
        self._done = not page.more
        self.revision = page.revision
        return page

    def skip_to(self, key: bytes) -> None:
        """Go on behind this key."""
        if self._reverse:
            self._end = key if self._end is None else min(key, self._end)
        else:
            # The smallest key that is greater.
            self._start = max(self._start, key + b"\x00")
