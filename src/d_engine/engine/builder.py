"""How a node is put together."""

from functools import partial

from d_engine.engine.config import EngineConfig
from d_engine.engine.core import NodeCore
from d_engine.engine.node import Node
from d_engine.engine.parts import NodeParts, StateMachineFactory, StorageFactory, TransportFactory
from d_engine.format.errors import ConfigError


class NodeBuilder:
    """Names the parts of a node; `start` makes it.

    Each part is a factory, called on the engine's thread: the storage engine with `(disk, host, config)`, the state
    machine with nothing, the transport with `(identity, events, host)`. What is not named is the default.

    Example::

        node = await NodeBuilder(config).state_machine(MyStateMachine).start()
        await node.stop()
    """

    def __init__(self, config: EngineConfig) -> None:
        if not isinstance(config, EngineConfig):
            raise ConfigError(f"a node is built from an EngineConfig, not from {config!r}")
        self._config = config
        self._parts = NodeParts()

    def storage_engine(self, factory: StorageFactory) -> "NodeBuilder":
        """Keep the log in this instead of the engine that the configuration names."""
        self._parts = NodeParts(factory, self._parts.state_machine, self._parts.transport)
        return self

    def state_machine(self, factory: StateMachineFactory) -> "NodeBuilder":
        """Apply the log to this instead of the key-value store."""
        self._parts = NodeParts(self._parts.storage, factory, self._parts.transport)
        return self

    def transport(self, factory: TransportFactory) -> "NodeBuilder":
        """Talk to the other members through this instead of framed TCP and Unix sockets."""
        self._parts = NodeParts(self._parts.storage, self._parts.state_machine, factory)
        return self

    async def start(self) -> Node:
        """The node, its data recovered and its address bound; `Node.run` makes it take part. Raises `ConfigError`
        naming the part that is missing or bad, `StorageError`, `AddressInUseError`, `ListenError`."""
        self._parts.validate()
        node = Node(self._config, partial(NodeCore, self._config, self._parts))
        await node.open()
        return node
