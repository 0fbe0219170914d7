"""How a simulated client's requests reach a node and the answers come back.

A client that is *embedded* calls its node's process and dies with it. A *remote* one has paths to all nodes that delay,
lose and can be cut. Both follow the rules of the production clients: a group is sent again as the same bytes, to
another node if need be, until its time is over; it has *failed* only if nobody can have it.
"""

from collections.abc import Callable, Sequence
from random import Random
from typing import TypeAlias

from d_engine.client.writer import OutcomeDone
from d_engine.format.errors import (
    DEngineError,
    EngineStoppedError,
    NotAppliedError,
    NotAppliedTimeoutError,
    OutcomeUnknownTimeoutError,
    SessionLostError,
    UnavailableError,
)
from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.replica.outcome import GroupOutcome
from d_engine.testing.sim.events import MILLISECOND, SECOND, EventQueue
from d_engine.testing.sim.links import Quality
from d_engine.testing.sim.node import SimNode
from d_engine.testing.sim.trace import Trace

AnswerDone: TypeAlias = Callable[[bytes, DEngineError | None], None]
_Ask: TypeAlias = Callable[[SimNode, Nanoseconds, Callable[[object, DEngineError | None], None]], None]
_PAUSE: Nanoseconds = 20 * MILLISECOND
_GRACE: Nanoseconds = 200 * MILLISECOND


def _propose(group: bytes) -> _Ask:
    def ask(node: SimNode, timeout: Nanoseconds, done: Callable[[object, DEngineError | None], None]) -> None:
        def ended(outcome: GroupOutcome) -> None:
            done(outcome, outcome.error)

        process = node.process
        if process is None:
            raise EngineStoppedError
        if group:
            process.replica.propose(group, timeout, ended)
        else:
            process.replica.open_session(timeout, ended)

    return ask


def _read(policy: int, min_revision: int, query: bytes) -> _Ask:
    def ask(node: SimNode, timeout: Nanoseconds, done: Callable[[object, DEngineError | None], None]) -> None:
        process = node.process
        if process is None:
            raise EngineStoppedError

        def ready(error: DEngineError | None) -> None:
            done(process.machine.query(query) if error is None else b"", error)

        node.shared.safety.sightings.read_asked(process)
        process.replica.read(policy, min_revision, timeout, 1, ready)

    return ask


class ClientPath:
    """One client's way to the nodes. `home` is the node that it is embedded on, None if it is remote."""

    def __init__(
        self,
        events: EventQueue,
        trace: Trace,
        rng: Random,
        nodes: dict[NodeId, SimNode],
        home: NodeId | None,
        quality: Quality,
    ) -> None:
        self.home = home
        self.quality = quality
        self.cut_off: dict[NodeId, int] = {}
        """By node, how many faults cut the path to it."""
        self.target = home if home is not None else rng.choice(sorted(nodes))
        self.alive = True
        self._events = events
        self._trace = trace
        self._rng = rng
        self.nodes = nodes

    # --- the writer's transport -----------------------------------------------------------------------------

    def open_session(self, timeout: float, done: OutcomeDone) -> None:
        """See `GroupTransport`."""
        self.submit(b"", timeout, done)

    def submit(self, group: bytes, timeout: float, done: OutcomeDone) -> None:
        """See `GroupTransport`. An empty group opens a session."""

        def ended(answer: object, error: DEngineError | None) -> None:
            if isinstance(answer, GroupOutcome) and error is None:
                done(answer)
            else:
                done(GroupOutcome((), 0, error))

        _Request(self, _propose(group), int(timeout * SECOND), ended, True).begin()

    def read(
        self, policy: int, min_revision: int, query: bytes, timeout: Nanoseconds, done: AnswerDone
    ) -> None:
        """The answer to a query of the state machine."""

        def ended(answer: object, error: DEngineError | None) -> None:
            done(answer if isinstance(answer, bytes) else b"", error)

        _Request(self, _read(policy, min_revision, query), timeout, ended, False).begin()

    # --- for requests ---------------------------------------------------------------------------------------

    @property
    def now(self) -> Nanoseconds:
        """Virtual time."""
        return self._events.now

    def later(self, delay: Nanoseconds, action: Callable[..., object], *arguments: object) -> None:
        """Call the action unless the client is gone by then."""
        self._events.after(delay, self._if_alive, action, arguments)

    def _if_alive(self, action: Callable[..., object], arguments: tuple[object, ...]) -> None:
        if self.alive:
            action(*arguments)

    def deliver(self, node: NodeId, ask: _Ask, timeout: Nanoseconds, answer: "_Answer") -> None:
        """Put the question to the node, after the time that the way takes."""
        if self.home is not None:
            machine = self.nodes[node]
            machine.enter(machine.life, self._put, machine, ask, timeout, answer)
        elif not self.lost(node):
            self._events.after(self.delay(), self._arrive, node, ask, timeout, answer)

    def _arrive(self, node: NodeId, ask: _Ask, timeout: Nanoseconds, answer: "_Answer") -> None:
        machine = self.nodes[node]
        if self.cut_off.get(node):
            return
        if machine.process is None:
            self._events.after(self.delay(), answer, None, UnavailableError(f"node {node} is down"))
        else:
            machine.enter(machine.life, self._put, machine, ask, timeout, answer)

    def _put(self, machine: SimNode, ask: _Ask, timeout: Nanoseconds, answer: "_Answer") -> None:
        def answered(value: object, error: DEngineError | None) -> None:
            if self.home is not None:
                self._events.after(machine.skew, answer, value, error)
            elif not self.lost(machine.id):
                self._events.after(self.delay() + machine.skew, answer, value, error)

        try:
            ask(machine, timeout, answered)
        except DEngineError as error:
            answered(None, error)

    def lost(self, node: NodeId) -> bool:
        """Whether what is sent to the node, or by it, does not arrive."""
        if self.cut_off.get(node) or (self.quality.loss and self._rng.random() < self.quality.loss):
            self._trace.counters["client: message lost"] += 1
            return True
        return False

    def delay(self) -> Nanoseconds:
        """Of one message."""
        return self.quality.latency + int(self.quality.jitter * self._rng.expovariate(1.0))

    def attempt_time(self) -> Nanoseconds:
        """How long a remote client waits before it asks another node."""
        return int((0.2 + self._rng.random()) * SECOND)

    def turn_to_another(self) -> None:
        """The node that was asked did not help."""
        others: Sequence[NodeId] = [node for node in sorted(self.nodes) if node != self.target]
        if self.home is None and others:
            self.target = self._rng.choice(others)


_Answer: TypeAlias = Callable[[object, DEngineError | None], None]


class _Request:
    """One request with its attempts. `writes` tells whether it may have an effect."""

    def __init__(
        self,
        path: ClientPath,
        ask: _Ask,
        timeout: Nanoseconds,
        done: Callable[[object, DEngineError | None], None],
        writes: bool,
    ) -> None:
        self._path = path
        self._ask = ask
        self._deadline = path.now + timeout
        self._done = done
        self._writes = writes
        self._doubtful = False
        self._attempt = 0
        self._trouble: DEngineError | None = None

    def begin(self) -> None:
        # An embedded client is answered by its node, unless that stands still.
        grace = 0 if self._path.home is None else _GRACE
        self._path.later(max(0, self._deadline - self._path.now) + grace, self._time_is_over)
        self._path.later(0, self._try)

    def _try(self) -> None:
        if self._attempt < 0:
            return
        self._attempt += 1
        attempt, path = self._attempt, self._path
        left = self._deadline - path.now
        if left <= 0:
            return
        # Until an answer says otherwise the request may be in somebody's hands.
        before, self._doubtful = self._doubtful, self._writes

        def answered(value: object, error: DEngineError | None) -> None:
            path.later(0, self._answered, attempt, before, value, error)

        path.deliver(path.target, self._ask, left, answered)
        if path.home is None:
            path.later(path.attempt_time(), self._no_answer, attempt)

    def _answered(
        self, attempt: int, doubtful_before: bool, value: object, error: DEngineError | None
    ) -> None:
        if self._attempt < 0:
            return
        if error is None:
            self._end(value, None)
            return
        if attempt != self._attempt:
            return
        if isinstance(error, NotAppliedError):
            self._doubtful = doubtful_before
        self._trouble = error
        if isinstance(error, SessionLostError) or self._path.home is not None:
            self._end(None, error)
        else:
            self._path.turn_to_another()
            self._path.later(_PAUSE, self._try)

    def _no_answer(self, attempt: int) -> None:
        if attempt == self._attempt:
            self._path.turn_to_another()
            self._try()

    def _time_is_over(self) -> None:
        if self._attempt >= 0:
            if self._doubtful:
                self._end(None, OutcomeUnknownTimeoutError("no answer came in time"))
            else:
                self._end(None, NotAppliedTimeoutError(f"nobody took it in time: {self._trouble}"))

    def _end(self, value: object, error: DEngineError | None) -> None:
        self._attempt = -1
        self._done(value, error)
