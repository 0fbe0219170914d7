"""All clients of a run, over their lives."""

from dataclasses import replace
from random import Random
from typing import TypeAlias

from d_engine.format.ids import NodeId
from d_engine.testing.sim.application import ApplicationClient, Trial
from d_engine.testing.sim.clients import SimClient
from d_engine.testing.sim.events import EventQueue
from d_engine.testing.sim.faults import NotNow
from d_engine.testing.sim.links import Quality
from d_engine.testing.sim.loop import SimLoop
from d_engine.testing.sim.node import SimNode
from d_engine.testing.sim.paths import ClientPath, EmbeddedPath, RemotePath
from d_engine.testing.sim.rng import split
from d_engine.testing.sim.script import Script
from d_engine.testing.sim.trace import Trace
from d_engine.testing.sim.work.workload import Histories, Workload

AnyClient: TypeAlias = SimClient | ApplicationClient
_BURST = 60
_MAX_CRASHES = 12
_PATIENCE_MS = 10_000


class Fleet:
    """Embedded clients begin with their node's process and die with it; remote ones live on."""

    def __init__(
        self,
        script: Script,
        events: EventQueue,
        trace: Trace,
        nodes: dict[NodeId, SimNode],
        trial: Trial | None,
    ) -> None:
        self.histories = Histories()
        self.stopped = False
        self._script = script
        self._events = events
        self._trace = trace
        self._nodes = nodes
        self.loop = SimLoop(events)
        self._trial = trial
        self._clients: dict[str, AnyClient] = {}
        self._lives = 0
        self._crashes = 0
        self._left: dict[NodeId, bool] = {}
        """Nodes that clients stay away from."""

    def begin(self) -> None:
        """Remote clients begin; embedded ones do when their nodes start."""
        for number in range(self._script.remote):
            self._begin(f"r{number}", None)

    def node_started(self, node: NodeId) -> None:
        """Its process brings a client along."""
        if node <= self._script.embedded and not self.stopped and node not in self._left:
            self._begin(f"e{node}", node)

    def node_ended(self, node: NodeId) -> None:
        """Its process took the client with it."""
        for name, client in sorted(self._clients.items()):
            if client.path.home == node:
                self._clients.pop(name).crash()
        for path in self.remote_paths():
            path.network.node_ended(node)

    def leave(self, node: NodeId) -> None:
        """Clients on that node end, others go elsewhere, until they `come_back`."""
        if node in self._left:
            return
        self._left[node] = True
        for name, client in sorted(self._clients.items()):
            if client.path.home == node:
                self._clients.pop(name).crash()
        for path in self.remote_paths():
            path.network.cut_off[node] = path.network.cut_off.get(node, 0) + 1
            path.network.reset(node)

    def come_back(self, node: NodeId) -> None:
        """The opposite."""
        if self._left.pop(node, None) is None:
            return
        for path in self.remote_paths():
            path.network.cut_off[node] -= 1
        self.node_started(node)

    def remote_paths(self) -> list[RemotePath]:
        """Of the remote clients."""
        paths = [client.path for _, client in sorted(self._clients.items())]
        return [path for path in paths if isinstance(path, RemotePath)]

    def crash_one(self, rng: Random) -> None:
        """A remote client dies; another takes its place. What it had asked for stays open for ever, and too much
        of that on one key makes its order too dear to find."""
        if self._crashes >= _MAX_CRASHES:
            raise NotNow
        names = [name for name, client in sorted(self._clients.items()) if client.path.home is None]
        if not names:
            raise NotNow
        self._crashes += 1
        name = rng.choice(names)
        self._clients.pop(name).crash()
        if not self.stopped:
            self._begin(name, None)

    def burst(self, rng: Random) -> None:
        """One more client, in a great hurry for a while."""
        workload = Workload(keys=4, lines=3, pause_ms=0.01, weights={"add": 1.0})
        home = rng.choice([None, *sorted(node for node in self._nodes if self._nodes[node].alive)])
        self._begin(f"b{self._lives}", home, workload, _BURST)

    def stop(self) -> None:
        """No client asks for anything new."""
        self.stopped = True
        for client in self._clients.values():
            client.budget = 0

    @property
    def busy(self) -> int:
        """Operations that nobody has answered yet."""
        return sum(client.busy for client in self._clients.values())

    def judge(self, node: NodeId) -> AnyClient:
        """A client on that node, for the final reads."""
        patient = replace(self._script.workload, timeout_ms=_PATIENCE_MS)
        return self._make(f"judge{node}", node, patient, 0)

    def _begin(
        self, name: str, home: NodeId | None, workload: Workload | None = None, budget: int = 0
    ) -> None:
        known = self._script
        client = self._make(name, home, workload or known.workload, budget or known.operations)
        self._clients[name] = client
        client.begin()

    def _make(self, name: str, home: NodeId | None, workload: Workload, budget: int) -> AnyClient:
        self._lives += 1
        script = self._script
        rng = split(script.seed, script.profile, "client", name, self._lives)
        path = self._embed(home) if home is not None else self._connect(rng, workload)
        full_name = f"{name}-{self._lives}"
        if self._trial is not None:
            return ApplicationClient(
                full_name, path, self._events, self.loop, rng, workload, self._trial, budget
            )
        return SimClient(
            full_name, path, self._events, self.loop, rng, self._trace, workload, self.histories, budget
        )

    def _embed(self, home: NodeId) -> ClientPath:
        return EmbeddedPath(self._events, self._nodes[home])

    def _connect(self, rng: Random, workload: Workload) -> ClientPath:
        features = self._script.features
        quality, timeout = Quality(features.latency, features.jitter), workload.timeout_ms / 1000
        path = RemotePath(self.loop, self._events, self._trace, rng, self._nodes, quality, timeout)
        path.network.cut_off.update(dict.fromkeys(self._left, 1))
        return path
