"""Pinned views in terms of the primitives of `d_engine.client.base`."""

from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from typing import TypeAlias

from d_engine.client.leases import LeasesClient
from d_engine.client.operations import Consistency, Text
from d_engine.client.views_api import PinnedView
from d_engine.format.errors import DEngineError, MalformedError
from d_engine.kv.queries import Entries, Scan
from d_engine.kv.view_queries import (
    CloseView,
    OpenView,
    ReadView,
    ViewClosed,
    ViewOpened,
    decode_answer,
    encode_question,
)

NodeAsker: TypeAlias = Callable[[bytes, str, float | None], Awaitable[bytes]]
"""Asks one node: a query, under a consistency, with a time-out."""


class ViewsClient(LeasesClient):
    """Implements this part of `Client`."""

    @abstractmethod
    def _one_node(self) -> AbstractAsyncContextManager[NodeAsker]:
        """A way to one node, always the same."""

    def snapshot(
        self,
        *,
        prefix: Text | None = None,
        start: Text | None = None,
        end: Text | None = None,
        consistency: Consistency = "linearizable",
        timeout: float | None = None,
    ) -> AbstractAsyncContextManager[PinnedView]:
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
