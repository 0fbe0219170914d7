"""What joins one process to its machine and to the network: the replica's ports, its listener, the network's view."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from d_engine.format.configuration import Configuration
from d_engine.format.errors import DEngineError, MalformedError
from d_engine.format.hello import Channel, Hello, Refusal
from d_engine.format.ids import LogIndex, Nanoseconds, NodeId
from d_engine.format.messages import PeerMessage
from d_engine.raft.effects import LeaderState, Role
from d_engine.replica.listener import Health
from d_engine.testing.sim.links import End
from d_engine.testing.sim.network import SimNetwork
from d_engine.testing.sim.violations import InvariantBroken

if TYPE_CHECKING:
    from d_engine.testing.sim.node import Process, SimNode

TIMER_BITS = 32
"""Who draws more bits wants a number that nobody else draws; who draws fewer, a timer."""


class SimHost:
    """The `Host` port of one process."""

    def __init__(self, node: "SimNode", life: int) -> None:
        self._node = node
        self._life = life
        self._ring_at: Nanoseconds | None = None
        self._deadline: Nanoseconds = 0
        self._asked: list[Callable[[], None]] | None = None
        """Turns that come at once, within an event in which the process hurries."""

    def now(self) -> Nanoseconds:
        node = self._node
        if node.held_up:
            node.skew, node.held_up = node.held_up, 0
            node.shared.trace.count("clock: process held up within an event")
        return node.clocks.boot(node.shared.events.now + node.skew)

    def call_soon(self, function: Callable[[], None]) -> None:
        node = self._node
        if self._asked is not None:
            self._asked.append(function)
            return
        delay = node.shared.turn_delay
        if delay:
            delay = int(node.rng.random() * delay)
        node.shared.events.after(delay + node.skew, node.turn, self._life, function)

    def hurry(self, step: Callable[[], object], count: int) -> int:
        """So often, within this event: the step, and at once the turn of the loop that it asks for. Returns how often
        that was done: a turn that was asked for before this comes by itself, and first."""
        node, done = self._node, 0
        asked = self._asked = []
        try:
            while done < count and node.life == self._life:
                step()
                if not asked:
                    break
                done += 1
                node.turn(self._life, asked.pop())
        finally:
            self._asked = None
            for function in asked:
                self.call_soon(function)
        return done

    def set_timer(self, deadline: Nanoseconds) -> None:
        self._deadline = deadline
        node = self._node
        ring_at = max(node.clocks.true_time(deadline), node.shared.events.now)
        if self._ring_at is None or ring_at < self._ring_at:
            self._ring_at = ring_at
            node.shared.events.at(ring_at, node.enter, self._life, self._ring, ring_at)

    def _ring(self, rung_at: Nanoseconds) -> None:
        if rung_at != self._ring_at:
            return
        self._ring_at = None
        process = self._node.process
        if self._deadline > self._node.clocks.boot(self._node.shared.events.now):
            self.set_timer(self._deadline)
        elif process is not None:
            process.replica.wake()

    def random_bits(self, count: int) -> int:
        rng = self._node.timer_rng if count <= TIMER_BITS else self._node.rng
        return rng.getrandbits(count)


class WatchedNetwork(SimNetwork):
    """The `Network` port of one process, which holds every message to what the sender's disk has."""

    def __init__(self, node: "SimNode", life: int) -> None:
        super().__init__(node.shared.fabric, node.id, NodeEndpoint(node, life))
        self._of = node

    def send(self, to: NodeId, channel: Channel, message: PeerMessage) -> None:
        node = self._of
        process = node.process
        if process is not None:
            applied = process.replica.applier.applied_index
            node.shared.safety.sending(node.record, to, message, applied)
        self.skew = node.skew
        super().send(to, channel, message)


class Listener:
    """The `ReplicaListener` of one process."""

    def __init__(self, node: "SimNode") -> None:
        self._node = node

    def leader_changed(self, state: LeaderState) -> None:
        node, shared = self._node, self._node.shared
        detail = f"is {state.role.value} in term {state.term}, leader {state.leader}"
        shared.trace.note(shared.events.now, node.id, "role", state.term, detail)
        if state.role is Role.LEADER:
            if node.record.leads != state.term:
                shared.trace.count("leader elected")
            shared.safety.elected(node.record, state.term)
        else:
            if node.record.leads:
                shared.safety.sightings.deposed(node)
            shared.safety.deposed(node.record)

    def members_changed(self, index: LogIndex, configuration: Configuration) -> None:
        self._node.note(f"applies a configuration with voters {configuration.voters} at", index)

    def health_changed(self, health: Health) -> None:
        self._node.note(f"is {health}")
        if health.quarantine:
            self._node.shared.trace.count("quarantine: entered or changed")
        if health.alarm:
            self._node.shared.trace.count("marker: alarm")

    def failed(self, error: DEngineError) -> None:
        node = self._node
        node.note(f"stops: {type(error).__name__}: {error}")
        node.shared.events.after(0, node.fail, node.life, error)


class NodeEndpoint:
    """The network's `Endpoint`: one process, which learns what happened when it does not stand still."""

    def __init__(self, node: "SimNode", life: int) -> None:
        self.address = node.settings.address
        self._node = node
        self._life = life

    def enter(self, function: Callable[..., object], *arguments: object) -> None:
        """It happens to the process, if that is alive."""
        self._node.enter(self._life, function, *arguments)

    def hello(self, channel: Channel) -> Hello:
        """How the node introduces itself."""
        return self._process.replica.peers.hello(channel)

    def admit(self, hello: Hello) -> Refusal | None:
        """What the node says to somebody who introduces himself."""
        return self._process.replica.peer_admit(hello)

    def receive(self, end: End, message: PeerMessage) -> None:
        """A message has arrived."""
        node, shared = self._node, self._node.shared
        shared.trace.note(shared.events.now, node.id, type(message).__name__, end.peer, message)
        node.enter(self._life, self._receive, end, message)

    def _receive(self, end: End, message: PeerMessage) -> None:
        neighbour = end.neighbour
        if neighbour is None or end.dropped:
            return
        process = self._process
        self._node.shared.safety.sightings.received(self._node, process, message)
        neighbour.silence.unanswered = 0
        try:
            process.replica.receive(end.peer, message)
        except MalformedError as error:
            text = f"node {self._node.id} calls {message} of node {end.peer} malformed: {error}"
            raise InvariantBroken("I13", text) from error

    def reachable(self, peer: NodeId, reachable: bool) -> None:
        """There is a way to the member now, or there is none any more."""
        replica = self._process.replica
        if reachable:
            replica.peer_connected(peer)
        else:
            replica.peer_lost(peer)

    def refused(self, peer: NodeId, refusal: Refusal) -> None:
        """The other side does not want a connection."""
        self._node.note(f"is refused ({refusal.code}) by node", peer)
        self._process.replica.peer_refused(peer, refusal)

    def note(self, peer: NodeId, what: str) -> None:
        """For the trace."""
        shared = self._node.shared
        shared.trace.note(shared.events.now, self._node.id, "node", peer, f"with node {peer}: {what}")

    @property
    def _process(self) -> "Process":
        process = self._node.process
        if process is None:
            raise InvariantBroken("I13", f"node {self._node.id} is dead and was called")
        return process
