"""Pinned views: a node keeps a few of them for a little while, so that a client can read one moment in many pages.

A view costs what changes while it is pinned: each shard of the store is copied once, when it is first written to
(`d_engine.kv.shards`). That is why there are few and why none stays. A view is let go in small steps: of a million
entries at once, that would take a tenth of a second.
"""

import asyncio
from collections.abc import Callable, Iterator

from d_engine.format.errors import (
    DEngineError,
    InvalidRequestError,
    MalformedError,
    ViewExpiredError,
    ViewLimitError,
)
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.store import StoreView
from d_engine.kv.view_queries import (
    MARK,
    Answer,
    CloseView,
    OpenView,
    ViewClosed,
    ViewOpened,
    ViewRefused,
    decode_question,
    encode_answer,
    read_view,
)

_STEPS_AT_ONCE = 8
_NUMBER_BITS = 48


class PinnedViews:
    """Those of one node, on its thread: at most `limit` at a time, each for `seconds`. `query` answers what the state
    machine's own `query` does, and questions to views besides."""

    def __init__(
        self, machine: KvStateMachine, random_bits: Callable[[int], int], limit: int, seconds: float
    ) -> None:
        self._machine = machine
        self._limit = limit
        self._seconds = seconds
        # So that no view of an earlier process is taken for one of this.
        self._number = random_bits(_NUMBER_BITS)
        self._views: dict[int, tuple[StoreView, asyncio.TimerHandle]] = {}

    def __len__(self) -> int:
        return len(self._views)

    def query(self, request: bytes) -> bytes:
        """Answer at once."""
        if request[:1] != MARK:
            return self._machine.query(request)
        try:
            return encode_answer(self._answer(request))
        except MalformedError as error:
            return encode_answer(ViewRefused(InvalidRequestError.code, str(error)))
        except DEngineError as error:
            return encode_answer(ViewRefused(error.code, str(error)))

    def _answer(self, request: bytes) -> Answer:
        question = decode_question(request)
        if isinstance(question, OpenView):
            return self._open()
        pinned = self._views.get(question.view)
        if isinstance(question, CloseView):
            if pinned is not None:
                pinned[1].cancel()
                self._let_go(question.view)
            return ViewClosed()
        if pinned is None:
            raise ViewExpiredError(
                f"this node has no pinned view {question.view}: it keeps one for {self._seconds:g} s "
                "(limits.pinned_view_s), over no restart"
            )
        return read_view(pinned[0], question.query)

    def _open(self) -> ViewOpened:
        if len(self._views) >= self._limit:
            raise ViewLimitError(
                f"this node keeps {len(self._views)} pinned views, as many as it may (limits.max_pinned_views); "
                "close one, or try later"
            )
        self._number += 1
        view = self._machine.view()
        timer = asyncio.get_running_loop().call_later(self._seconds, self._let_go, self._number)
        self._views[self._number] = view, timer
        return ViewOpened(self._number, view.revision, view.count, self._seconds)

    def _let_go(self, number: int) -> None:
        view, _ = self._views.pop(number)
        self._release(view.release())

    def _release(self, steps: Iterator[None]) -> None:
        for _ in range(_STEPS_AT_ONCE):
            if next(steps, _DONE) is _DONE:
                return
        asyncio.get_running_loop().call_soon(self._release, steps)


_DONE = object()
