"""Finding a node that answers: endpoint by endpoint, again and again with growing pauses, as long as somebody waits."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import NamedTuple, TypeAlias

from d_engine.client.endpoints import Endpoints
from d_engine.format.errors import ClusterIdMismatchError, DEngineError, UnavailableError, error_from_code
from d_engine.format.hello import Channel, Hello, Refusal
from d_engine.format.ids import NOBODY, ClusterId, NodeId
from d_engine.runtime.connection import Connection
from d_engine.runtime.greeting import Established, dial

DIAL_SECONDS = 1.5
BACKOFF_SECONDS = 0.05
BACKOFF_CAP_SECONDS = 1.0
STABLE_SECONDS = 1.0
"""A connection that lasted so long was good: the next one is looked for without a pause."""


Dial: TypeAlias = Callable[
    [str, Hello, Callable[[Hello], Refusal | None], Established], Awaitable[Connection | Refusal]
]
"""As `d_engine.runtime.greeting.dial`."""


class Outside(NamedTuple):
    """What a client has of the world besides a loop: connections, and chance. The simulator brings its own."""

    dial: Dial
    uniform: Callable[[float, float], float]


NETWORK = Outside(dial, random.uniform)


class Dialer:
    """Dials one endpoint at a time. `wanted` tells whether a connection is still missed; `established` takes it over,
    at once, because answers may follow."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        endpoints: Endpoints,
        cluster_id: ClusterId,
        wanted: Callable[[], bool],
        established: Callable[[Connection, str, NodeId], None],
        outside: Outside,
    ) -> None:
        self._loop = loop
        self.outside = outside
        self._endpoints = endpoints
        self.cluster_id = cluster_id
        self._wanted = wanted
        self._established = established
        self._established_at = float("-inf")
        self._task: asyncio.Task[None] | None = None

    def look(self) -> None:
        """See to it that a connection is found, if one is wanted."""
        if self._task is None and self._wanted():
            self._run(self._find())

    def go_to(self, address: str) -> None:
        """Try this endpoint once, unless others are being tried."""
        if self._task is None:
            self._run(self._try_once(address))

    async def stop(self) -> None:
        """Dial no more. `wanted` must say no from now on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    def _run(self, work: Coroutine[None, None, None]) -> None:
        self._task = self._loop.create_task(work)
        self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._task = None
        if not task.cancelled() and (failure := task.exception()) is not None:
            raise failure
        self.look()

    async def _try_once(self, address: str) -> None:
        await self._dial(address)

    async def _find(self) -> None:
        # A node that accepts and fails at once must not be dialled without a pause.
        pause = BACKOFF_SECONDS if self._loop.time() - self._established_at < STABLE_SECONDS else 0.0
        while self._wanted():
            await asyncio.sleep(pause * self.outside.uniform(0.5, 1.0))
            pause = min(max(2 * pause, BACKOFF_SECONDS), BACKOFF_CAP_SECONDS)
            for address in self._endpoints.order(self._loop.time()):
                if await self._dial(address):
                    break

    async def _dial(self, address: str) -> bool:
        hello = Hello(Channel.CLIENT, self.cluster_id, NOBODY, 0)

        def established(connection: Connection, answer: Hello) -> None:
            self._established_at = self._loop.time()
            self.cluster_id = self.cluster_id or answer.cluster_id
            self._established(connection, address, answer.node_id)

        error: DEngineError
        try:
            async with asyncio.timeout(DIAL_SECONDS):
                answer = await self.outside.dial(address, hello, self._admit, established)
        except TimeoutError:
            error = UnavailableError(f"it did not answer within {DIAL_SECONDS:g} s")
        except DEngineError as failure:
            error = failure
        else:
            if not isinstance(answer, Refusal):
                return True
            error = error_from_code(answer.code, answer.text)
        self._endpoints.failed(address, error, self._loop.time())
        return False

    def _admit(self, hello: Hello) -> Refusal | None:
        if self.cluster_id and hello.cluster_id and hello.cluster_id != self.cluster_id:
            text = f"it belongs to cluster {hello.cluster_id:#x}, not to {self.cluster_id:#x}"
            return Refusal(ClusterIdMismatchError.code, text)
        return None
