"""The engine inside an application's process.

The engine runs on a thread of its own: an application that blocks its own event loop does not cost the cluster its
leader. It is a guest: nothing process-wide is touched (see docs/design/threads.md).
"""

import asyncio
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike, fspath
from types import TracebackType

from d_engine.client.api import Client, Consistency, LeaderInfo, SnapshotInfo
from d_engine.engine.builder import NodeBuilder
from d_engine.engine.config import EngineConfig, load_config
from d_engine.engine.embedded_client import EmbeddedClient
from d_engine.engine.latest import Subscription
from d_engine.engine.node import STOP_SECONDS, Node
from d_engine.engine.parts import StateMachineFactory, StorageFactory
from d_engine.engine.status import Membership
from d_engine.format.errors import ConfigError, EngineStoppedError, NoLeaderError
from d_engine.format.ids import NodeId

SNAPSHOT_SECONDS = 3600.0
READY_SECONDS = 30.0
"""How long `async with` waits for a leader."""


class EmbeddedEngine:
    """One node of a cluster, in this process. With only a directory it is a cluster of its own that listens nowhere.

    `config` is an `EngineConfig`, or the path of a TOML file. Give `data_dir` or `config`, or both (then the directory
    wins).

    Example::

        async with EmbeddedEngine("./data") as engine:
            await engine.client.put("greeting", "hello")
            assert await engine.client.get("greeting") == b"hello"

    Entering raises what keeps the node from starting: `ConfigError`, `StorageError` (locked, foreign or corrupt
    directory), `AddressInUseError`, `ListenError`, `IdentityError`; and `NoLeaderError` if none is known within 30 s.
    """

    def __init__(
        self,
        data_dir: str | PathLike[str] | None = None,
        *,
        config: EngineConfig | str | PathLike[str] | None = None,
        storage_engine: StorageFactory | None = None,
        state_machine: StateMachineFactory | None = None,
    ) -> None:
        self._builder = NodeBuilder(engine_config(data_dir, config))
        if storage_engine is not None:
            self._builder.storage_engine(storage_engine)
        if state_machine is not None:
            self._builder.state_machine(state_machine)
        self._node: Node | None = None
        self._running: asyncio.Task[None] | None = None
        self._client: EmbeddedClient | None = None

    # --- life ---

    async def start(self) -> None:
        """Start the node and return; `wait_ready` waits for a leader. Called by `async with`."""
        if self._node is not None:
            raise EngineStoppedError("an engine is started once; make another one")
        self._node = await self._builder.start()
        self._client = EmbeddedClient(self._node)
        self._running = asyncio.create_task(self._node.run())

    async def wait_ready(self, timeout: float = READY_SECONDS) -> LeaderInfo:
        """Wait until a leader is known. Raises `NoLeaderError` after `timeout` seconds, or what the node died of."""
        node, running = self.node, self._running
        changes = node.leader_change_notifier()
        known = asyncio.ensure_future(changes.wait_for(lambda leader: leader is not None))
        try:
            await asyncio.wait(
                {known} if running is None else {known, running},
                timeout=timeout,
                return_when=asyncio.FIRST_COMPLETED,
            )
            leader = known.result() if known.done() else None
            if leader is not None:
                return leader
            if running is not None and running.done():
                running.result()
                raise EngineStoppedError
            reachable = node.core.replica.peers.describe()
            raise NoLeaderError(f"no leader is known to node {node.node_id} after {timeout:g} s; {reachable}")
        finally:
            known.cancel()
            changes.close()

    async def stop(self, timeout: float = STOP_SECONDS) -> None:
        """End the node, in order. Idempotent; whoever waits for a result gets an answer."""
        if self._node is None:
            return
        if self._client is not None:
            self._client.close()
        await self._node.stop(timeout)
        if self._running is not None:
            await asyncio.wait([self._running])

    async def __aenter__(self) -> "EmbeddedEngine":
        await self.start()
        try:
            await self.wait_ready()
        except BaseException:
            await self.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # --- what it offers ---

    @property
    def node(self) -> Node:
        """The node. Raises `EngineStoppedError` before the start."""
        if self._node is None:
            raise EngineStoppedError("the engine has not been started")
        return self._node

    @property
    def client(self) -> Client:
        """The client of this engine, to be shared by all tasks, on any loop of the process."""
        return self._embedded

    @property
    def _embedded(self) -> EmbeddedClient:
        if self._client is None:
            raise EngineStoppedError("the engine has not been started")
        return self._client

    async def execute(self, command: bytes, *, timeout: float | None = None) -> bytes:
        """Apply a command of a state machine of your own, exactly once; what its `apply` returned for it. Raises what
        `Client.put` raises."""
        return await self._embedded.execute(command, timeout=timeout)

    async def query(
        self, request: bytes, *, consistency: Consistency = "linearizable", timeout: float | None = None
    ) -> bytes:
        """Ask a state machine of your own; what its `query` answered. Raises what `Client.get` raises."""
        return await self._embedded.query(request, consistency=consistency, timeout=timeout)

    @property
    def node_id(self) -> NodeId:
        """This node's number in the cluster."""
        return self.node.node_id

    @property
    def is_leader(self) -> bool:
        """Whether this node leads, as far as it knows; to act on it safely, use what the client returns."""
        leader = self.leader
        return leader is not None and leader.leader_id == self.node.node_id

    @property
    def leader(self) -> LeaderInfo | None:
        """The leader that this node knows, without waiting."""
        return self.node.leader

    def leader_changes(self) -> Subscription[LeaderInfo | None]:
        """The leader, now and whenever it changes; None while none is known.

        Example::

            async for leader in engine.leader_changes():
                print("leader:", leader)
                if leader is not None:
                    break
        """
        return self.node.leader_change_notifier()

    def watch_membership(self) -> Subscription[Membership | None]:
        """The committed members, now and then each change, in order, with the log index at which it took place. The
        middle of a step, which is `joint`, is a change too. None until this node knows of a cluster.

        Example::

            async for members in engine.watch_membership():
                if members is not None:
                    print(members.index, members.voters, members.learners)
                    break
        """
        return self.node.membership_change_notifier()

    async def take_snapshot(self, timeout: float = SNAPSHOT_SECONDS) -> SnapshotInfo:
        """Take a snapshot of what this node has applied, and wait until it is on stable storage. Nodes take them by
        themselves. Raises as `Client.take_snapshot`."""
        return await self.client.take_snapshot(timeout=timeout)

    def metrics(self) -> dict[str, int | float]:
        """Counters since the start of the node, and gauges of this moment. Raises `EngineStoppedError`."""
        return self.node.core.backend.metrics()

    @property
    def failed(self) -> BaseException | None:
        """What the engine died of, if it did not stop by request."""
        return None if self._node is None else self._node.failure.value

    def __repr__(self) -> str:
        return f"<EmbeddedEngine {self._node!r}>"


def engine_config(
    data_dir: str | PathLike[str] | None, config: EngineConfig | str | PathLike[str] | None
) -> EngineConfig:
    """The configuration that these arguments mean."""
    overrides: Mapping[str, str] = {} if data_dir is None else {"node.data_dir": fspath(data_dir)}
    if isinstance(config, EngineConfig):
        return (
            config
            if data_dir is None
            else replace(config, node=replace(config.node, data_dir=fspath(data_dir)))
        )
    if config is None and data_dir is None:
        raise ConfigError('an engine needs a data directory or a configuration: EmbeddedEngine("./data")')
    return load_config(config, overrides=overrides)
