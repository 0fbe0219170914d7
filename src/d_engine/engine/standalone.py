"""The engine as a service of its own: a node that serves remote clients until it is told to end."""

import asyncio

from d_engine.engine.builder import NodeBuilder
from d_engine.engine.config import EngineConfig
from d_engine.engine.node import STOP_SECONDS, Node
from d_engine.format.errors import ConfigError


class StandaloneEngine:
    """A node that listens. Start it with `d-engine serve`, or from a program of your own:

    Example::

        engine = StandaloneEngine(load_config("node1.toml"))
        await engine.run(shutdown)      # an asyncio.Event
    """

    def __init__(self, config: EngineConfig) -> None:
        if not (config.cluster.listen or config.cluster.client_listen):
            raise ConfigError(
                'a service needs an address: set cluster.listen, for example to "127.0.0.1:7000"'
            )
        self._builder = NodeBuilder(config)
        self.node: Node | None = None

    async def start(self) -> Node:
        """The data is recovered and the address bound; raises what keeps the node from starting."""
        self.node = await self._builder.start()
        return self.node

    async def run(self, shutdown: asyncio.Event, stop_seconds: float = STOP_SECONDS) -> None:
        """Serve until `shutdown` is set, then stop in order. Raises what the node died of."""
        node = self.node or await self.start()
        running = asyncio.create_task(node.run())
        asked = asyncio.create_task(shutdown.wait())
        try:
            await asyncio.wait((running, asked), return_when=asyncio.FIRST_COMPLETED)
        finally:
            asked.cancel()
            await node.stop(stop_seconds)
            await running
