"""The simulated network: links between all nodes, connections over them, and each process's `Network` port.

Two nodes have one connection, over which both channels run. Either side dials when it was told of the other and there
is no connection; greetings are exchanged and admitted as in production, by the replicas themselves. A connection ends
when a process dies, when a replica asks for it, or when a link has been cut for as long as a network stack takes to
notice. Until then a cut link only holds messages back, so short cuts look like delays. What is told to a replica comes
as an event of its node: a paused node learns it later.
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Protocol

from d_engine.format.hello import Channel, Hello, Refusal
from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.format.messages import PeerMessage, decode_message, encode_message
from d_engine.testing.sim.events import MILLISECOND, EventQueue
from d_engine.testing.sim.links import Link, Quality, size_of
from d_engine.testing.sim.trace import Trace


class Endpoint(Protocol):
    """A node as the network sees it. `awake` is false while the process is down or stands still."""

    @property
    def awake(self) -> bool: ...

    @property
    def alive(self) -> bool: ...

    def wants(self, peer: NodeId) -> bool: ...

    def hello(self) -> Hello: ...

    def admit(self, hello: Hello) -> Refusal | None: ...

    def receive(self, sender: NodeId, message: PeerMessage) -> None: ...

    def connected(self, hello: Hello) -> None: ...

    def lost(self, peer: NodeId) -> None: ...

    def refused(self, peer: NodeId, refusal: Refusal) -> None: ...


@dataclass(slots=True)
class NetworkSettings:
    """What is drawn once for a run. `encoded` is the share of messages that travel as bytes, the rest as objects."""

    stream: bool = True
    encoded: float = 0.1
    notice_after: Nanoseconds = 1500 * MILLISECOND
    dial_pause: Nanoseconds = 50 * MILLISECOND
    queue_bytes: int = 16 * 1024 * 1024


@dataclass(slots=True)
class _Pair:
    """Two nodes, and whether a connection stands between them. `told` lists who believes so."""

    up: bool = False
    dialling: bool = False
    serial: int = 0
    pause: Nanoseconds = 0
    told: dict[NodeId, bool] = field(default_factory=dict)


class Fabric:
    """All links and connections."""

    def __init__(self, events: EventQueue, rng: Random, trace: Trace, settings: NetworkSettings) -> None:
        self.settings = settings
        self.spy: Callable[[PeerMessage], None] | None = None
        """Sees every message that leaves."""
        self._events = events
        self._rng = rng
        self._trace = trace
        self._nodes: dict[NodeId, Endpoint] = {}
        self._links: dict[tuple[NodeId, NodeId], Link] = {}
        self._good: dict[tuple[NodeId, NodeId], Quality] = {}
        self._pairs: dict[tuple[NodeId, NodeId], _Pair] = {}

    def add(self, node: NodeId, endpoint: Endpoint, qualities: dict[NodeId, tuple[Quality, Quality]]) -> None:
        """A machine; for each other one, the links to it and from it."""
        self._nodes[node] = endpoint
        for other, (there, back) in qualities.items():
            self._links[node, other], self._links[other, node] = Link(there), Link(back)
            self._good[node, other], self._good[other, node] = replace(there), replace(back)
            self._pairs[node, other] = self._pairs[other, node] = _Pair()

    def link(self, source: NodeId, to: NodeId) -> Link:
        """The link, to be made worse or better."""
        return self._links[source, to]

    def links(self) -> list[tuple[NodeId, NodeId]]:
        """All directed links."""
        return sorted(self._links)

    def connected(self, a: NodeId, b: NodeId) -> bool:
        """Whether a connection stands."""
        return self._pairs[a, b].up

    # --- messages --------------------------------------------------------------------------------------------------

    def send(
        self, source: NodeId, to: NodeId, channel: Channel, message: PeerMessage, skew: Nanoseconds
    ) -> None:
        """Best effort. `skew` is how much later than now it really leaves."""
        if self.spy is not None:
            self.spy(message)
        pair = self._pairs.get((source, to))
        if pair is None or not pair.up:
            self._trace.counters["net: not connected"] += 1
            return
        link = self._links[source, to]
        size = size_of(message)
        queued = link.queued.get(channel, 0) + size
        if queued > self.settings.queue_bytes and queued > size:
            self._trace.count("net: queue full")
            return
        link.queued[channel] = queued
        if link.blocked:
            self._hold(link, channel, message, size)
        else:
            self._post(source, to, link, channel, message, size, skew)

    def _hold(self, link: Link, channel: Channel, message: PeerMessage, size: int) -> None:
        if self.settings.stream or not link.cuts:
            link.held.append((channel, message, size))
        else:
            link.queued[channel] -= size
            self._trace.counters["net: message lost"] += 1

    def _post(
        self,
        source: NodeId,
        to: NodeId,
        link: Link,
        channel: Channel,
        message: PeerMessage,
        size: int,
        skew: Nanoseconds,
    ) -> None:
        rng, stream, quality = self._rng, self.settings.stream, link.quality
        delay = link.delay(rng, stream)
        if delay < 0:
            link.queued[channel] -= size
            self._trace.counters["net: message lost"] += 1
            return
        in_order = stream or not quality.reorder or rng.random() >= quality.reorder
        if not in_order:
            self._trace.counters["net: message out of order"] += 1
            delay += int(rng.random() * 20 * quality.latency)
        now = self._events.now + skew
        arrival = link.arrival(now, delay, channel, size, in_order)
        self._events.at(arrival, self._arrive, source, to, channel, message, size, link.epoch)
        if not stream and quality.duplicate and rng.random() < quality.duplicate:
            self._trace.counters["net: message doubled"] += 1
            again = arrival + int(rng.random() * 50 * quality.latency)
            self._events.at(again, self._arrive, source, to, channel, message, 0, link.epoch)

    def _arrive(
        self, source: NodeId, to: NodeId, channel: Channel, message: PeerMessage, size: int, epoch: int
    ) -> None:
        link = self._links[source, to]
        if epoch != link.epoch:
            return
        if link.blocked:
            self._hold(link, channel, message, size)
            return
        link.queued[channel] -= size
        if self._rng.random() < self.settings.encoded:
            head, tail = encode_message(message)
            message = decode_message(head, b"".join(tail))
        self._nodes[to].receive(source, message)

    def _release(self, source: NodeId, to: NodeId, link: Link) -> None:
        held, link.held = link.held, []
        for channel, message, size in held:
            self._post(source, to, link, channel, message, size, 0)

    # --- faults ------------------------------------------------------------------------------------------------------

    def cut(self, source: NodeId, to: NodeId) -> None:
        """Nothing gets through in this direction; after a while the connection breaks."""
        link, pair = self._links[source, to], self._pairs[source, to]
        link.cuts += 1
        if link.cuts == 1:
            notice = int(self.settings.notice_after * (0.2 + self._rng.random()))
            self._events.after(notice, self._notice, source, to, pair.serial)

    def mend(self, source: NodeId, to: NodeId) -> None:
        """The opposite of one `cut`."""
        link = self._links[source, to]
        link.cuts -= 1
        if not link.blocked:
            self._release(source, to, link)

    def clog(self, source: NodeId, to: NodeId) -> None:
        """Messages wait; the connection does not break."""
        self._links[source, to].clogs += 1

    def unclog(self, source: NodeId, to: NodeId) -> None:
        """The opposite of one `clog`."""
        link = self._links[source, to]
        link.clogs -= 1
        if not link.blocked:
            self._release(source, to, link)

    def break_connection(self, a: NodeId, b: NodeId) -> None:
        """Reset: both sides notice at once, what was under way is lost."""
        self._down(a, b, (a, b))

    def heal(self) -> None:
        """All links are as good as at the beginning."""
        for (source, to), link in self._links.items():
            link.cuts = link.clogs = 0
            link.quality = replace(self._good[source, to])
            self._release(source, to, link)

    def _notice(self, source: NodeId, to: NodeId, serial: int) -> None:
        pair = self._pairs[source, to]
        if pair.serial == serial and self._links[source, to].cuts:
            self._down(source, to, (source, to))

    # --- connections -------------------------------------------------------------------------------------------------

    def process_started(self, node: NodeId) -> None:
        """It listens now; who wants to talk to it dials."""
        for other in sorted(self._nodes):
            if other != node:
                self._reset_pause(node, other)
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
            self._links[other, node].reset()
            if was_up:
                link = self._links[node, other]
                delay = self.settings.notice_after if silently else 2 * link.quality.latency
                self._events.after(delay, self._notice_death, node, other, link.epoch)

    def _notice_death(self, node: NodeId, other: NodeId, epoch: int) -> None:
        link = self._links[node, other]
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

    def _reset_pause(self, a: NodeId, b: NodeId) -> None:
        self._pairs[a, b].pause = 0

    def _greet(self, a: NodeId, b: NodeId) -> None:
        pair = self._pairs[a, b]
        pair.dialling = False
        one, other = self._nodes[a], self._nodes[b]
        if pair.up or not one.alive or not other.alive or not (one.wants(b) or other.wants(a)):
            return
        if self._links[a, b].blocked or self._links[b, a].blocked or not one.awake or not other.awake:
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
            self._links[node, peer].reset()
            self._tell_lost(node, peer)
        pair.up = True
        pair.serial += 1
        pair.pause = 0
        for node, hello in ((a, hello_b), (b, hello_a)):
            pair.told[node] = True
            self._nodes[node].connected(hello)

    def _down(self, a: NodeId, b: NodeId, noticed: tuple[NodeId, ...]) -> None:
        pair = self._pairs[a, b]
        if not pair.up:
            return
        pair.up = False
        pair.serial += 1
        self._trace.counters["net: connection broken"] += 1
        for node, peer in ((a, b), (b, a)):
            self._links[node, peer].reset()
            if node in noticed:
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
        gone = [peer for peer in self.peers if peer not in peers]
        self.peers = dict(peers)
        for peer in gone:
            self._fabric.break_connection(self._node, peer)
        for peer in peers:
            self._fabric.dial(self._node, peer)

    def disconnect(self, peer: NodeId) -> None:
        """Drop the connection; dialling goes on."""
        self._fabric.break_connection(self._node, peer)
