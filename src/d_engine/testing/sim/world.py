"""One run's world: machines, network, clients, faults, and the two phases.

Phase one: clients work, faults come and go. Phase two: all faults are undone, every node that is not lost for good
runs; then everything that was asked must end, somebody must lead within ten election time-outs and stay, and all nodes
must come to the same state (I12, I4, I5).
"""

from collections.abc import Callable
from dataclasses import replace
from random import Random

from d_engine.format.configuration import Configuration, Member
from d_engine.format.errors import DEngineError, DiskError
from d_engine.format.ids import NodeId
from d_engine.format.state_machine import StateMachine
from d_engine.kv.machine import KvStateMachine
from d_engine.raft.effects import Role
from d_engine.replica.settings import ReplicaSettings
from d_engine.storage.wal import WalStorage
from d_engine.testing.sim import (
    divergence_faults,
    lasting_faults,
    log_faults,
    machine_faults,
    membership_faults,
    old_leader_faults,
    snapshot_faults,
)
from d_engine.testing.sim.application import Trial
from d_engine.testing.sim.atlas import Atlas
from d_engine.testing.sim.chronicle import Chronicle
from d_engine.testing.sim.clock import MachineClocks
from d_engine.testing.sim.disk import DiskTiming, SimDisk
from d_engine.testing.sim.events import MILLISECOND, SECOND, EventQueue
from d_engine.testing.sim.faults import FAULTS, LEAST_DURATIONS, NotNow, Undo
from d_engine.testing.sim.fleet import Fleet
from d_engine.testing.sim.joining import begin_to_join
from d_engine.testing.sim.links import Quality
from d_engine.testing.sim.network import Fabric
from d_engine.testing.sim.node import SimNode, Surroundings
from d_engine.testing.sim.overlays import Overlays
from d_engine.testing.sim.rng import between, split
from d_engine.testing.sim.safety import Safety
from d_engine.testing.sim.script import PlannedFault, Script
from d_engine.testing.sim.sightings import Sightings
from d_engine.testing.sim.tenure import Tenure
from d_engine.testing.sim.trace import Trace
from d_engine.testing.sim.violations import InvariantBroken
from d_engine.testing.sim.watched import Ledger
from d_engine.testing.sim.wires import NetworkSettings

__all__ = [
    "World",
    "divergence_faults",
    "lasting_faults",
    "log_faults",
    "machine_faults",
    "membership_faults",
    "old_leader_faults",
    "snapshot_faults",
]


class World:
    """Everything that exists in a run."""

    def __init__(self, script: Script, trace: Trace, trial: Trial | None = None) -> None:
        self.script = script
        self.trace = trace
        self.events = EventQueue()
        self.healing = False
        self.ids: list[NodeId] = list(range(1, script.nodes + script.spares + 1))
        self.nodes: dict[NodeId, SimNode] = {}
        self.atlas = Atlas(self.nodes)
        self.overlays = Overlays()
        self.in_force: dict[int, tuple[Undo, int]] = {}
        """Of the faults in force: how to undo it, and how much was committed when it came."""
        self.alone = False
        """The fault in force wants no other one beside it."""
        self._rng = split(script.seed, script.profile, "world")
        self.fabric = Fabric(
            self.events,
            split(script.seed, script.profile, "network"),
            trace,
            NetworkSettings(script.features.stream, script.features.encoded),
        )
        self._build(KvStateMachine if trial is None else trial.application.state_machine)
        self.fleet = Fleet(script, self.events, trace, self.nodes, trial)
        self.shared.tenure.history = self.fleet.histories.store
        self.fleet.histories.chronicle = self.shared.chronicle

    # --- building -------------------------------------------------------------------------------------------

    def _build(self, make_machine: Callable[[], StateMachine]) -> None:
        features = self.script.features
        first = self.ids[: self.script.nodes]
        members = tuple(Member(node, f"node{node}:1") for node in first)
        voters = Configuration(0, members, tuple(first), lease_reads=features.lease_reads)
        shared = Surroundings(
            events=self.events,
            trace=self.trace,
            fabric=self.fabric,
            safety=Safety(voters, Sightings(self.trace)),
            ledger=Ledger(),
            tenure=Tenure(max(features.drift, machine_faults.MAX_DRIFT), self.trace.count),
            chronicle=Chronicle(),
            make_storage=lambda disk, seed: WalStorage(disk, seed, features.segment_bytes),
            make_machine=make_machine,
            watcher=self,
            segment_bytes=features.segment_bytes,
            turn_delay=features.turn_delay,
        )
        self.shared = shared
        settings = ReplicaSettings(
            node_id=1,
            incarnation=1,
            bootstrap=voters,
            heartbeat_ns=features.heartbeat,
            election_min_ns=features.election_min,
            election_max_ns=features.election_max,
            log_cache_bytes=features.cache_bytes,
            max_append_bytes=features.append_bytes,
            max_in_flight_bytes=features.in_flight_bytes,
            max_pending_writes=features.max_pending,
            max_pending_reads=features.max_pending,
            max_sessions=features.max_sessions,
            snapshots=features.snapshots,
            watches=features.watches,
            marker_ns=features.marker,
            auto_promote=features.auto_promote,
        )
        for node in self.ids:
            own = replace(settings, node_id=node, address=f"node{node}:1")
            self._add_node(node, shared, own)
        for node in self.ids[self.script.nodes :]:
            self.atlas.lost[node] = True

    def _add_node(self, node: NodeId, shared: Surroundings, settings: ReplicaSettings) -> None:
        script, features = self.script, self.script.features
        timers = 0 if features.same_timers else node
        rngs = (
            split(script.seed, script.profile, "node", node),
            split(script.seed, script.profile, "timers", timers),
        )
        shape = split(script.seed, script.profile, "machine", node)
        clocks = MachineClocks(shape.randrange(SECOND, 10**6 * SECOND), shape.randrange(10**9 * SECOND))
        clocks.drift(0, shape.randrange(-features.drift, features.drift + 1))
        machine = SimNode(node, shared, rngs, clocks, settings)
        timing = DiskTiming(20_000, features.sync, features.sync // 2)
        disk_rng = split(script.seed, script.profile, "disk", node)
        machine.disk = SimDisk(self.events, disk_rng, self.trace, timing, lambda: self._died(node))
        machine.disk.late = lambda: machine.skew
        machine.disk.tell = lambda done, error: machine.enter(machine.life, done, error)
        qualities = {other: (self._quality(), self._quality()) for other in self.nodes}
        self.nodes[node] = machine
        self.fabric.add(node, qualities)

    def _quality(self) -> Quality:
        features = self.script.features
        return Quality(features.latency, features.jitter, features.loss, features.duplicate, features.reorder)

    # --- what faults ask for --------------------------------------------------------------------------------

    def leader(self) -> NodeId:
        """Who leads in the highest term. Raises `NotNow`."""
        leading = [
            (node.process.replica.raft.term, node.id)
            for node in self.nodes.values()
            if node.process is not None and node.process.replica.raft.role is Role.LEADER
        ]
        if not leading:
            raise NotNow
        return max(leading)[1]

    def committed_configuration(self) -> Configuration:
        """The newest that any running node knows to be committed. Raises `NotNow`."""
        known = [node.process.replica.raft for node in self.nodes.values() if node.process is not None]
        if not known:
            raise NotNow
        return max(known, key=lambda raft: raft.commit_index).committed_configuration

    def begin_anew(self, node: NodeId) -> None:
        """The machine, if it cannot come back as what it was, gets an empty disk and is started to join."""
        if node not in self.atlas.lost:
            return
        machine = self.nodes[node]
        machine.wipe()
        machine.settings = replace(machine.settings, bootstrap=None)
        self.atlas.begin_anew(node)
        self._start_later(node)

    def choose(self, nodes: list[SimNode]) -> SimNode:
        """One of them, by chance."""
        return self._rng.choice(nodes)

    def pairs(self) -> list[tuple[NodeId, NodeId]]:
        """Any two nodes. Raises `NotNow`."""
        found = [(a, b) for a in self.ids for b in self.ids if a < b]
        if not found:
            raise NotNow
        return found

    def let_up(self, node: NodeId) -> None:
        """One thing less holds it down."""
        self.atlas.let_up(node)
        self._start_later(node)

    def counting(self, what: str) -> Callable[[DEngineError | None], None]:
        """A callback that counts how it ended."""

        def ended(error: DEngineError | None) -> None:
            self.trace.count(f"{what}: {'done' if error is None else error.code}")

        return ended

    # --- life and death -------------------------------------------------------------------------------------

    def started(self, node: NodeId) -> None:
        """See `NodeWatcher`."""
        self.trace.count("node started")
        self.fleet.node_started(node)
        begin_to_join(self, node)

    def ended(self, node: NodeId, error: DEngineError | None) -> None:
        """See `NodeWatcher`."""
        self.fleet.node_ended(node)
        if error is not None:
            why = self.atlas.explains(node, error)
            if not why:
                text = f"node {node} stops for no reason: {type(error).__name__}: {error}"
                raise InvariantBroken("I13", text)
            self.trace.count(why)
            if isinstance(error, DiskError) and self._rng.random() < 0.5:
                # Whoever restarts a machine whose disk fails may well turn it off and on.
                self.nodes[node].lose_power()
        self._start_later(node)

    def _died(self, node: NodeId) -> None:
        self.trace.count("crash: in a disk operation")
        if self.atlas.dies_by_power.get(node):
            self.nodes[node].lose_power()
        else:
            self.nodes[node].kill()

    def _start_later(self, node: NodeId) -> None:
        self.events.after(between(self._rng, MILLISECOND, 2 * SECOND), self.start, node)

    def start(self, node: NodeId) -> None:
        """The machine's next process, if it has none and may have one."""
        machine = self.nodes[node]
        if not machine.alive and self.atlas.may_start(node):
            machine.start()

    # --- phase one ------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Everything starts, faults are planned."""
        if self.script.features.same_timers:
            parity = "odd" if self.script.nodes % 2 else "even"
            self.trace.count(f"feature: identical timers, an {parity} number of nodes")
        for node in self.ids[: self.script.nodes]:
            self.events.after(self._rng.randrange(20 * MILLISECOND), self.start, node)
        for node in self.ids[self.script.nodes :]:
            if self._rng.random() < 0.7:
                self.events.after(self._rng.randrange(2 * SECOND), self.begin_anew, node)
        self.fleet.begin()
        for number, planned in enumerate(self.script.faults):
            self.events.at(planned.at, self._inject, number, planned)

    def _inject(self, number: int, planned: PlannedFault) -> None:
        if self.healing:
            return
        committed = len(self.shared.safety.committed)
        try:
            if self.alone:
                raise NotNow
            undo = FAULTS[planned.name](self, Random(planned.seed))
        except NotNow:
            self.trace.counters[f"no place for {planned.name}"] += 1
            return
        self.trace.count(f"fault: {planned.name}")
        self.trace.note(
            self.events.now, 0, "fault", number, f"fault {planned.name} for {planned.duration / 1e9:.3f} s"
        )
        self.in_force[number] = (undo, committed)
        self.events.after(max(planned.duration, LEAST_DURATIONS.get(planned.name, 0)), self._undo, number)

    def _undo(self, number: int) -> None:
        found = self.in_force.pop(number, None)
        if found is None:
            return
        (undo, committed), name = found, self.script.faults[number].name
        if len(self.shared.safety.committed) > committed:
            self.trace.counters[f"work goes on under: {name}"] += 1
        self.trace.note(self.events.now, 0, "undo", number, f"fault {name} is over")
        undo()

    # --- phase two ------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """No fault any more, and none will come."""
        self.healing = True
        self.fleet.stop()
        self.trace.note(self.events.now, 0, "heal", 0, "all faults are over")
        for number in sorted(self.in_force):
            self._undo(number)
        self.fabric.wires.heal()
        self.atlas.heal()
        for node, machine in self.nodes.items():
            machine.disk.recover()
            machine.held_up = 0
            machine.go_on()
            machine.disk.timing.sync = self.script.features.sync
            self._start_later(node)
