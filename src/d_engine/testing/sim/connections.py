"""A remote client's connections: the production client at one end, the production server at the other, and between them
what TCP does.

Frames arrive in order; what the network loses is sent again and comes later. If nothing gets through for a while, the
side that has something to say learns that the connection is lost, and the other side when its probes find out. A
process that ends takes its connections with it; a machine that goes dark says nothing.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from random import Random
from typing import TYPE_CHECKING, TypeAlias, cast

from d_engine.engine.backend import NodeBackend
from d_engine.engine.config_sections import LimitsConfig
from d_engine.format.errors import DEngineError, IdentityError, UnavailableError
from d_engine.format.frames import Frame, decode_frame
from d_engine.format.hello import Channel, Greeting, Hello, Refusal
from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.replica.outcome import ReadDone
from d_engine.runtime.connection import SILENCE_MS, Connection, Handler
from d_engine.runtime.greeting import CONNECT_SECONDS, Established
from d_engine.server.connection import ClientHandler
from d_engine.testing.sim.events import MILLISECOND, SECOND, EventQueue
from d_engine.testing.sim.judged_watches import JudgedWatches
from d_engine.testing.sim.links import RETRANSMISSION, Quality
from d_engine.testing.sim.trace import Trace

if TYPE_CHECKING:
    from d_engine.testing.sim.node import Process, SimNode

_KEEP_ALIVE: Nanoseconds = 4 * SECOND
"""An idle second, and three probes."""
_Step: TypeAlias = Callable[[], object]


class ClientNetwork:
    """One client's part of the network."""

    def __init__(
        self,
        events: EventQueue,
        trace: Trace,
        rng: Random,
        nodes: "dict[NodeId, SimNode]",
        quality: Quality,
    ) -> None:
        self.cut_off: dict[NodeId, int] = {}
        """By node, how many faults cut the way to it."""
        self.alive = True
        """The client's process lives."""
        self.ends: dict[_End, None] = {}
        """The client's, of connections that are open."""
        self.events = events
        self.trace = trace
        self._rng = rng
        self._nodes = nodes
        self._quality = quality

    def delay(self) -> Nanoseconds:
        """Of one frame."""
        quality = self._quality
        delay = quality.latency + int(quality.jitter * self._rng.expovariate(1.0))
        while quality.loss and self._rng.random() < quality.loss:
            self.trace.counters["client: message lost"] += 1
            delay += RETRANSMISSION
        return delay

    def reaches(self, machine: "SimNode") -> bool:
        """Whether anything gets through to its kernel, and back."""
        return machine.id not in machine.shared.dark and not self.cut_off.get(machine.id)

    def node_ended(self, node: NodeId) -> None:
        """A process's connections end with it, and the client is told if it can be."""
        for end in list(self.ends):
            if end.machine.id == node and self.reaches(end.machine):
                self.events.after(self.delay(), end.lose, UnavailableError(f"node {node} ended"))

    def reset(self, node: NodeId | None = None) -> None:
        """Something on the way forgets all connections, or those with that node, and what is under way on them."""
        broken = UnavailableError("the connection was reset")
        for end in list(self.ends):
            if node in (None, end.machine.id):
                end.lose(broken)
                end.other.lose(broken)

    async def dial(
        self,
        address: str,
        hello: Hello,
        admit: Callable[[Hello], Refusal | None],
        established: Established,
    ) -> Connection | Refusal:
        """As `d_engine.runtime.greeting.dial`."""
        await asyncio.sleep((self.delay() + self.delay()) / SECOND)
        found = [machine for machine in self._nodes.values() if machine.settings.address == address]
        if not found or not self.reaches(found[0]):
            await asyncio.sleep(CONNECT_SECONDS)
            raise UnavailableError(f"{address} did not answer within {CONNECT_SECONDS:g} s")
        machine = found[0]
        if machine.process is None:
            raise UnavailableError(f"{address} cannot be reached: nobody listens")
        end = self._connect(machine)
        try:
            greeting = await _Caller(end, hello).greeting
            if isinstance(greeting, Hello) and (refusal := admit(greeting)):
                raise IdentityError(f"what answers at {address} was refused: {refusal.text}")
        except BaseException:
            end.abort()
            raise
        if isinstance(greeting, Refusal):
            end.abort()
            return greeting
        self.trace.count("client: connected")
        connection = cast("Connection", end)
        established(connection, greeting)
        return connection

    def _connect(self, machine: "SimNode") -> "_End":
        here, there = _End(self, machine, at_node=False), _End(self, machine, at_node=True)
        here.other, there.other = there, here
        self.ends[here] = None
        return here


class _End:
    """One side of a connection: as much of `Connection` as `Link` and `ClientHandler` use."""

    handler: Handler
    other: "_End"

    def __init__(self, network: ClientNetwork, machine: "SimNode", *, at_node: bool) -> None:
        self.machine = machine
        self.open = True
        self.congested = False
        self.remote = "a client" if at_node else machine.settings.address
        self._at_node = at_node
        self._network = network
        self._events = network.events
        self._life = machine.life
        self._arrival: Nanoseconds = 0
        self._stuck: deque[_Step] = deque()
        self._stuck_since: Nanoseconds = 0

    # --- for the handler ------------------------------------------------------------------------------------

    def establish(self, handler: Handler, send_limit: int, lossy: bool = False) -> None:
        self.handler = handler

    def send(self, parts: Sequence[bytes]) -> bool:
        if self.open:
            self.carry(partial(self.other.take, b"".join(parts)))
        return self.open

    def close(self, reason: DEngineError | None = None) -> None:
        if self.open:
            self.carry(partial(self.other.lose, None))
            self.lose(reason)

    def abort(self, reason: DEngineError | None = None) -> None:
        self._stuck.clear()
        self.close(reason)

    # --- on the way -----------------------------------------------------------------------------------------

    def carry(self, step: _Step) -> None:
        """Let it happen at the other end. A process that is held up says later what it says now."""
        if self._at_node and self.machine.skew:
            self._events.after(self.machine.skew, self._depart, step)
        else:
            self._depart(step)

    def _depart(self, step: _Step) -> None:
        if self._at_node and self.machine.life != self._life:
            return
        self._arrival = max(self._arrival, self._events.now + self._network.delay())
        self._events.at(self._arrival, self._arrive, step)

    def _arrive(self, step: _Step) -> None:
        if not self._stuck and self._network.reaches(self.machine):
            self._hand_over(step)
            return
        if not self._stuck:
            self._stuck_since = self._events.now
            self._events.after(RETRANSMISSION, self._send_again)
        self._stuck.append(step)

    def _send_again(self) -> None:
        if self._network.reaches(self.machine):
            stuck, self._stuck = self._stuck, deque()
            for step in stuck:
                self._hand_over(step)
        elif self._events.now - self._stuck_since < SILENCE_MS * MILLISECOND:
            self._events.after(RETRANSMISSION, self._send_again)
        else:
            self._stuck.clear()
            self.lose(UnavailableError("nothing that was sent was acknowledged"))
            self._events.after(_KEEP_ALIVE, self.other.lose, UnavailableError("nobody answers probes"))

    def _hand_over(self, step: _Step) -> None:
        if not self._at_node and self.machine.life != self._life:
            # Whoever is there now knows nothing of this connection.
            self._events.after(self._network.delay(), self.lose, UnavailableError("it was reset"))
        else:
            self.other.happen(step)

    # --- what happens here ----------------------------------------------------------------------------------

    def happen(self, step: _Step) -> None:
        """In the process at this end."""
        if self._at_node:
            self.machine.enter(self._life, step)
        elif self._network.alive:
            step()

    def take(self, data: bytes) -> None:
        """A frame came."""
        if self.open:
            self.handler.on_frames([decode_frame(data)])

    def lose(self, reason: DEngineError | None) -> None:
        """It is over at this end. The handler learns it later, never from within its own call."""
        if self.open:
            self.open = False
            self._network.ends.pop(self, None)
            self._events.after(0, self.happen, partial(self.handler.on_close, reason))


class _Caller:
    """Both sides' hellos: the client's `Handler` until then, and what the node says to it."""

    def __init__(self, end: _End, hello: Hello) -> None:
        self.greeting: asyncio.Future[Greeting] = asyncio.get_running_loop().create_future()
        self._end = end
        end.handler = self
        end.other.handler = _NOBODY
        end.carry(partial(self._answer, end.other, hello))

    def on_frames(self, frames: list[Frame]) -> None: ...

    def on_close(self, reason: DEngineError | None) -> None:
        if not self.greeting.done():
            self.greeting.set_exception(reason or UnavailableError("it closed the connection without a word"))

    def _answer(self, there: _End, hello: Hello) -> None:
        """In the node's process."""
        process = there.machine.process
        if process is None:
            return
        replica = process.replica
        greeting: Greeting | None = replica.peer_admit(hello)
        if greeting is None:
            greeting = replica.peers.hello(Channel.CLIENT)
            backend = _make_backend(there.machine, process)
            there.handler = ClientHandler(cast("Connection", there), backend)
        there.carry(partial(self._greet, greeting))

    def _greet(self, greeting: Greeting) -> None:
        if not self.greeting.done():
            self.greeting.set_result(greeting)


class _Nobody:
    """Who hears what comes before the hello."""

    def on_frames(self, frames: list[Frame]) -> None: ...

    def on_close(self, reason: DEngineError | None) -> None: ...


_NOBODY = _Nobody()


def _make_backend(machine: "SimNode", process: "Process") -> NodeBackend:
    """The production one; the oracles look at reads and at watches."""
    backend = NodeBackend(process.replica, machine.rng.getrandbits, LimitsConfig())
    replica, sightings = process.replica, machine.shared.safety.sightings

    def read(policy: int, min_revision: int, timeout: Nanoseconds, count: int, done: ReadDone) -> None:
        sightings.read_asked(process)
        replica.read(policy, min_revision, timeout, count, done)

    backend.read = read
    backend.watches = JudgedWatches.of(machine, process)
    return backend
