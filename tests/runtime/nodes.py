"""Small members for tests of the transport: a listener and a peer network, with a list of what happened."""

import asyncio
import random
from collections.abc import Callable

from d_engine.format.errors import DEngineError
from d_engine.format.frames import Frame
from d_engine.format.hello import Channel, Hello, Refusal
from d_engine.format.ids import NodeId
from d_engine.format.messages import Heartbeat, PeerMessage
from d_engine.runtime.connection import Connection
from d_engine.runtime.greeting import Identity
from d_engine.runtime.listener import Listener
from d_engine.runtime.peers import PeerEvents, PeerNetwork

CLUSTER = 77


async def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Let the loop run until the condition holds. The limit is for tests that fail."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.001)


class Client:
    """What the listener makes of a client: it echoes frames, and counts."""

    def __init__(self, connection: Connection, hello: Hello) -> None:
        self.connection = connection
        self.hello = hello
        self.frames = 0
        self.closed: list[DEngineError | None] = []

    def on_frames(self, frames: list[Frame]) -> None:
        self.frames += len(frames)

    def on_close(self, reason: DEngineError | None) -> None:
        self.closed.append(reason)


class Node:
    """One member. Create on a running loop, then `await start()`."""

    def __init__(
        self,
        node_id: NodeId,
        cluster: int = CLUSTER,
        *,
        client: Callable[[Connection, Hello], Client] = Client,
        insecure_listen: bool = False,
        max_connections: int = 64,
    ) -> None:
        self.node_id = node_id
        self.cluster = cluster
        self.address = ""
        self.received: list[tuple[NodeId, PeerMessage]] = []
        self.batches = 0
        self.events: list[tuple[str, NodeId]] = []
        self.refusals: list[tuple[NodeId, Refusal]] = []
        self.clients: list[Client] = []
        self._client = client
        identity = Identity(self.hello, self.admit)
        self.network = PeerNetwork(
            identity,
            PeerEvents(
                self.receive,
                lambda peer: self.events.append(("connected", peer)),
                lambda peer: self.events.append(("lost", peer)),
                lambda peer, refusal: self.refusals.append((peer, refusal)),
            ),
            random.Random(node_id).getrandbits,
        )
        self.listener = Listener(
            identity,
            self.network.accept,
            self.on_client,
            insecure_listen=insecure_listen,
            max_connections=max_connections,
        )

    async def start(self, address: str = "127.0.0.1:0") -> "Node":
        self.address = await self.listener.listen(address)
        return self

    def stop(self) -> None:
        self.listener.close()
        self.network.close()

    def hello(self, channel: Channel) -> Hello:
        return Hello(channel, self.cluster, self.node_id, 1000 + self.node_id, self.address)

    def admit(self, hello: Hello, address: str) -> Refusal | None:
        if hello.cluster_id != self.cluster:
            return Refusal("cluster_id_mismatch", f"this is cluster {self.cluster}")
        return None

    def receive(self, sender: NodeId, messages: list[PeerMessage]) -> None:
        self.batches += 1
        self.received.extend((sender, message) for message in messages)

    def on_client(self, connection: Connection, hello: Hello) -> Client:
        self.clients.append(self._client(connection, hello))
        return self.clients[-1]


def heartbeat(number: int, term: int = 1) -> Heartbeat:
    return Heartbeat(term, number, 0, 0)


async def connected(*nodes: Node) -> None:
    """Make everybody know everybody, and wait until they can talk."""
    for node in nodes:
        node.network.set_peers({other.node_id: other.address for other in nodes if other is not node})
    await until(
        lambda: all(
            node.network.connected_to(other.node_id, channel)
            for node in nodes
            for other in nodes
            for channel in (Channel.CONTROL, Channel.DATA)
            if other is not node
        )
    )
