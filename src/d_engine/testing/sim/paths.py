"""How a simulated client's requests reach a node and the answers come back.

A client that is *embedded* calls its node's process and dies with it. A *remote* one is the production client down to
its connections (`d_engine.testing.sim.connections`): which node it asks, when it gives one up and what it then tells
its caller are its own decisions. On both paths go the production writer and reader.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

from d_engine.client.dialer import Outside
from d_engine.client.dispatcher import Dispatcher
from d_engine.client.endpoints import Endpoints
from d_engine.client.feed import WatchSink, WatchTransport
from d_engine.client.reader import AnswersDone
from d_engine.client.remote import RemoteTransport
from d_engine.client.remote_watches import RemoteWatches
from d_engine.client.writer import OutcomeDone
from d_engine.format.errors import DEngineError
from d_engine.format.ids import NodeId
from d_engine.kv.events import Event
from d_engine.kv.watching import Selection
from d_engine.replica.outcome import GroupDone, GroupOutcome
from d_engine.replica.replica import Replica
from d_engine.replica.watches import Watches
from d_engine.testing.sim.connections import ClientNetwork
from d_engine.testing.sim.events import SECOND, EventQueue
from d_engine.testing.sim.judged_watches import JudgedWatches
from d_engine.testing.sim.links import Quality
from d_engine.testing.sim.loop import SimLoop
from d_engine.testing.sim.node import Process, SimNode
from d_engine.testing.sim.trace import Trace

_NUMBER = 1


class EmbeddedPath:
    """Into the process that the client lives in: a `GroupTransport`, a `ReadTransport` and a `WatchTransport`."""

    def __init__(self, events: EventQueue, machine: SimNode) -> None:
        self.home: NodeId | None = machine.id
        self._events = events
        self._machine = machine
        self._life = machine.life
        self.alive = True

    @property
    def watches(self) -> WatchTransport:
        return self

    def crash(self) -> None:
        """The client is gone, and hears nothing any more."""
        self.alive = False

    def open_session(self, timeout: float, done: OutcomeDone) -> None:
        """See `GroupTransport`."""
        self._propose(done, lambda replica, ended: replica.open_session(int(timeout * SECOND), ended))

    def submit(self, group: bytes, timeout: float, done: OutcomeDone) -> None:
        """See `GroupTransport`."""
        self._propose(done, lambda replica, ended: replica.propose(group, int(timeout * SECOND), ended))

    def _propose(self, done: OutcomeDone, propose: Callable[[Replica, GroupDone], None]) -> None:
        def ended(outcome: GroupOutcome) -> None:
            self.back(done, outcome)

        def there(process: Process) -> None:
            try:
                propose(process.replica, ended)
            except DEngineError as error:
                ended(GroupOutcome((), 0, error))

        self.there(there)

    def read(
        self, policy: int, min_revision: int, queries: Sequence[bytes], timeout: float, done: AnswersDone
    ) -> None:
        """See `ReadTransport`."""

        def there(process: Process) -> None:
            def ready(error: DEngineError | None) -> None:
                answers = () if error is not None else tuple(map(process.machine.query, queries))
                self.back(done, answers, error)

            self._machine.shared.safety.sightings.read_asked(process)
            try:
                process.replica.read(policy, min_revision, int(timeout * SECOND), len(queries), ready)
            except DEngineError as error:
                ready(error)

        self.there(there)

    # --- watches --------------------------------------------------------------------------------------------

    def check(self) -> None:
        """See `WatchTransport`."""

    def open(
        self, selection: Selection, since: int | None, timeout: float | None, sink: WatchSink
    ) -> Callable[[], None]:
        """See `WatchTransport`."""
        line = _Line(self, sink)
        self.there(lambda process: line.open(JudgedWatches.of(self._machine, process), selection, since))
        return line.stop

    def can_resume(self, error: DEngineError, served: bool) -> bool:
        """There is no other node."""
        return False

    # --- from here to there, and back -----------------------------------------------------------------------

    def there(self, step: Callable[[Process], None]) -> None:
        """On the engine's thread."""
        self._machine.enter(self._life, self._run, step)

    def _run(self, step: Callable[[Process], None]) -> None:
        process = self._machine.process
        if process is not None:
            step(process)

    def back(self, function: Callable[..., object], *arguments: object) -> None:
        """On the client's. An engine that is held up says later what it says now."""
        self._events.after(self._machine.skew, self._if_alive, function, arguments)

    def _if_alive(self, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        if self.alive and self._machine.life == self._life:
            function(*arguments)


class _Line:
    """An embedded client's watch: a `WatchOwner` there, a `WatchLine` here."""

    def __init__(self, path: EmbeddedPath, sink: WatchSink) -> None:
        self._path = path
        self._sink = sink
        self._watches: Watches
        self._over = False

    def open(self, watches: Watches, selection: Selection, since: int | None) -> None:
        """In the node's process."""
        self._watches = watches
        try:
            after = watches.open(self, _NUMBER, selection, since)
        except DEngineError as error:
            self.ended(_NUMBER, error)
        else:
            self._tell(self._sink.started, self, after, watches.settings.told_window_bytes)

    def take(self, size: int) -> None:
        self._path.there(lambda process: self._watches.take(self, _NUMBER, size))

    def ask_progress(self) -> None:
        self._path.there(lambda process: self._watches.ask_progress(self, _NUMBER))

    def stop(self) -> None:
        self._over = True
        self._path.there(lambda process: self._watches.close(self))

    def events(self, number: int, revision: int, events: list[Event]) -> None:
        """See `WatchOwner`."""
        self._tell(self._sink.events, revision, events)

    def progress(self, numbers: list[int], revision: int) -> None:
        """See `WatchOwner`."""
        self._tell(self._sink.progress, revision)

    def ended(self, number: int, error: DEngineError) -> None:
        """See `WatchOwner`."""
        self._tell(self._sink.ended, error)

    def _tell(self, function: Callable[..., object], *arguments: object) -> None:
        if self._path.alive:
            self._path.back(self._hear, function, arguments)
        else:
            self._watches.close(self)

    def _hear(self, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        if not self._over:
            function(*arguments)


class RemotePath:
    """Over the network, to whichever node the production client asks."""

    home: NodeId | None = None

    def __init__(
        self,
        loop: SimLoop,
        events: EventQueue,
        trace: Trace,
        rng: Random,
        nodes: dict[NodeId, SimNode],
        quality: Quality,
        timeout: float,
    ) -> None:
        self.quality = quality
        self.network = ClientNetwork(events, trace, rng, nodes, quality)
        addresses = [machine.settings.address for machine in nodes.values()]
        rng.shuffle(addresses)
        # Some stay where they are, whoever leads: else nobody would write through the next leader while others still
        # read from the last one.
        endpoints = Endpoints(addresses, discover=rng.random() < 0.5)
        outside = Outside(self.network.dial, rng.uniform)
        self._dispatcher = Dispatcher(loop.as_event_loop(), endpoints, outside=outside)
        transport = RemoteTransport(loop.as_event_loop(), self._dispatcher)
        self.open_session, self.submit, self.read = transport.open_session, transport.submit, transport.read
        self.watches = RemoteWatches(loop.as_event_loop(), self._dispatcher, timeout)

    def crash(self) -> None:
        """The client is gone; its kernel closes its connections."""
        self.watches.end()
        self._dispatcher.end()
        self.network.alive = False


ClientPath: TypeAlias = EmbeddedPath | RemotePath
