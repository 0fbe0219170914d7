"""From queries to batches of reads, as `d_engine.client.writer` does for commands.

All queries of one loop turn that want the same consistency travel together and are confirmed together: one round of
the leader serves them all (Raft dissertation, section 6.4). A batch may be answered in part: what is missing is asked
for again. Reads change nothing, so they may be repeated at will; they end with an answer or as *not applied*.
"""

import asyncio
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from itertools import compress
from operator import methodcaller
from typing import Protocol, TypeAlias

from d_engine.client.deadlines import Sweeper, expire, fail_all
from d_engine.format.errors import DEngineError, EngineStoppedError, NotAppliedTimeoutError, OverloadedError
from d_engine.format.limits import BATCH_BYTES

MAX_OUTSTANDING_BATCHES = 16
MAX_QUERIES_PER_BATCH = 4096
MAX_PENDING_READS = 50_000
MAX_PENDING_BYTES = 64 * 1024 * 1024

_is_done = methodcaller("done")

AnswersDone: TypeAlias = Callable[[Sequence[bytes], DEngineError | None], None]
"""Gets the answers to the first queries of the batch, in order, or an error."""


class ReadTransport(Protocol):
    """The way to the cluster. Returns at once and calls `done` once, later, on the reader's loop, at the latest after
    `timeout` seconds."""

    def read(
        self, policy: int, min_revision: int, queries: Sequence[bytes], timeout: float, done: AnswersDone
    ) -> None: ...


class _Batch:
    """Queries with their callers, in step."""

    __slots__ = ("deadlines", "finished", "futures", "kind", "own", "queries", "size")

    def __init__(self, kind: tuple[int, int]) -> None:
        self.kind = kind
        self.queries: list[bytes] = []
        self.futures: list[asyncio.Future[bytes]] = []
        self.deadlines: list[float] = []
        self.own: list[tuple[int, float]] = []
        self.size = 0
        self.finished = False

    def settle(self, deadline: float) -> float:
        """Give this turn's queries this deadline, or their own; returns the earliest."""
        self.deadlines.extend([deadline] * (len(self.futures) - len(self.deadlines)))
        for position, own in self.own:
            self.deadlines[position] = own
            deadline = min(deadline, own)
        self.own.clear()
        return deadline

    def keep(self, live: Sequence[bool]) -> None:
        """Drop what is not live."""
        self.queries = list(compress(self.queries, live))
        self.futures = list(compress(self.futures, live))
        self.deadlines = list(compress(self.deadlines, live))
        self.size = sum(map(len, self.queries))

    def split(self) -> "_Batch":
        """Remove as much from the front as may travel together, as a batch of its own."""
        count = size = 0
        for query in self.queries:
            size += len(query)
            if count and (size > BATCH_BYTES or count == MAX_QUERIES_PER_BATCH):
                break
            count += 1
        front = _Batch(self.kind)
        front.queries, front.futures = self.queries[:count], self.futures[:count]
        front.deadlines = self.deadlines[:count]
        front.size = sum(map(len, front.queries))
        for items in (self.queries, self.futures, self.deadlines):
            del items[:count]
        self.size -= front.size
        return front


class BatchReader:
    """Reads through a transport, for the tasks of one event loop. All methods are called on that loop.

    `timeout` is the usual time-out in seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, transport: ReadTransport, timeout: float) -> None:
        self._loop = loop
        self._transport = transport
        self._timeout = timeout
        self._waiting: dict[tuple[int, int], _Batch] = {}
        self._outstanding: dict[_Batch, None] = {}
        self._pending = 0
        self._pending_bytes = 0
        self._scheduled = False
        self._closed: DEngineError | None = None
        self._sweeper = Sweeper(loop, self._sweep)

    def read(
        self, policy: int, min_revision: int, query: bytes, timeout: float | None = None
    ) -> "asyncio.Future[bytes]":
        """The future answer. Raises `OverloadedError` or, after `close`, `EngineStoppedError`."""
        if self._pending >= MAX_PENDING_READS or self._pending_bytes >= MAX_PENDING_BYTES:
            raise OverloadedError(
                f"{self._pending} reads of this client wait for their answers; the limit is {MAX_PENDING_READS}"
            )
        if self._closed is not None:
            raise copy(self._closed)
        kind = (policy, min_revision)
        batch = self._waiting.get(kind)
        if batch is None:
            batch = self._waiting[kind] = _Batch(kind)
        future = self._loop.create_future()
        if timeout is not None:
            batch.own.append((len(batch.futures), self._loop.time() + timeout))
        batch.queries.append(query)
        batch.futures.append(future)
        batch.size += len(query)
        self._pending += 1
        self._pending_bytes += len(query)
        self._schedule()
        return future

    def close(self, error: DEngineError | None = None) -> None:
        """End everything with `error`."""
        self._closed = error or EngineStoppedError("the client is closed")
        for batch in (*self._waiting.values(), *self._outstanding):
            batch.finished = True
            fail_all(batch.futures, self._closed)
        self._waiting.clear()
        self._outstanding.clear()
        self._sweeper.stop()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        if not self._waiting:
            return
        now = self._loop.time()
        for kind, batch in list(self._waiting.items()):
            self._sweeper.announce(batch.settle(now + self._timeout))
            if True in map(_is_done, batch.futures):
                self._drop_done(batch)
            while batch.futures and len(self._outstanding) < MAX_OUTSTANDING_BATCHES:
                if batch.size <= BATCH_BYTES and len(batch.futures) <= MAX_QUERIES_PER_BATCH:
                    self._send(batch, now)
                    del self._waiting[kind]
                    break
                self._send(batch.split(), now)
            if not batch.futures:
                del self._waiting[kind]

    def _drop_done(self, batch: _Batch) -> None:
        count, size = len(batch.futures), batch.size
        batch.keep([not future.done() for future in batch.futures])
        self._left(count - len(batch.futures), size - batch.size)

    def _left(self, count: int, size: int) -> None:
        self._pending -= count
        self._pending_bytes -= size

    def _send(self, batch: _Batch, now: float) -> None:
        self._outstanding[batch] = None
        policy, min_revision = batch.kind
        timeout = max(max(batch.deadlines) - now, 0.0)
        self._transport.read(policy, min_revision, batch.queries, timeout, partial(self._batch_done, batch))

    def _batch_done(self, batch: _Batch, answers: Sequence[bytes], error: DEngineError | None) -> None:
        if batch.finished:
            return
        del self._outstanding[batch]
        batch.finished = True
        if error is not None:
            fail_all(batch.futures, error)
            self._left(len(batch.futures), batch.size)
        else:
            for future, answer in zip(batch.futures, answers, strict=False):
                if not future.done():
                    future.set_result(answer)
            if len(answers) < len(batch.futures):
                self._ask_again(batch, len(answers))
            else:
                self._left(len(batch.futures), batch.size)
        if self._waiting:
            self._schedule()

    def _ask_again(self, batch: _Batch, answered: int) -> None:
        """Put what was not answered in front of what waits."""
        rest = _Batch(batch.kind)
        rest.queries, rest.futures = batch.queries[answered:], batch.futures[answered:]
        rest.deadlines = batch.deadlines[answered:]
        rest.size = sum(map(len, rest.queries))
        self._left(answered, batch.size - rest.size)
        waiting = self._waiting.get(batch.kind)
        if waiting is not None:
            waiting.settle(self._loop.time() + self._timeout)
            rest.queries += waiting.queries
            rest.futures += waiting.futures
            rest.deadlines += waiting.deadlines
            rest.size += waiting.size
        self._waiting[batch.kind] = rest

    def _sweep(self, now: float) -> float | None:
        """End what is due. Returns the next deadline."""
        following: list[float] = []
        for kind, batch in list(self._waiting.items()):
            batch.settle(now + self._timeout)
            pairs = zip(batch.futures, batch.deadlines, strict=True)
            fail_all((future for future, deadline in pairs if deadline <= now), _late("it was not sent"))
            self._drop_done(batch)
            following += batch.deadlines
            if not batch.futures:
                del self._waiting[kind]
        for batch in list(self._outstanding):
            again = expire(batch.futures, batch.deadlines, now, _late("no answer came"))
            if again is None:
                self._batch_done(batch, (), _late("no answer came"))
            else:
                following.append(again)
        return min(following, default=None)


def _late(stage: str) -> DEngineError:
    return NotAppliedTimeoutError(f"the read was not answered in time: {stage}")
