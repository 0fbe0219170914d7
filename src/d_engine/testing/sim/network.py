"""The simulated network: the connections between all processes, and each process's `Network` port.

What a node does with its connections is the production's own decision (`d_engine.replica.peering`); here is only what
becomes of it. A connection is dialled, greeted and admitted as in production, by the replicas themselves, and has two
ends that need not agree: either closes its own, and the other one hears of that when the news gets through.

Connections end when a process gives them up or dies, and when a link has been cut for as long as a network stack takes
to notice. Until then a cut link only holds messages back, so short cuts look like delays. Of a machine that lost its
power nothing is heard before it runs again. What happens to a process comes as an event of its node: a paused node
learns it later.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from d_engine.format.hello import Channel, Greeting, Hello, Refusal
from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.format.messages import PeerMessage
from d_engine.replica.peering import JITTER_BITS, SEND_LIMITS, SILENT, Backoff, Neighbour, Peering
from d_engine.runtime.connection import GREETING_SECONDS
from d_engine.runtime.greeting import CONNECT_SECONDS
from d_engine.testing.sim.events import SECOND, EventQueue
from d_engine.testing.sim.links import End, Quality
from d_engine.testing.sim.trace import Trace
from d_engine.testing.sim.wires import NetworkSettings, Way, Wires

_CONNECT: Nanoseconds = int(CONNECT_SECONDS * SECOND)
_GREETING: Nanoseconds = int(GREETING_SECONDS * SECOND)


class Endpoint(Protocol):
    """A process as the network sees it. All that happens there goes through `enter`."""

    @property
    def address(self) -> str: ...

    def enter(self, function: Callable[..., object], *arguments: object) -> None: ...

    def hello(self, channel: Channel) -> Hello: ...

    def admit(self, hello: Hello) -> Refusal | None: ...

    def receive(self, end: End, message: PeerMessage) -> None: ...

    def reachable(self, peer: NodeId, reachable: bool) -> None: ...

    def refused(self, peer: NodeId, refusal: Refusal) -> None: ...

    def note(self, peer: NodeId, what: str) -> None: ...


class Fabric:
    """The wires between all machines, the connections over them, and the processes that listen."""

    def __init__(self, events: EventQueue, rng: Random, trace: Trace, settings: NetworkSettings) -> None:
        self.settings = settings
        self.events = events
        self.rng = rng
        self.trace = trace
        self.wires = Wires(events, rng, trace, settings, _arrived, self._reset)
        self.spy: Callable[[PeerMessage], bool] | None = None
        """Sees every message that leaves; one of which it says True is lost."""
        self.listening: dict[NodeId, SimNetwork] = {}
        self.dark: dict[NodeId, list[End]] = {}
        """Machines without power, and the ends that do not know it yet."""
        self._ends: dict[Way, list[End]] = {}

    def add(self, node: NodeId, qualities: dict[NodeId, tuple[Quality, Quality]]) -> None:
        """A machine; for each other one, the links to it and from it."""
        for other, (there, back) in qualities.items():
            self.wires.add(node, other, there)
            self.wires.add(other, node, back)
            self._ends[node, other], self._ends[other, node] = [], []

    # --- connections ----------------------------------------------------------------------------------------

    def connect(self, source: "SimNetwork", to: "SimNetwork", channel: Channel) -> End:
        """A new connection; the end of the side that dials."""
        limit = SEND_LIMITS[channel]
        end = End(source, to.node, channel, self.wires.link(source.node, to.node), limit)
        other = End(to, source.node, channel, self.wires.link(to.node, source.node), limit)
        end.other, other.other = other, end
        self._ends[source.node, to.node].append(end)
        self._ends[to.node, source.node].append(other)
        return end

    def close(self, end: End) -> None:
        """On this side. The other one hears of it if it does not know."""
        if end.open:
            self._shut(end)
            self.wires.carry(end, self._closed, end.other)

    def _closed(self, end: End) -> None:
        """The kernel finds that the connection is closed."""
        if end.open:
            self._shut(end)
            end.owner.endpoint.enter(end.owner.ended, end)

    def _reset(self, end: End) -> None:
        """What this end sent belongs to no connection that the other machine knows: it says so, at once."""
        back = end.other.link
        if end.open and end.peer not in self.dark and not back.blocked:
            self.events.after(back.quality.latency, self._closed, end)

    def _shut(self, end: End) -> None:
        end.open = False
        self._ends[end.owner.node, end.peer].remove(end)

    # --- faults ---------------------------------------------------------------------------------------------

    def cut(self, source: NodeId, to: NodeId) -> None:
        """Nothing gets through in this direction; after a while each side finds that its connections are broken."""
        link = self.wires.link(source, to)
        link.cuts += 1
        if link.cuts == 1:
            for way in ((source, to), (to, source)):
                notice = int(self.settings.notice_after * (0.2 + self.rng.random()))
                self.events.after(notice, self._notice, source, to, list(self._ends[way]))

    def mend(self, source: NodeId, to: NodeId) -> None:
        """The opposite of one `cut`."""
        self.wires.link(source, to).cuts -= 1
        self.wires.release(source, to)

    def _notice(self, source: NodeId, to: NodeId, ends: list[End]) -> None:
        if self.wires.link(source, to).cuts:
            for end in ends:
                if end.open:
                    self.trace.counters["net: connection broken"] += 1
                    self.close(end)
                    end.owner.endpoint.enter(end.owner.ended, end)

    def break_connections(self, a: NodeId, b: NodeId, share: float = 1.0) -> None:
        """Reset all that they have, or a share of them: both sides notice at once, what was under way is lost."""
        for end in list(self._ends[a, b]):
            if share == 1.0 or self.rng.random() < share:
                self.trace.counters["net: connection broken"] += 1
                self._closed(end)
                self._closed(end.other)

    # --- processes ------------------------------------------------------------------------------------------

    def process_started(self, network: "SimNetwork") -> None:
        """It listens now. Whoever has a connection with an earlier one, and has not noticed, does now."""
        self.listening[network.node] = network
        for end in self.dark.pop(network.node, ()):
            self.events.after(2 * end.link.quality.latency, self._closed, end)

    def process_died(self, node: NodeId, silently: bool) -> None:
        """The others are told by the kernel, unless the whole machine went silent."""
        self.listening.pop(node, None)
        ends = [end for way, ends in self._ends.items() if way[0] == node for end in ends]
        if silently:
            self.dark[node] = [end.other for end in ends]
        for end in ends:
            end.dropped = True
            if silently:
                self._shut(end)
                self.events.after(self.settings.notice_after, self._closed, end.other)
            else:
                self.close(end)


def _arrived(end: End, message: PeerMessage) -> None:
    end.owner.endpoint.receive(end, message)


@dataclass(slots=True, eq=False)
class Dialer:
    """Keeps one connection dialled. `end` is that of the present attempt, or connection."""

    neighbour: Neighbour[End]
    channel: Channel
    backoff: Backoff = field(default_factory=Backoff)
    end: End | None = None
    began: Nanoseconds = 0
    stopped: bool = False


class SimNetwork:
    """One process's port."""

    def __init__(self, fabric: Fabric, node: NodeId, endpoint: Endpoint) -> None:
        self.node = node
        self.endpoint = endpoint
        self.skew: Nanoseconds = 0
        """How much later than now things are sent, within an event in which the process was held up."""
        self._fabric = fabric
        self._peering: Peering[End] = Peering(self)
        self._dialers: dict[NodeId, list[Dialer]] = {}

    def send(self, to: NodeId, channel: Channel, message: PeerMessage) -> None:
        """Best effort."""
        fabric = self._fabric
        if fabric.spy is not None and fabric.spy(message):
            return
        neighbour = self._peering.neighbours.get(to)
        end = neighbour.paths.get(channel) if neighbour is not None else None
        if neighbour is None or end is None:
            fabric.trace.counters["net: not connected"] += 1
            return
        fabric.wires.send(end, message, self.skew)
        if channel is Channel.CONTROL and neighbour.silence.sent(fabric.events.now):
            fabric.trace.count("net: silent member given up")
            self._peering.give_up(neighbour, SILENT)

    def set_peers(self, peers: dict[NodeId, str]) -> None:
        """Keep connections to these and to nobody else."""
        self._peering.set_peers(peers)

    def disconnect(self, peer: NodeId) -> None:
        """Drop the connections; dialling goes on."""
        if neighbour := self._peering.neighbours.get(peer):
            self._peering.give_up(neighbour, "the replica asked for it")

    # --- for the peering: see `Connector` -------------------------------------------------------------------

    def keep_dialled(self, neighbour: Neighbour[End], channel: Channel) -> None:
        dialer = Dialer(neighbour, channel)
        self._dialers.setdefault(neighbour.peer, []).append(dialer)
        self._later(0, self._dial, dialer)

    def stop_dialling(self, neighbour: Neighbour[End]) -> None:
        for dialer in self._dialers.pop(neighbour.peer, ()):
            dialer.stopped = True
            if dialer.end is not None and dialer.end.neighbour is None and not dialer.end.over:
                self.abort(dialer.end, "dialling stops")

    def abort(self, connection: End, why: str) -> None:
        connection.dropped = True
        self._fabric.close(connection)
        self._over(connection)

    def reachable(self, peer: NodeId, reachable: bool) -> None:
        self._later(0, self.endpoint.reachable, peer, reachable)

    def note(self, peer: NodeId, what: str) -> None:
        self.endpoint.note(peer, what)

    # --- what happens to connections ------------------------------------------------------------------------

    def ended(self, end: End) -> None:
        """The connection was closed by somebody else."""
        if end.neighbour is not None:
            self._peering.ended(end.neighbour, end.channel, end, "closed")
        self._over(end)

    def _dial(self, dialer: Dialer) -> None:
        if dialer.stopped:
            return
        fabric, peer = self._fabric, dialer.neighbour.peer
        there, back = fabric.wires.link(self.node, peer), fabric.wires.link(peer, self.node)
        target = fabric.listening.get(peer)
        dialer.began = fabric.events.now
        if there.blocked or back.blocked or peer in fabric.dark:
            self._later(_CONNECT, self._pause, dialer, 0)
        elif target is None or target.endpoint.address != dialer.neighbour.address:
            self._later(there.quality.latency + back.quality.latency, self._pause, dialer, 0)
        else:
            end = fabric.connect(self, target, dialer.channel)
            end.dialer, dialer.end = dialer, end
            hello = self.endpoint.hello(dialer.channel)
            fabric.wires.carry(end, target.endpoint.enter, target.accept, end.other, hello)
            self._later(_GREETING, self._greeting_is_over, end)

    def accept(self, end: End, hello: Hello) -> None:
        """Somebody dialled us and says hello."""
        if end.over:
            return
        wires, back = self._fabric.wires, end.other
        refusal = self.endpoint.admit(hello)
        greeting = refusal or self.endpoint.hello(end.channel)
        wires.carry(end, back.owner.endpoint.enter, back.owner.answered, back, greeting)
        if refusal is not None:
            self._refuse(end)
        else:
            end.neighbour = self._peering.neighbour(hello.node_id)
            self._peering.add(end.neighbour, hello, end, dialled=False)

    def answered(self, end: End, greeting: Greeting) -> None:
        """Who was dialled has answered."""
        dialer = end.dialer
        if end.over or dialer is None:
            return
        if isinstance(greeting, Refusal):
            self.abort(end, greeting.text)
            self.endpoint.refused(end.peer, greeting)
        elif refusal := self.endpoint.admit(greeting):
            wires, back = self._fabric.wires, end.other
            wires.carry(end, back.owner.endpoint.enter, back.owner.endpoint.refused, self.node, refusal)
            self._refuse(end)
        else:
            end.neighbour = dialer.neighbour
            self._peering.add(dialer.neighbour, greeting, end, dialled=True)

    def _refuse(self, end: End) -> None:
        self._fabric.trace.count("net: connection refused")
        self.abort(end, "refused")

    def _greeting_is_over(self, end: End) -> None:
        if end.neighbour is None and not end.over:
            self.abort(end, "no answer to the hello")

    # --- inside ---------------------------------------------------------------------------------------------

    def _over(self, end: End) -> None:
        """The process knows that it is closed; if it dialled it, it dials again after a while."""
        dialer = end.dialer
        if dialer is not None and not end.over:
            established = end.neighbour is not None
            self._pause(dialer, self._fabric.events.now - dialer.began if established else 0)
        end.over = True

    def _pause(self, dialer: Dialer, lasted: Nanoseconds) -> None:
        bits = self._fabric.rng.getrandbits(JITTER_BITS)
        self._later(dialer.backoff.pause(lasted, bits), self._dial, dialer)

    def _later(self, delay: Nanoseconds, function: Callable[..., object], *arguments: object) -> None:
        self._fabric.events.after(delay, self.endpoint.enter, function, *arguments)
