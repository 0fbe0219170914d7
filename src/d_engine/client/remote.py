"""The client that talks to a cluster over the network.

It is the writer and the reader that the embedded client has too, with another way to the cluster: a frame for each
group and each batch of queries, over one connection that all tasks share.
"""

import asyncio
from collections.abc import AsyncIterator, Generator, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, NamedTuple

from d_engine.client.api import Client
from d_engine.client.dispatcher import Dispatcher
from d_engine.client.endpoints import Endpoints, parse_endpoints
from d_engine.client.link import Call
from d_engine.client.primitives import NodeAsker, check_timeout
from d_engine.client.reader import AnswersDone, BatchReader
from d_engine.client.remote_watches import RemoteWatches
from d_engine.client.writer import MAX_PENDING_WRITES, GroupWriter, OutcomeDone
from d_engine.format.errors import DEngineError, OutcomeUnknownError, ProtocolError
from d_engine.format.ids import ClusterId
from d_engine.format.limits import MAX_KEY_BYTES, MAX_VALUE_BYTES
from d_engine.format.requests import (
    GroupResults,
    Manage,
    Managed,
    OpenSession,
    ReadBatch,
    ReadResults,
    Response,
    SessionOpened,
    WriteGroup,
)
from d_engine.runtime.fork import ForkGuard

DEFAULT_TIMEOUT_SECONDS = 5.0
_QUESTIONS = frozenset(("status", "members", "leader"))
"""Operations that change nothing."""


class _Outcome(NamedTuple):
    results: Sequence[bytes]
    revision: int
    error: DEngineError | None


def _error(answer: Response | DEngineError) -> DEngineError:
    if isinstance(answer, DEngineError):
        return answer
    return ProtocolError(f"a node answered with a {type(answer).__name__}, which was not asked for")


class RemoteTransport:
    """Groups, queries and rare operations as calls (see `GroupTransport`, `ReadTransport`)."""

    def __init__(self, loop: asyncio.AbstractEventLoop, dispatcher: Dispatcher) -> None:
        self._loop = loop
        self._dispatcher = dispatcher

    def open_session(self, timeout: float, done: OutcomeDone) -> None:
        def opened(answer: Response | DEngineError) -> None:
            if isinstance(answer, SessionOpened):
                done(_Outcome((), answer.session, None))
            else:
                done(_Outcome((), 0, _error(answer)))

        # Sent twice it opens two sessions, of which one is never used: that does no harm.
        self._dispatcher.start(Call(OpenSession, self._loop.time() + timeout, opened))

    def submit(self, group: bytes, timeout: float, done: OutcomeDone) -> None:
        def applied(answer: Response | DEngineError) -> None:
            if isinstance(answer, GroupResults):
                done(_Outcome(answer.results, answer.revision, None))
            elif isinstance(answer, DEngineError):
                done(_Outcome((), 0, answer))
            else:
                done(_Outcome((), 0, OutcomeUnknownError(str(_error(answer)))))

        def make(number: int, timeout_ms: int) -> WriteGroup:
            return WriteGroup(number, timeout_ms, group)

        self._dispatcher.start(Call(make, self._loop.time() + timeout, applied, changes=True))

    def read(
        self, policy: int, min_revision: int, queries: Sequence[bytes], timeout: float, done: AnswersDone
    ) -> None:
        batch = tuple(queries)

        def answered(answer: Response | DEngineError) -> None:
            if isinstance(answer, ReadResults):
                done(answer.answers, None)
            else:
                done((), _error(answer))

        def make(number: int, timeout_ms: int) -> ReadBatch:
            return ReadBatch(number, timeout_ms, policy, min_revision, batch)

        self._dispatcher.start(Call(make, self._loop.time() + timeout, answered))

    def manage(self, operation: str, arguments: bytes, timeout: float) -> "asyncio.Future[bytes]":
        future: asyncio.Future[bytes] = self._loop.create_future()

        def answered(answer: Response | DEngineError) -> None:
            if future.done():
                return
            if isinstance(answer, Managed):
                future.set_result(answer.document)
            else:
                future.set_exception(_error(answer))

        def make(number: int, timeout_ms: int) -> Manage:
            return Manage(number, timeout_ms, operation, arguments)

        question = operation in _QUESTIONS
        deadline = self._loop.time() + timeout
        self._dispatcher.start(Call(make, deadline, answered, changes=not question, repeatable=question))
        return future


class RemoteClient(Client):
    """A `Client` of a cluster that runs elsewhere. Made by `connect`, used on the loop on which it was made."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        timeout: float,
        max_pending_writes: int,
        max_key_bytes: int,
        max_value_bytes: int,
    ) -> None:
        super().__init__(max_key_bytes, max_value_bytes)
        loop = asyncio.get_running_loop()
        self._dispatcher = dispatcher
        self._timeout = timeout
        self._transport = RemoteTransport(loop, dispatcher)
        self._writer = GroupWriter(loop, self._transport, timeout, max_pending_writes)
        self._reader = BatchReader(loop, self._transport, timeout)
        self._remote_watches = RemoteWatches(loop, dispatcher, timeout)
        self._guard = ForkGuard()

    async def close(self) -> None:
        """End all connections. Who still waits for a write gets `OutcomeUnknownError` if it was sent, everybody else
        `EngineStoppedError`. May be repeated."""
        self._lose_leases()
        self._remote_watches.end()
        self._dispatcher.end()
        self._writer.close()
        self._reader.close()
        await self._remote_watches.closed()
        await self._dispatcher.closed()

    def _write(self, command: bytes, timeout: float | None, large_result: bool) -> "asyncio.Future[bytes]":
        if self._guard.forked:
            self._guard.check()
        return self._writer.write(command, timeout, large_result)

    def _read(
        self, policy: int, min_revision: int, query: bytes, timeout: float | None
    ) -> "asyncio.Future[bytes]":
        if self._guard.forked:
            self._guard.check()
        return self._reader.read(policy, min_revision, query, timeout)

    @asynccontextmanager
    async def _one_node(self) -> AsyncIterator[NodeAsker]:
        """A connection of its own, to the node that is used now: requests of this client may go elsewhere tomorrow."""
        timeout = self._timeout
        async with connect(self._dispatcher.address, request_timeout=timeout, discover=False) as client:

            async def ask(query: bytes, consistency: str, timeout: float | None) -> bytes:
                return await client._ask(query, consistency, None, timeout)

            yield ask

    def _watches(self) -> RemoteWatches:
        return self._remote_watches

    def _manage(self, operation: str, arguments: bytes, timeout: float | None) -> "asyncio.Future[bytes]":
        self._guard.check()
        return self._transport.manage(operation, arguments, timeout or self._timeout)


class Connecting:
    """What `connect` returns: to be awaited, or to be entered with `async with`, which also closes the client."""

    def __init__(
        self,
        endpoints: Endpoints,
        timeout: float,
        connect_timeout: float,
        cluster_id: ClusterId,
        limits: tuple[int, int, int],
    ) -> None:
        self._endpoints = endpoints
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._cluster_id = cluster_id
        self._limits = limits
        self._client: RemoteClient | None = None

    def __await__(self) -> Generator[Any, None, RemoteClient]:
        return self._open().__await__()

    async def __aenter__(self) -> RemoteClient:
        self._client = await self._open()
        return self._client

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._client is not None:
            await self._client.close()

    async def _open(self) -> RemoteClient:
        loop = asyncio.get_running_loop()
        dispatcher = Dispatcher(loop, self._endpoints, self._cluster_id)
        try:
            await dispatcher.connect(self._connect_timeout)
        except BaseException:
            dispatcher.end()
            await dispatcher.closed()
            raise
        return RemoteClient(dispatcher, self._timeout, *self._limits)


def connect(
    endpoints: str | Iterable[str],
    *,
    request_timeout: float = DEFAULT_TIMEOUT_SECONDS,
    connect_timeout: float = DEFAULT_TIMEOUT_SECONDS,
    discover: bool = True,
    cluster_id: ClusterId = 0,
    max_pending_writes: int = MAX_PENDING_WRITES,
    max_key_bytes: int = MAX_KEY_BYTES,
    max_value_bytes: int = MAX_VALUE_BYTES,
) -> Connecting:
    """A client of the cluster whose nodes listen at `endpoints`: `"host:port,host:port"`, or a sequence of addresses.
    One that answers is enough; it tells about the others.

    `request_timeout` is the usual time-out of an operation, `connect_timeout` how long to look for the first node,
    both in seconds. With `discover` the client finds the other members and goes to the leader where that is faster;
    without, it talks to the endpoints given and to nobody else (every node serves everything). `cluster_id` insists
    on one cluster (0: whichever answers first). At most `max_pending_writes` writes may wait; the limits of keys and
    values should be those of the cluster. Raises `UnavailableError`, which names what was tried, if no node answers;
    `ConfigError` for what is no address.

    Example::

        async with d_engine.connect("127.0.0.1:7000") as client:
            await client.put("greeting", "hello")
    """
    check_timeout(request_timeout)
    check_timeout(connect_timeout)
    limits = (max_pending_writes, max_key_bytes, max_value_bytes)
    found = Endpoints(parse_endpoints(endpoints), discover)
    return Connecting(found, request_timeout, connect_timeout, cluster_id, limits)
