"""The exchangeable parts of a node, as factories: they are made on the engine's thread, where they are used."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from d_engine.engine.config import EngineConfig
from d_engine.format.errors import ConfigError
from d_engine.format.hello import Hello, Refusal
from d_engine.format.state_machine import StateMachine
from d_engine.kv.machine import KvStateMachine
from d_engine.replica.ports import Host, Network
from d_engine.runtime.connection import Connection
from d_engine.runtime.greeting import Identity
from d_engine.runtime.peers import PeerEvents, PeerNetwork
from d_engine.storage.api import LogStorage
from d_engine.storage.disk import Disk
from d_engine.storage.memory import MemoryStorage
from d_engine.storage.wal import WalStorage

_SEED_BITS = 32


class PeerTransport(Network, Protocol):
    """A `Network` that also takes over the connections which members have dialled, and can be closed."""

    def accept(self, connection: Connection, hello: Hello) -> Refusal | None: ...

    def close(self) -> None: ...


StorageFactory = Callable[[Disk, Host, EngineConfig], LogStorage]
StateMachineFactory = Callable[[], StateMachine]
TransportFactory = Callable[[Identity, PeerEvents, Host], PeerTransport]


def default_storage(disk: Disk, host: Host, config: EngineConfig) -> LogStorage:
    """The engine that the configuration names."""
    if config.storage.engine == "memory":
        return MemoryStorage(host.call_soon)
    return WalStorage(disk, host.random_bits(_SEED_BITS), config.storage.segment_bytes)


def default_transport(identity: Identity, events: PeerEvents, host: Host) -> PeerTransport:
    """Framed TCP and Unix sockets."""
    return PeerNetwork(identity, events, host.random_bits)


@dataclass(frozen=True, slots=True)
class NodeParts:
    """What a node is put together from."""

    storage: StorageFactory = default_storage
    state_machine: StateMachineFactory = KvStateMachine
    transport: TransportFactory = default_transport

    def validate(self) -> None:
        """Raise `ConfigError`, naming the part, unless each can be called."""
        for name in ("storage", "state_machine", "transport"):
            part = getattr(self, name)
            if not callable(part):
                raise ConfigError(f"the node's {name} must be a factory (something to call), not {part!r}")
