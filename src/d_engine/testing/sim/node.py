"""One simulated machine and the process on it.

The machine has clocks and a disk and outlives processes; a process is the production replica over simulated ports. All
that happens to a process goes through `SimNode.enter`: a dead process gets nothing, one that stands still (stopped,
suspended, or in an event loop that somebody blocks) gets it when it goes on, in order.

A process may also be *held up* within an event: the next time it looks at the clock, much time has passed, and whatever
it does after that happens so much later. That is what a garbage collection in the wrong place does.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from random import Random
from typing import Protocol

from d_engine.format.entry import Entry
from d_engine.format.errors import DEngineError
from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.format.messages import MemberChange
from d_engine.format.state_machine import StateMachine
from d_engine.replica.changes import ChangeDone
from d_engine.replica.replica import Replica
from d_engine.replica.settings import ReplicaSettings
from d_engine.storage.api import LogStorage
from d_engine.storage.identity import load_identity
from d_engine.storage.snapshots import SnapshotFiles
from d_engine.testing.sim.bounds import TURNS_BETWEEN, LogWatch, check_bounds, log_bytes
from d_engine.testing.sim.chronicle import Chronicle
from d_engine.testing.sim.clock import MachineClocks
from d_engine.testing.sim.disk import ProcessDied, SimDisk
from d_engine.testing.sim.events import SECOND, EventQueue
from d_engine.testing.sim.network import Fabric
from d_engine.testing.sim.ports import Listener, SimHost, WatchedNetwork
from d_engine.testing.sim.safety import NodeRecord, Safety
from d_engine.testing.sim.tenure import Tenure
from d_engine.testing.sim.trace import Trace
from d_engine.testing.sim.violations import InvariantBroken
from d_engine.testing.sim.watched import Ledger, WatchedMachine, WatchedStorage

CHANGE_TIMEOUT: Nanoseconds = 5 * SECOND


@dataclass(slots=True)
class Surroundings:
    """What all nodes share."""

    events: EventQueue
    trace: Trace
    fabric: Fabric
    safety: Safety
    ledger: Ledger
    tenure: Tenure
    chronicle: Chronicle
    make_storage: Callable[[SimDisk, int], LogStorage]
    make_machine: Callable[[], StateMachine]
    watcher: "NodeWatcher"
    segment_bytes: int
    turn_delay: Nanoseconds = 0
    dark: dict[NodeId, bool] = field(default_factory=dict)
    """Machines that went without a word and are not back: nobody there says that nobody is there."""


class NodeWatcher(Protocol):
    """Who must know what becomes of processes."""

    def started(self, node: NodeId) -> None: ...

    def ended(self, node: NodeId, error: DEngineError | None) -> None: ...


@dataclass(slots=True)
class Process:
    """One life."""

    replica: Replica
    host: SimHost
    machine: WatchedMachine
    network: WatchedNetwork
    log: LogWatch
    turns: int = 0


class SimNode:
    """A machine."""

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

    # --- life -----------------------------------------------------------------------------------------------

    def start(self) -> None:
        """A new process. If it cannot live on what the disk holds, it ends at once."""
        shared = self.shared
        self.life += 1
        shared.dark.pop(self.id, None)
        self.record.restarted()
        self.disk.directory.observer = self.record.oracle
        machine = WatchedMachine(
            shared.make_machine(),
            shared.ledger,
            shared.tenure,
            shared.chronicle,
            self.id,
            shared.trace.count,
        )
        host = SimHost(self, self.life)
        network = WatchedNetwork(self, self.life)
        self.note("starts")
        try:
            incarnation = load_identity(self.disk, self.id, host.random_bits)
            made = shared.make_storage(self.disk, incarnation)
            storage = WatchedStorage(made, shared.safety, self.record, shared.trace.count, self._made)
            settings = replace(self.settings, incarnation=incarnation)
            replica = Replica(
                settings, host, network, storage, SnapshotFiles(self.disk), machine, Listener(self)
            )
        except ProcessDied:
            shared.trace.count("crash: within recovery")
            self.disk.kill()
            self.shared.watcher.ended(self.id, None)
            return
        except DEngineError as error:
            self.disk.kill()
            self.note(f"cannot start: {error}")
            self.shared.watcher.ended(self.id, error)
            return
        self.process = Process(replica, host, machine, network, LogWatch(log_bytes(self.disk)))
        shared.safety.sightings.started(self, self.process)
        self._run(replica.start, ())
        shared.fabric.process_started(network)
        self.shared.watcher.started(self.id)

    def _made(self, entries: Sequence[Entry]) -> None:
        self.shared.tenure.made(entries, self.shared.events.now, self.skew)

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
        self.note(how)
        if silently:
            self.shared.dark[self.id] = True
        self.shared.safety.sightings.dying(self)
        was_alive = self.process is not None
        self._forget_process()
        if was_alive:
            self.shared.fabric.process_died(self.id, silently)
            self.shared.watcher.ended(self.id, None)

    def _forget_process(self) -> None:
        self.process = None
        self.life += 1
        self._backlog.clear()
        self.held_up = self.skew = 0
        self._standing = 0
        self._stands += 1
        self.clocks.resume(self.shared.events.now)

    # --- events of the process ------------------------------------------------------------------------------

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
        if process is None:
            return
        process.turns += 1
        process.log.after_turn(self, process)
        if process.turns % TURNS_BETWEEN == 0:
            check_bounds(self, process)
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
        except InvariantBroken:
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
            safety = self.shared.safety
            safety.sightings.woke(self, self.clocks.suspended, max(safety.leaders, default=0))
            self.clocks.resume(self.shared.events.now)
        while self._backlog and not self._standing:
            function, arguments = self._backlog.popleft()
            self._run(function, arguments)

    @property
    def alive(self) -> bool:
        """A process runs."""
        return self.process is not None

    @property
    def standing(self) -> bool:
        """And stands still."""
        return self._standing > 0

    def fail(self, life: int, error: DEngineError) -> None:
        """The process of that life stopped by itself."""
        if life == self.life and self.process is not None:
            self.shared.safety.sightings.stopped(self, self.process, error)
            self._forget_process()
            self.disk.kill()
            self.shared.fabric.process_died(self.id, silently=False)
            self.shared.watcher.ended(self.id, error)

    def ask_change(self, changes: tuple[MemberChange, ...], force: bool, done: ChangeDone) -> None:
        """Somebody asks this process for a change of members or of leadership."""
        process = self.process
        if process is not None and process.replica.error is None:
            self.shared.safety.sightings.change_asked(process, changes)
            process.replica.change(changes, force, CHANGE_TIMEOUT, done)

    def note(self, what: str, number: int = 0) -> None:
        """Into the trace."""
        self.shared.trace.note(self.shared.events.now, self.id, "node", number, f"{what} {number or ''}")
