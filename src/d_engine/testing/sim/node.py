"""One simulated machine and the process on it.

The machine has clocks and a disk and outlives processes; a process is the production replica over simulated ports. All
that happens to a process goes through `SimNode.enter`: a dead process gets nothing, one that stands still (stopped,
suspended, or in an event loop that somebody blocks) gets it when it goes on, in order.

A process may also be *held up* within an event: the next time it looks at the clock, much time has passed, and whatever
it does after that happens so much later. That is what a garbage collection in the wrong place does.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import Protocol

from d_engine.format.configuration import Configuration
from d_engine.format.errors import CorruptionError, DEngineError, DiskError, DiskFullError, MalformedError
from d_engine.format.hello import Channel, Hello, Refusal
from d_engine.format.ids import LogIndex, Nanoseconds, NodeId
from d_engine.format.messages import PeerMessage
from d_engine.format.state_machine import StateMachine
from d_engine.raft.effects import LeaderState, Role
from d_engine.replica.replica import Replica
from d_engine.replica.settings import ReplicaSettings
from d_engine.storage.api import LogStorage
from d_engine.storage.identity import load_identity
from d_engine.storage.snapshots import SnapshotFiles
from d_engine.testing.sim.clock import MachineClocks
from d_engine.testing.sim.disk import ProcessDied, SimDisk
from d_engine.testing.sim.events import EventQueue
from d_engine.testing.sim.network import Fabric, SimNetwork
from d_engine.testing.sim.safety import NodeRecord, Safety
from d_engine.testing.sim.trace import Trace
from d_engine.testing.sim.violations import InvariantBroken
from d_engine.testing.sim.watched import Ledger, WatchedMachine, WatchedStorage

TIMER_BITS = 32
"""Who draws more bits wants a number that nobody else draws; who draws fewer, a timer."""


@dataclass(slots=True)
class Surroundings:
    """What all nodes share."""

    events: EventQueue
    trace: Trace
    fabric: Fabric
    safety: Safety
    ledger: Ledger
    make_storage: Callable[[SimDisk, int], LogStorage]
    make_machine: Callable[[], StateMachine]
    watcher: "NodeWatcher"
    turn_delay: Nanoseconds = 0


class NodeWatcher(Protocol):
    """Who must know what becomes of processes."""

    def started(self, node: NodeId) -> None: ...

    def ended(self, node: NodeId, error: DEngineError | None) -> None: ...


class _Host:
    """The `Host` port of one process."""

    def __init__(self, node: "SimNode", life: int) -> None:
        self._node = node
        self._life = life
        self._ring_at: Nanoseconds | None = None
        self._deadline: Nanoseconds = 0

    def now(self) -> Nanoseconds:
        node = self._node
        if node.held_up:
            node.skew, node.held_up = node.held_up, 0
            node.shared.trace.count("clock: process held up within an event")
        return node.clocks.boot(node.shared.events.now + node.skew)

    def call_soon(self, function: Callable[[], None]) -> None:
        node = self._node
        delay = node.shared.turn_delay
        if delay:
            delay = int(node.rng.random() * delay)
        node.shared.events.after(delay + node.skew, node.turn, self._life, function)

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


class _Port(SimNetwork):
    """The `Network` port of one process, which holds every message to what the sender's disk has."""

    def __init__(self, node: "SimNode") -> None:
        super().__init__(node.shared.fabric, node.id)
        self._of = node

    def send(self, to: NodeId, channel: Channel, message: PeerMessage) -> None:
        node = self._of
        process = node.process
        if process is not None:
            applied = process.replica.applier.applied_index
            node.shared.safety.sending(node.record, to, message, applied)
        self.skew = node.skew
        super().send(to, channel, message)


@dataclass(slots=True)
class Process:
    """One life."""

    replica: Replica
    machine: WatchedMachine
    network: _Port


class SimNode:
    """A machine. It is the network's `Endpoint` and the replica's listener, too."""

    def __init__(
        self,
        node: NodeId,
        shared: Surroundings,
        rngs: tuple[Random, Random],
        clocks: MachineClocks,
        settings: ReplicaSettings,
    ) -> None:
        """The second generator is for what draws few bits: timers."""
        self.id = node
        self.shared = shared
        self.rng, self.timer_rng = rngs
        self.clocks = clocks
        self.settings = settings
        self.disk: SimDisk
        self.record: NodeRecord = shared.safety.add(node)
        self.process: Process | None = None
        self.life = 0
        self.skew: Nanoseconds = 0
        self.held_up: Nanoseconds = 0
        self._standing = 0
        self._stands = 0
        self._backlog: deque[tuple[Callable[..., object], tuple[object, ...]]] = deque()

    # --- life --------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """A new process. If it cannot live on what the disk holds, it ends at once."""
        shared = self.shared
        self.life += 1
        self.record.restarted()
        self.disk.observer = self.record.oracle
        machine = WatchedMachine(shared.make_machine(), shared.ledger, self.id, shared.trace.count)
        host = _Host(self, self.life)
        network = _Port(self)
        self._note("starts")
        try:
            incarnation = load_identity(self.disk, self.id, host.random_bits)
            made = shared.make_storage(self.disk, incarnation)
            storage = WatchedStorage(made, shared.safety, self.record, shared.trace.count)
            settings = replace(self.settings, incarnation=incarnation)
            replica = Replica(settings, host, network, storage, SnapshotFiles(self.disk), machine, self)
        except ProcessDied:
            shared.trace.count("crash: within recovery")
            self.disk.kill()
            self.shared.watcher.ended(self.id, None)
            return
        except DEngineError as error:
            self.disk.kill()
            self._note(f"cannot start: {error}")
            self.shared.watcher.ended(self.id, error)
            return
        self.process = Process(replica, machine, network)
        self._run(replica.start, ())
        shared.fabric.process_started(self.id)
        self.shared.watcher.started(self.id)

    def kill(self) -> None:
        """SIGKILL."""
        self._end("is killed", silently=False)
        self.disk.kill()

    def lose_power(self) -> None:
        """The machine goes dark."""
        self._end("loses power", silently=True)
        self.disk.lose_power()
        self.record.oracle.power_lost()

    def wipe(self) -> None:
        """The machine gets an empty disk."""
        self._end("gets an empty disk", silently=True)
        self.disk.wipe()
        self.record.wiped()

    def _end(self, how: str, silently: bool) -> None:
        self._note(how)
        was_alive = self.process is not None
        self.process = None
        self.life += 1
        self._backlog.clear()
        self.held_up = self.skew = 0
        if was_alive:
            self.shared.fabric.process_died(self.id, silently)
            self.shared.watcher.ended(self.id, None)

    # --- events of the process -----------------------------------------------------------------------------------------

    def enter(self, life: int, function: Callable[..., object], *arguments: object) -> None:
        """Something happens to the process of that life."""
        if life != self.life or self.process is None:
            return
        if self._standing:
            self._backlog.append((function, arguments))
        else:
            self._run(function, arguments)

    def turn(self, life: int, function: Callable[[], None]) -> None:
        """A turn of the process's loop."""
        self.enter(life, self._turn, function)

    def _turn(self, function: Callable[[], None]) -> None:
        function()
        process = self.process
        if process is None or process.replica.error is not None:
            return
        raft = process.replica.raft
        self.shared.safety.observe(
            self.record,
            raft.term,
            raft.commit_index,
            process.replica.applier.applied_index,
            raft.role,
            raft.configuration,
        )

    def _run(self, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        try:
            function(*arguments)
        except (DEngineError, InvariantBroken):
            raise
        except Exception as error:
            raise InvariantBroken(
                "I13", f"node {self.id} fails with {type(error).__name__}: {error}"
            ) from error
        finally:
            if self.skew:
                self.stand_still(self.skew)
                self.skew = 0

    def stand_still(self, duration: Nanoseconds, suspended: bool = False) -> None:
        """Nothing happens in the process for so long."""
        self._standing += 1
        if suspended:
            self.shared.trace.count("clock: machine suspended")
            self.clocks.suspend(self.shared.events.now)
        self.shared.events.after(duration, self._go_on, self._stands)

    def go_on(self) -> None:
        """Whatever made the process stand still is over."""
        if self._standing:
            self._stands += 1
            self._standing = 1
            self._go_on(self._stands)

    def _go_on(self, stands: int) -> None:
        if stands != self._stands:
            return
        self._standing -= 1
        if not self._standing:
            self.clocks.resume(self.shared.events.now)
        while self._backlog and not self._standing:
            function, arguments = self._backlog.popleft()
            self._run(function, arguments)

    # --- the network's endpoint ------------------------------------------------------------------------------------------

    @property
    def alive(self) -> bool:
        """A process runs."""
        return self.process is not None

    @property
    def awake(self) -> bool:
        """And does not stand still."""
        return self.process is not None and not self._standing

    def wants(self, peer: NodeId) -> bool:
        """The replica asked for a connection."""
        return self.process is not None and peer in self.process.network.peers

    def hello(self) -> Hello:
        return self._alive().replica.peers.hello(Channel.DATA)

    def admit(self, hello: Hello) -> Refusal | None:
        return self._alive().replica.peer_admit(hello)

    def receive(self, sender: NodeId, message: PeerMessage) -> None:
        shared = self.shared
        shared.trace.note(shared.events.now, self.id, type(message).__name__, sender, message)
        self.enter(self.life, self._receive, sender, message)

    def _receive(self, sender: NodeId, message: PeerMessage) -> None:
        try:
            self._alive().replica.receive(sender, message)
        except MalformedError as error:
            raise InvariantBroken(
                "I13", f"node {self.id} calls {message} of node {sender} malformed: {error}"
            ) from error

    def connected(self, hello: Hello) -> None:
        self._note("is connected with node", hello.node_id)
        self.enter(self.life, lambda: self._alive().replica.peer_connected(hello.node_id))

    def lost(self, peer: NodeId) -> None:
        self._note("lost its connection with node", peer)
        self.enter(self.life, lambda: self._alive().replica.peer_lost(peer))

    def refused(self, peer: NodeId, refusal: Refusal) -> None:
        self._note(f"is refused ({refusal.code}) by node", peer)
        self.enter(self.life, lambda: self._alive().replica.peer_refused(peer, refusal))

    def _alive(self) -> Process:
        if self.process is None:
            raise InvariantBroken("I13", f"node {self.id} is dead and was called")
        return self.process

    # --- the replica's listener --------------------------------------------------------------------------------------------

    def leader_changed(self, state: LeaderState) -> None:
        detail = f"is {state.role.value} in term {state.term}, leader {state.leader}"
        self.shared.trace.note(self.shared.events.now, self.id, "role", state.term, detail)
        if state.role is Role.LEADER:
            if self.record.leads != state.term:
                self.shared.trace.count("leader elected")
            self.shared.safety.elected(self.record, state.term)
        else:
            self.shared.safety.deposed(self.record)

    def members_changed(self, index: LogIndex, configuration: Configuration) -> None:
        self._note(f"applies a configuration with voters {configuration.voters} at", index)

    def failed(self, error: DEngineError) -> None:
        self._note(f"stops: {type(error).__name__}: {error}")
        self.shared.events.after(0, self._failed, self.life, error)

    def _failed(self, life: int, error: DEngineError) -> None:
        if life == self.life and self.process is not None:
            self.process = None
            self.life += 1
            self._backlog.clear()
            self.disk.kill()
            self.shared.fabric.process_died(self.id, silently=False)
            self.shared.watcher.ended(self.id, error)

    def _note(self, what: str, number: int = 0) -> None:
        self.shared.trace.note(self.shared.events.now, self.id, "node", number, f"{what} {number or ''}")


def is_excused(error: DEngineError, damaged: bool, troubled: bool) -> bool:
    """Whether a node may stop with this error, given what was done to its disk."""
    if isinstance(error, CorruptionError):
        return damaged
    return troubled and isinstance(error, DiskError | DiskFullError)
