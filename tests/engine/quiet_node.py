"""A replica whose ports do nothing: for tests of what stands around it."""

from collections.abc import Callable

from d_engine.format.configuration import Configuration, Member
from d_engine.format.errors import DEngineError
from d_engine.format.hello import Channel
from d_engine.format.ids import LogIndex, NodeId
from d_engine.format.messages import PeerMessage
from d_engine.kv.machine import KvStateMachine
from d_engine.raft.effects import LeaderState
from d_engine.replica.listener import Health
from d_engine.replica.replica import Replica
from d_engine.replica.settings import ReplicaSettings
from d_engine.storage.memory import MemoryDisk, MemoryStorage
from d_engine.storage.snapshots import SnapshotFiles


class QuietPorts:
    """Host, network and listener in one: time stands still, nothing is sent, nobody is told."""

    def now(self) -> int:
        return 0

    def call_soon(self, function: Callable[[], None]) -> None: ...

    def set_timer(self, deadline: int) -> None: ...

    def random_bits(self, count: int) -> int:
        return 1

    def send(self, to: NodeId, channel: Channel, message: PeerMessage) -> None: ...

    def set_peers(self, peers: dict[NodeId, str]) -> None: ...

    def disconnect(self, peer: NodeId) -> None: ...

    def leader_changed(self, state: LeaderState) -> None: ...

    def members_changed(self, index: LogIndex, configuration: Configuration) -> None: ...

    def health_changed(self, health: Health) -> None: ...

    def failed(self, error: DEngineError) -> None: ...


def quiet_replica() -> Replica:
    """One of two members; the other never answers."""
    ports = QuietPorts()
    bootstrap = Configuration(0, (Member(1, "a:1"), Member(2, "b:2")), (1, 2))
    settings = ReplicaSettings(1, 7, bootstrap=bootstrap)
    files = SnapshotFiles(MemoryDisk(ports.call_soon))
    return Replica(settings, ports, ports, MemoryStorage(ports.call_soon), files, KvStateMachine(), ports)
