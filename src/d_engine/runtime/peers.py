"""The replica's `Network` port: connections with the other members, as `d_engine.replica.peering` decides.

TCP finds a peer that vanished (see `d_engine.runtime.connection`); one whose connection stands and that answers nothing
is found there.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import monotonic_ns

from d_engine.format.errors import (
    ConfigError,
    DEngineError,
    IdentityError,
    MalformedError,
    ProtocolError,
    UnavailableError,
)
from d_engine.format.frames import Frame, FrameKind, encode_frame
from d_engine.format.hello import Channel, Hello, Refusal, decode_greeting
from d_engine.format.ids import NodeId
from d_engine.format.messages import PeerMessage, decode_message, encode_message
from d_engine.replica.peering import JITTER_BITS, SEND_LIMITS, SILENT, Backoff, Neighbour, Peering
from d_engine.replica.settings import SECOND
from d_engine.runtime.connection import Connection
from d_engine.runtime.greeting import Identity, dial, greet

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PeerEvents:
    """What the replica is told, always from the loop, never from within a call of its own. Of each member `connected`
    and `lost` alternate. `refused` is a refusal that came from there; dialling goes on."""

    receive: Callable[[NodeId, list[PeerMessage]], None]
    connected: Callable[[NodeId], None]
    lost: Callable[[NodeId], None]
    refused: Callable[[NodeId, Refusal], None]


class _PeerHandler:
    """One established connection: its frames are this member's messages, whatever they claim."""

    def __init__(
        self,
        network: "PeerNetwork",
        neighbour: Neighbour[Connection],
        channel: Channel,
        connection: Connection,
    ) -> None:
        self._network = network
        self._neighbour = neighbour
        self._channel = channel
        self._connection = connection
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def on_frames(self, frames: list[Frame]) -> None:
        messages: list[PeerMessage] = []
        try:
            for frame in frames:
                if frame.kind is FrameKind.PEER:
                    messages.append(decode_message(frame.head, frame.tail))
                else:
                    self._network.other_frame(self._neighbour, self._connection, frame)
        finally:
            if messages:
                self._neighbour.silence.unanswered = 0
                self._network.events.receive(self._neighbour.peer, messages)

    def on_close(self, reason: DEngineError | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self._network.closed(self._neighbour, self._channel, self._connection, reason)


class PeerNetwork:
    """Make and use on the loop's thread. Give `accept` to the listener."""

    def __init__(self, identity: Identity, events: PeerEvents, random_bits: Callable[[int], int]) -> None:
        self.events = events
        self._identity = identity
        self._random_bits = random_bits
        self._loop = asyncio.get_running_loop()
        self._peering: Peering[Connection] = Peering(self)
        self._dialers: dict[NodeId, list[asyncio.Task[None]]] = {}
        self._complaints: dict[NodeId, str] = {}
        self._closed = False
        self._last_message: PeerMessage | None = None
        self._last_parts: Sequence[bytes] = ()

    # --- the port ------------------------------------------------------------------------------------------------

    def send(self, to: NodeId, channel: Channel, message: PeerMessage) -> None:
        """Queue a message, if there is a way and room."""
        neighbour = self._peering.neighbours.get(to)
        connection = neighbour.paths.get(channel) if neighbour is not None else None
        if neighbour is None or connection is None:
            return
        if message is not self._last_message:  # the same heartbeat goes to everybody
            head, tail = encode_message(message)
            self._last_parts = encode_frame(FrameKind.PEER, head, tail)
            self._last_message = message
        connection.send(self._last_parts)
        if channel is Channel.CONTROL and neighbour.silence.sent(monotonic_ns()):
            self._peering.give_up(neighbour, SILENT)

    def set_peers(self, peers: dict[NodeId, str]) -> None:
        """Keep connections to these, and to nobody else. Who has no address must dial us."""
        self._peering.set_peers(peers)

    def disconnect(self, peer: NodeId) -> None:
        """Drop the member's connections and what is queued on them; dialling goes on."""
        if neighbour := self._peering.neighbours.get(peer):
            self._peering.give_up(neighbour, "the replica asked for it")

    # --- for the owner -------------------------------------------------------------------------------------------

    def accept(self, connection: Connection, hello: Hello) -> Refusal | None:
        """A member dialled us, and was admitted."""
        own = self._identity.hello(hello.channel)
        if hello.node_id in (0, own.node_id):
            return Refusal(
                IdentityError.code, f"node {own.node_id} takes no connection from a node {hello.node_id}"
            )
        greet(connection, own)
        self._establish(self._peering.neighbour(hello.node_id), hello, connection, dialled=False)
        return None

    def close(self) -> None:
        """Drop everything; tell nobody."""
        self._closed = True
        self.set_peers({})

    def connected_to(self, peer: NodeId, channel: Channel = Channel.DATA) -> bool:
        """Whether there is a way to send."""
        neighbour = self._peering.neighbours.get(peer)
        return neighbour is not None and channel in neighbour.paths

    def queued_bytes(self, peer: NodeId) -> int:
        """What waits to be written, over all connections with the member."""
        neighbour = self._peering.neighbours.get(peer)
        return sum(connection.queued_bytes for connection in neighbour.connections()) if neighbour else 0

    # --- for the peering: see `Connector` ------------------------------------------------------------------------

    def keep_dialled(self, neighbour: Neighbour[Connection], channel: Channel) -> None:
        task = self._loop.create_task(self._keep_dialled(neighbour, channel))
        self._dialers.setdefault(neighbour.peer, []).append(task)

    def stop_dialling(self, neighbour: Neighbour[Connection]) -> None:
        for task in self._dialers.pop(neighbour.peer, ()):
            task.cancel()
        self._complaints.pop(neighbour.peer, None)

    def abort(self, connection: Connection, why: str) -> None:
        connection.abort(UnavailableError(f"the connection with {connection.remote} was dropped: {why}"))

    def reachable(self, peer: NodeId, reachable: bool) -> None:
        if reachable:
            self._complaints.pop(peer, None)
        event = self.events.connected if reachable else self.events.lost

        # Never from within a call of the replica's, and all through one queue, so that they stay in order.
        def tell() -> None:
            if not self._closed:
                event(peer)

        self._loop.call_soon(tell)

    def note(self, peer: NodeId, what: str) -> None:
        _log.info("node %d: %s", peer, what)

    # --- for the connections -------------------------------------------------------------------------------------

    def other_frame(self, neighbour: Neighbour[Connection], connection: Connection, frame: Frame) -> None:
        """Only a refusal may still come: the side that dialled did not like our hello."""
        greeting = decode_greeting(frame.head) if frame.kind is FrameKind.HELLO else None
        if not isinstance(greeting, Refusal):
            raise MalformedError(f"node {neighbour.peer} sent a {frame.kind.name.lower()} frame")
        self._refused(neighbour, greeting)
        connection.abort()

    def closed(
        self,
        neighbour: Neighbour[Connection],
        channel: Channel,
        connection: Connection,
        reason: DEngineError | None,
    ) -> None:
        """The connection is closed, by whomever."""
        self._peering.ended(neighbour, channel, connection, str(reason or "closed"))

    # --- inside --------------------------------------------------------------------------------------------------

    def _establish(
        self, neighbour: Neighbour[Connection], hello: Hello, connection: Connection, *, dialled: bool
    ) -> "asyncio.Future[None]":
        handler = _PeerHandler(self, neighbour, hello.channel, connection)
        connection.establish(handler, SEND_LIMITS[hello.channel], lossy=True)
        self._peering.add(neighbour, hello, connection, dialled=dialled)
        return handler.closed

    def _refused(self, neighbour: Neighbour[Connection], refusal: Refusal) -> None:
        self._complain(neighbour, f"it refuses us: {refusal.text} ({refusal.code})")
        self.events.refused(neighbour.peer, refusal)

    def _complain(self, neighbour: Neighbour[Connection], text: str) -> None:
        """Once, until something else is wrong or all is well."""
        peer = neighbour.peer
        if text != self._complaints.get(peer):
            self._complaints[peer] = text
            _log.warning("node %d at %s: %s", peer, neighbour.address or "an unknown address", text)

    def _admit_answer(
        self, neighbour: Neighbour[Connection], channel: Channel, hello: Hello
    ) -> Refusal | None:
        if hello.node_id != neighbour.peer or hello.channel is not channel:
            return Refusal(
                UnavailableError.code,
                f"node {hello.node_id} answers where node {neighbour.peer} is expected",
            )
        return self._identity.admit(hello, neighbour.address)

    async def _keep_dialled(self, neighbour: Neighbour[Connection], channel: Channel) -> None:
        backoff = Backoff()
        closed: asyncio.Future[None] | None = None

        def established(connection: Connection, hello: Hello) -> None:
            nonlocal closed
            closed = self._establish(neighbour, hello, connection, dialled=True)

        while True:
            began, lasted = monotonic_ns(), 0
            try:
                outcome = await dial(
                    neighbour.address,
                    self._identity.hello(channel),
                    lambda hello: self._admit_answer(neighbour, channel, hello),
                    established,
                )
            except (UnavailableError, ProtocolError, IdentityError, ConfigError) as error:
                self._complain(neighbour, str(error))
            else:
                if isinstance(outcome, Refusal):
                    self._refused(neighbour, outcome)
                elif closed is not None:
                    await closed
                    lasted = monotonic_ns() - began
            await asyncio.sleep(backoff.pause(lasted, self._random_bits(JITTER_BITS)) / SECOND)
