"""The client of an engine in the same process: the common interface, with hand-overs to the engine's thread instead of
connections, and with reads that need no hand-over at all.

A single-key `get` under the policies "eventual" and "lease" (with a valid lease) is answered on the caller's thread:
one look-up in a dict, which other threads see before or after a write and never in between. The store's epoch is odd
while a command changes several keys; a read that sees it odd, or changed, goes to the engine's thread like all others.

Any other single-key `get` asks the engine's thread only whether it may be made, and then looks the key up in the same
way, so that no question and no answer is encoded. That is a moment later, of the same state or a newer one: what is
promised of a state is true of every later one (docs/design/reads.md).
"""

import asyncio
import threading
from asyncio import AbstractEventLoop, Future
from contextlib import AbstractAsyncContextManager, nullcontext

from d_engine.client.api import Client, Consistency, KeyValue, Text
from d_engine.client.feed import WatchTransport
from d_engine.client.primitives import NodeAsker
from d_engine.client.reader import BatchReader
from d_engine.client.writer import GroupWriter
from d_engine.engine.node import Node
from d_engine.engine.transport import CONFIRMATION, Transport
from d_engine.engine.watching import EmbeddedWatches
from d_engine.format.errors import EngineStoppedError
from d_engine.kv.machine import KvStateMachine
from d_engine.runtime.clock import boot_time_ns
from d_engine.runtime.fork import ForkGuard

READS_PER_TURN = 256
"""After so many reads without a task switch, one of them yields: they never suspend and would starve the loop."""

_LEAST_SECONDS = 0.001


class _Binding:
    """What one event loop uses of the engine."""

    __slots__ = ("loop", "reader", "transport", "watches", "writer")

    def __init__(self, node: Node, loop: AbstractEventLoop) -> None:
        timeout = node.config.client.request_timeout_s
        node.thread.pulse.accompany()
        self.loop = loop
        self.transport = Transport(node.thread, node.core.backend, node.core.run)
        self.writer = GroupWriter(loop, self.transport, timeout)
        self.reader = BatchReader(loop, self.transport, timeout)
        self.watches = EmbeddedWatches(node.thread, node.core.backend.watches)

    def close(self) -> None:
        self.writer.close()
        self.reader.close()
        self.transport.close()
        self.watches.close()

    def abandon(self) -> None:
        """The loop is closed. On any thread."""
        self.watches.abandon()
        self.transport.abandon()


class EmbeddedClient(Client):
    """Share it between all tasks and loops of the process."""

    def __init__(self, node: Node) -> None:
        limits = node.config.limits
        super().__init__(limits.max_key_bytes, limits.max_value_bytes)
        self._node = node
        replica = node.core.replica
        self._raft, self._health = replica.raft, replica.executor.guard
        machine = replica.applier.state_machine
        self._store = machine.store if isinstance(machine, KvStateMachine) else None
        self._guard = ForkGuard()
        self._lock = threading.Lock()
        self._bindings: dict[AbstractEventLoop, _Binding] = {}
        self._last: _Binding | None = None
        self._closed = False
        self._reads_this_turn = 0

    # --- reads that need no hand-over ---

    async def get(
        self,
        key: Text,
        *,
        consistency: Consistency = "linearizable",
        min_revision: int | None = None,
        timeout: float | None = None,
    ) -> bytes | None:
        if consistency != "linearizable":
            entry = self._get_here(key, consistency, min_revision)
            if entry is not _NOT_HERE:
                if self._reads_this_turn >= READS_PER_TURN:
                    await self._yield()
                return None if entry is None else entry.value
        entry = await self._get_confirmed(key, consistency, min_revision, timeout)
        return None if entry is None else entry.value

    async def get_entry(
        self,
        key: Text,
        *,
        consistency: Consistency = "linearizable",
        min_revision: int | None = None,
        timeout: float | None = None,
    ) -> KeyValue | None:
        if consistency != "linearizable":
            entry = self._get_here(key, consistency, min_revision)
            if entry is not _NOT_HERE:
                if self._reads_this_turn >= READS_PER_TURN:
                    await self._yield()
                return entry
        return await self._get_confirmed(key, consistency, min_revision, timeout)

    def _get_here(self, key: Text, consistency: str, min_revision: int | None) -> KeyValue | None:
        """The entry, or `_NOT_HERE` if the engine's thread has to be asked. Written out, without helpers: this is the
        whole cost of a local read."""
        store = self._store
        if self._guard.forked:
            self._guard.check()
        if self._closed or store is None or self._health.closed:
            return _NOT_HERE
        if consistency == "lease":
            if boot_time_ns() >= self._raft.published_lease:
                return _NOT_HERE
        elif consistency != "eventual":
            return _NOT_HERE
        data = key.encode() if isinstance(key, str) else key
        if len(data) > self.max_key_bytes:
            return _NOT_HERE
        epoch = store.epoch
        if epoch & 1 or (min_revision is not None and store.revision < min_revision):
            return _NOT_HERE
        entry = store.get(data)
        if store.epoch != epoch:
            return _NOT_HERE
        self._reads_this_turn += 1
        return entry

    async def _get_confirmed(
        self, key: Text, consistency: Consistency, min_revision: int | None, timeout: float | None
    ) -> KeyValue | None:
        """The entry, when the engine's thread has said that it may be read. What only that can look up, it does, in
        what is left of the time."""
        store = self._store
        if store is not None:
            data, begin = self._key(key), boot_time_ns()
            await self._ask(CONFIRMATION, consistency, min_revision, timeout)
            epoch = store.epoch
            entry = store.get(data)
            # Whether the state is sound is looked at last: one that is given up after that was sound when it was read.
            if not epoch & 1 and store.epoch == epoch and not self._health.closed:
                return entry
            given = timeout or self._node.config.client.request_timeout_s
            timeout = max(given - (boot_time_ns() - begin) / 1e9, _LEAST_SECONDS)
        return await super().get_entry(
            key, consistency=consistency, min_revision=min_revision, timeout=timeout
        )

    async def _yield(self) -> None:
        self._reads_this_turn = 0
        await asyncio.sleep(0)

    # --- a state machine of one's own ---

    async def execute(self, command: bytes, *, timeout: float | None = None) -> bytes:
        """See `EmbeddedEngine.execute`."""
        return await self._write(command, timeout, True)

    async def query(
        self, request: bytes, *, consistency: Consistency = "linearizable", timeout: float | None = None
    ) -> bytes:
        """See `EmbeddedEngine.query`."""
        return await self._ask(request, consistency, None, timeout)

    # --- everything else ---

    def _write(self, command: bytes, timeout: float | None, large_result: bool) -> "Future[bytes]":
        return self._binding().writer.write(command, timeout, large_result)

    def _read(self, policy: int, min_revision: int, query: bytes, timeout: float | None) -> "Future[bytes]":
        return self._binding().reader.read(policy, min_revision, query, timeout)

    def _one_node(self) -> AbstractAsyncContextManager[NodeAsker]:
        async def ask(query: bytes, consistency: str, timeout: float | None) -> bytes:
            return await self._ask(query, consistency, None, timeout)

        return nullcontext(ask)

    def _manage(self, operation: str, arguments: bytes, timeout: float | None) -> "Future[bytes]":
        seconds = timeout or self._node.config.client.request_timeout_s
        return self._binding().transport.manage(operation, arguments, seconds)

    def _watches(self) -> WatchTransport:
        return self._binding().watches

    def _binding(self) -> _Binding:
        self._guard.check()
        loop = asyncio.get_running_loop()
        last = self._last
        if last is not None and last.loop is loop:
            return last
        return self._bind(loop)

    def _bind(self, loop: AbstractEventLoop) -> _Binding:
        with self._lock:
            if self._closed:
                raise EngineStoppedError("the engine is stopped", self._node.failure.value)
            binding = self._bindings.get(loop)
            if binding is None:
                for gone in [other for other in self._bindings if other.is_closed()]:
                    self._bindings.pop(gone).abandon()
                binding = self._bindings[loop] = _Binding(self._node, loop)
            self._last = binding
            return binding

    def close(self) -> None:
        """Whoever waits is told, on the loop on which it waits."""
        with self._lock:
            self._closed = True
            bindings, self._bindings, self._last = list(self._bindings.values()), {}, None
        self._lose_leases()
        here = asyncio.get_running_loop()
        for binding in bindings:
            if binding.loop is here:
                binding.close()
            elif not binding.loop.is_closed():
                binding.loop.call_soon_threadsafe(binding.close)


_NOT_HERE = KeyValue(b"", b"", 0, 0, 0, 0)
