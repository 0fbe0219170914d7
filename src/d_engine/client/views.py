"""The part of the `Client` interface that is about pinned views."""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TypeAlias

from d_engine.client.operations import Consistency, Text
from d_engine.client.primitives import Primitives
from d_engine.format.errors import DEngineError, InvalidRequestError, MalformedError
from d_engine.kv.key_value import KeyValue
from d_engine.kv.queries import Entries, GetEntries, GetRange, Scan
from d_engine.kv.ranges import in_range
from d_engine.kv.view_queries import (
    CloseView,
    OpenView,
    ReadView,
    ViewClosed,
    ViewOpened,
    decode_answer,
    encode_question,
)

_Ask: TypeAlias = Callable[[ReadView], Awaitable[ViewOpened | ViewClosed | Entries | Scan]]


class PinnedView:
    """The entries of a range as they were at one revision, from `Client.snapshot`. They are read in pages, when they
    are asked for: iterate with `async for`, or use `pages`.

    Every method raises `ViewExpiredError` when the node does not keep the view any more.

    Example::

        async with client.snapshot(prefix="balance/") as view:
            await client.put("balance/anna", "0")
            assert await view.get("balance/anna") == b"100"
            async for page in view.pages(limit=1):
                print(page.revision, page.items[0].key)
    """

    def __init__(
        self,
        ask: _Ask,
        opened: ViewOpened,
        bounds: tuple[bytes, bytes | None],
        key: Callable[[Text], bytes],
    ) -> None:
        self.revision = opened.revision
        self._ask = ask
        self._number = opened.view
        self._start, self._end = bounds
        self._key = key

    async def get(self, key: Text) -> bytes | None:
        """The value under `key` at that revision, None if there was none (or it lies outside the range)."""
        (entry,) = await self.get_entries((key,))
        return None if entry is None else entry.value

    async def get_entries(self, keys: Sequence[Text]) -> tuple[KeyValue | None, ...]:
        """The entries of several keys, in their order. Together they must not exceed 8 MiB."""
        wanted = tuple(map(self._key, keys))
        answer = await self._ask(ReadView(self._number, GetEntries(wanted)))
        if not isinstance(answer, Entries) or len(answer.entries) != len(wanted):
            raise MalformedError(f"{len(wanted)} keys were answered with a {type(answer).__name__}")
        inside = [in_range(key, self._start, self._end) for key in wanted]
        return tuple(entry if held else None for entry, held in zip(answer.entries, inside, strict=True))

    async def pages(self, limit: int = 1000, *, keys_only: bool = False) -> AsyncIterator[Scan]:
        """All entries by rising key, at most `limit` (and 8 MiB) at a time. All pages are of the same revision. With
        `keys_only` the values are left out (they are b"")."""
        if not limit >= 1:
            raise InvalidRequestError(f"a page's limit must be at least 1, not {limit}")
        start, more = self._start, True
        while more:
            query = GetRange(start, self._end, limit, False, keys_only)
            page = await self._ask(ReadView(self._number, query))
            if not isinstance(page, Scan) or (page.more and not page.items):
                raise MalformedError(f"a page of a view was answered with {type(page).__name__}")
            yield page
            more = page.more
            if page.items:
                start = page.items[-1].key + b"\x00"

    async def __aiter__(self) -> AsyncIterator[KeyValue]:
        async for page in self.pages():
            for entry in page.items:
                yield entry


class Views(Primitives):
    """Inherited by `Client`, which says what errors every method may raise."""

    def snapshot(
        self,
        *,
        prefix: Text | None = None,
        start: Text | None = None,
        end: Text | None = None,
        consistency: Consistency = "linearizable",
        timeout: float | None = None,
    ) -> AbstractAsyncContextManager[PinnedView]:
        """A view of all entries from `start` up to but without `end`, or with a prefix (all, if nothing is said), at
        one revision, however many they are and whatever is written meanwhile.

        One node keeps it, for 60 seconds at most (`limits.pinned_view_s`), and only so long as the block runs. Memory
        is constant on this side, and on the node grows with what is written meanwhile: so a node keeps 4 at a time
        (`limits.max_pinned_views`). `timeout` is for each page.
        Raises `ViewLimitError` if that many are kept already; reading raises `ViewExpiredError` when the time is over,
        or the node was restarted or cannot be reached any more.

        Example::

            async with client.snapshot(prefix="job/") as view:
                async for entry in view:
                    print(view.revision, entry.key, entry.value)
        """
        return self._pinned(self._translator.range(start, end, prefix), consistency, timeout)

    @asynccontextmanager
    async def _pinned(
        self, bounds: tuple[bytes, bytes | None], consistency: Consistency, timeout: float | None
    ) -> AsyncIterator[PinnedView]:
        async with self._one_node() as ask:

            async def read(question: ReadView) -> ViewOpened | ViewClosed | Entries | Scan:
                return decode_answer(await ask(encode_question(question), "eventual", timeout))

            opened = decode_answer(await ask(encode_question(OpenView()), consistency, timeout))
            if not isinstance(opened, ViewOpened):
                raise MalformedError(f"a view was opened with a {type(opened).__name__}")
            try:
                yield PinnedView(read, opened, bounds, self._key)
            finally:
                # Whatever prevents it: the node lets it go by itself.
                with suppress(DEngineError):
                    await ask(encode_question(CloseView(opened.view)), "eventual", timeout)
