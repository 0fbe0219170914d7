"""The simulated network: links between all nodes, connections over them, and each process's `Network` port.

Two nodes have one connection, over which both channels run. Either side dials when it was told of the other and there
is no connection; greetings are exchanged and admitted as in production, by the replicas themselves. A connection ends
when a process dies, when a replica asks for it, or when a link has been cut for as long as a network stack takes to
notice. Until then a cut link only holds messages back, so short cuts look like delays. What is told to a replica comes
as an event of its node: a paused node learns it later.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from d_engine.format.hello import Channel, Hello, Refusal
from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.format.messages import PeerMessage
from d_engine.testing.sim.events import MILLISECOND, EventQueue
from d_engine.testing.sim.links import Quality
from d_engine.testing.sim.trace import Trace
from d_engine.testing.sim.wires import NetworkSettings, Wires


class Endpoint(Protocol):
    """A node as the network sees it. `awake` is false while the process is down or stands still."""

    @property
    def awake(self) -> bool: ...

    @property
    def alive(self) -> bool: ...

    @property
    def address(self) -> str: ...

    def wants(self, peer: NodeId, address: str) -> bool: ...

    def hello(self) -> Hello: ...

    def admit(self, hello: Hello) -> Refusal | None: ...

    def receive(self, sender: NodeId, message: PeerMessage) -> None: ...

    def connected(self, hello: Hello) -> None: ...

    def lost(self, peer: NodeId) -> None: ...

    def refused(self, peer: NodeId, refusal: Refusal) -> None: ...


@dataclass(slots=True)
class _Pair:
    """Two nodes, and whether a connection stands between them. `told` lists who believes so."""

    up: bool = False
    dialling: bool = False
    serial: int = 0
    pause: Nanoseconds = 0
    told: dict[NodeId, bool] = field(default_factory=dict)


class Fabric:
    """All nodes, the wires between them, and the connections over these."""

    def __init__(self, events: EventQueue, rng: Random, trace: Trace, settings: NetworkSettings) -> None:
        self.settings = settings
        self.wires = Wires(events, rng, trace, settings, self._arrived)
        self.spy: Callable[[PeerMessage], bool] | None = None
        """Sees every message that leaves; one of which it says True is lost."""
        self._events = events
        self._rng = rng
        self._trace = trace
        self._nodes: dict[NodeId, Endpoint] = {}
        self._pairs: dict[tuple[NodeId, NodeId], _Pair] = {}

    def add(self, node: NodeId, endpoint: Endpoint, qualities: dict[NodeId, tuple[Quality, Quality]]) -> None:
        """A machine; for each other one, the links to it and from it."""
        self._nodes[node] = endpoint
        for other, (there, back) in qualities.items():
            self.wires.add(node, other, there)
            self.wires.add(other, node, back)
            self._pairs[node, other] = self._pairs[other, node] = _Pair()

    def connected_to(self, node: NodeId) -> list[NodeId]:
        """With whom it has a connection."""
        return [other for a, other in sorted(self._pairs) if a == node and self._pairs[a, other].up]

    def send(
        self, source: NodeId, to: NodeId, channel: Channel, message: PeerMessage, skew: Nanoseconds
    ) -> None:
        """Best effort. `skew` is how much later than now it really leaves."""
        if self.spy is not None and self.spy(message):
            return
        pair = self._pairs.get((source, to))
        if pair is None or not pair.up:
            self._trace.counters["net: not connected"] += 1
        else:
            self.wires.send((source, to), channel, message, skew)

    def _arrived(self, source: NodeId, to: NodeId, message: PeerMessage) -> None:
        self._nodes[to].receive(source, message)

    # --- faults ---------------------------------------------------------------------------------------------

    def cut(self, source: NodeId, to: NodeId) -> None:
        """Nothing gets through in this direction; after a while the connection breaks."""
        link, pair = self.wires.link(source, to), self._pairs[source, to]
        link.cuts += 1
        if link.cuts == 1:
            notice = int(self.settings.notice_after * (0.2 + self._rng.random()))
            self._events.after(notice, self._notice, source, to, pair.serial)

    def mend(self, source: NodeId, to: NodeId) -> None:
        """The opposite of one `cut`."""
        self.wires.link(source, to).cuts -= 1
        self.wires.release(source, to)

    def break_connection(self, a: NodeId, b: NodeId) -> None:
        """Reset: both sides notice at once, what was under way is lost."""
        self._down(a, b)

    def _notice(self, source: NodeId, to: NodeId, serial: int) -> None:
        pair = self._pairs[source, to]
        if pair.serial == serial and self.wires.link(source, to).cuts:
            self._down(source, to)

    # --- connections ----------------------------------------------------------------------------------------

    def process_started(self, node: NodeId) -> None:
        """It listens now; who wants to talk to it dials."""
        for other in sorted(self._nodes):
            if other != node:
                self._pairs[node, other].pause = 0
                self.dial(node, other)

    def process_died(self, node: NodeId, silently: bool) -> None:
        """The others notice at once, unless the whole machine went silent."""
        for other in sorted(self._nodes):
            if other == node:
                continue
            pair = self._pairs[node, other]
            was_up, pair.up = pair.up, False
            pair.serial += 1
            pair.told.pop(node, None)
            self.wires.link(other, node).receiver_died()
            if was_up:
                link = self.wires.link(node, other)
                delay = self.settings.notice_after if silently else 2 * link.quality.latency
                self._events.after(delay, self._notice_death, node, other, link.epoch)

    def _notice_death(self, node: NodeId, other: NodeId, epoch: int) -> None:
        link = self.wires.link(node, other)
        if link.epoch == epoch:
            link.reset()
            self._tell_lost(other, node)
            self.dial(node, other)

    def dial(self, a: NodeId, b: NodeId) -> None:
        """See that there is a connection, if one of them wants it."""
        pair = self._pairs[a, b]
        if not pair.up and not pair.dialling:
            pair.dialling = True
            pause = max(pair.pause, self.settings.dial_pause // 50)
            pair.pause = min(1000 * MILLISECOND, max(2 * pair.pause, self.settings.dial_pause))
            self._events.after(int(pause * (0.5 + self._rng.random() / 2)), self._greet, a, b)

    def _greet(self, a: NodeId, b: NodeId) -> None:
        pair = self._pairs[a, b]
        pair.dialling = False
        one, other = self._nodes[a], self._nodes[b]
        if pair.up or not one.alive or not other.alive:
            return
        if not (one.wants(b, other.address) or other.wants(a, one.address)):
            return
        if self.wires.link(a, b).blocked or self.wires.link(b, a).blocked or not one.awake or not other.awake:
            self.dial(a, b)
            return
        hello_a, hello_b = one.hello(), other.hello()
        refusal_b, refusal_a = other.admit(hello_a), one.admit(hello_b)
        if refusal_a is not None or refusal_b is not None:
            self._trace.count("net: connection refused")
            if refusal_b is not None:
                one.refused(b, refusal_b)
            if refusal_a is not None:
                other.refused(a, refusal_a)
            self.dial(a, b)
            return
        self._up(a, b, hello_a, hello_b)

    def _up(self, a: NodeId, b: NodeId, hello_a: Hello, hello_b: Hello) -> None:
        pair = self._pairs[a, b]
        for node, peer in ((a, b), (b, a)):
            self.wires.link(node, peer).reset()
            self._tell_lost(node, peer)
        pair.up = True
        pair.serial += 1
        pair.pause = 0
        for node, hello in ((a, hello_b), (b, hello_a)):
            pair.told[node] = True
            self._nodes[node].connected(hello)

    def _down(self, a: NodeId, b: NodeId) -> None:
        pair = self._pairs[a, b]
        if not pair.up:
            return
        pair.up = False
        pair.serial += 1
        self._trace.counters["net: connection broken"] += 1
        for node, peer in ((a, b), (b, a)):
            self.wires.link(node, peer).reset()
            self._tell_lost(node, peer)
        self.dial(a, b)

    def _tell_lost(self, node: NodeId, peer: NodeId) -> None:
        if self._pairs[node, peer].told.pop(node, False):
            self._nodes[node].lost(peer)


class SimNetwork:
    """One process's port."""

    def __init__(self, fabric: Fabric, node: NodeId) -> None:
        self._fabric = fabric
        self._node = node
        self.peers: dict[NodeId, str] = {}
        self.skew: Nanoseconds = 0
        """How much later than now things happen, within an event in which the process was held up."""

    def send(self, to: NodeId, channel: Channel, message: PeerMessage) -> None:
        """Best effort."""
        self._fabric.send(self._node, to, channel, message, self.skew)

    def set_peers(self, peers: dict[NodeId, str]) -> None:
        """Keep connections to these and to nobody else."""
        self.peers = dict(peers)
        for other in self._fabric.connected_to(self._node):
            if other not in peers:
                self._fabric.break_connection(self._node, other)
        for peer in peers:
            self._fabric.dial(self._node, peer)

    def disconnect(self, peer: NodeId) -> None:
        """Drop the connection; dialling goes on."""
        self._fabric.break_connection(self._node, peer)
