"""The replica's `Network` port: connections with the other members.

Each member dials every other one, with one connection for control (heartbeats, votes, read rounds) and one for data,
so that a heartbeat never queues behind entries. A connection carries messages in both directions. So there may be two
for one channel, one dialled from either side; a node sends on one of them, its *path*, and stays with it until it
breaks: that keeps messages in order while a path lasts, needs no agreement about who dials, and lets two members talk
where only one can reach the other, or where one does not know the other's address yet.

What is sent is best effort. A queue that is full drops what is new; a path that breaks loses what was queued. The
replica is told when a member's data path comes and goes, and sends again.

Silence: TCP finds a peer that vanished (see `d_engine.runtime.connection`), but not a box in between that swallows
everything. Control messages, heartbeats above all, are answered within milliseconds; when several went out and for
`SILENCE_SECONDS` nothing at all came back, the member's connections are given up and dialled anew.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

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
from d_engine.format.ids import Incarnation, NodeId
from d_engine.format.messages import PeerMessage, decode_message, encode_message
from d_engine.runtime.connection import Connection
from d_engine.runtime.greeting import Identity, dial, greet

CONTROL_LIMIT_BYTES = 256 * 1024
DATA_LIMIT_BYTES = 16 * 1024 * 1024
_SEND_LIMITS = {Channel.CONTROL: CONTROL_LIMIT_BYTES, Channel.DATA: DATA_LIMIT_BYTES}
BACKOFF_SECONDS = 0.05
BACKOFF_CAP_SECONDS = 1.0
STABLE_SECONDS = 1.0
"""A connection that lasted so long was good: dialling starts with the shortest pause again."""
SILENCE_SECONDS = 3.0
SILENCE_MESSAGES = 8
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PeerEvents:
    """What the replica is told, always from the loop, never from within a call of its own. Of each member `connected`
    and `lost` alternate. `refused` is a refusal that came from there; dialling goes on."""

    receive: Callable[[NodeId, list[PeerMessage]], None]
    connected: Callable[[NodeId], None]
    lost: Callable[[NodeId], None]
    refused: Callable[[NodeId, Refusal], None]


@dataclass(slots=True, eq=False)
class _Link:
    """Everything about one member."""

    peer: NodeId
    address: str = ""
    incarnation: Incarnation = 0
    dialled: dict[Channel, Connection] = field(default_factory=dict)
    accepted: dict[Channel, Connection] = field(default_factory=dict)
    paths: dict[Channel, Connection] = field(default_factory=dict)
    dialers: list[asyncio.Task[None]] = field(default_factory=list)
    unanswered: int = 0
    silent_since: float = 0.0
    complaint: str = ""

    def connections(self) -> list[Connection]:
        return [*self.dialled.values(), *self.accepted.values()]


class _PeerHandler:
    """One established connection: its frames are this member's messages, whatever they claim."""

    def __init__(self, network: "PeerNetwork", link: _Link, channel: Channel, connection: Connection) -> None:
        self._network = network
        self._link = link
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
                    self._network.other_frame(self._link, self._connection, frame)
        finally:
            if messages:
                self._link.unanswered = 0
                self._network.events.receive(self._link.peer, messages)

    def on_close(self, reason: DEngineError | None) -> None:
        if not self.closed.done():
            self.closed.set_result(None)
        self._network.detach(self._link, self._channel, self._connection, reason)


class PeerNetwork:
    """Make and use on the loop's thread. Give `accept` to the listener."""

    def __init__(self, identity: Identity, events: PeerEvents, random_bits: Callable[[int], int]) -> None:
        self.events = events
        self._identity = identity
        self._random_bits = random_bits
        self._loop = asyncio.get_running_loop()
        self._links: dict[NodeId, _Link] = {}
        self._closed = False
        self._last_message: PeerMessage | None = None
        self._last_parts: Sequence[bytes] = ()

    # --- the port ------------------------------------------------------------------------------------------------

    def send(self, to: NodeId, channel: Channel, message: PeerMessage) -> None:
        """Queue a message, if there is a way and room."""
        link = self._links.get(to)
        connection = link.paths.get(channel) if link is not None else None
        if link is None or connection is None:
            return
        if message is not self._last_message:  # the same heartbeat goes to everybody
            head, tail = encode_message(message)
            self._last_parts = encode_frame(FrameKind.PEER, head, tail)
            self._last_message = message
        connection.send(self._last_parts)
        if channel is Channel.CONTROL:
            self._note_unanswered(link)

    def set_peers(self, peers: dict[NodeId, str]) -> None:
        """Keep connections to these, and to nobody else. Who has no address must dial us."""
        for link in list(self._links.values()):
            if link.peer not in peers:
                self._stop_dialling(link)
                self._give_up(link, "it is not a peer any more")
                del self._links[link.peer]
        for peer, address in peers.items():
            link = self._links.setdefault(peer, _Link(peer))
            if link.address != address:
                self._stop_dialling(link)
                for channel, connection in list(link.dialled.items()):
                    self.detach(link, channel, connection, None)
                    connection.abort()
                link.address = address
                if address:
                    for channel in _SEND_LIMITS:
                        link.dialers.append(self._loop.create_task(self._keep_dialled(link, channel)))

    def disconnect(self, peer: NodeId) -> None:
        """Drop the member's connections and what is queued on them; dialling goes on."""
        if link := self._links.get(peer):
            self._give_up(link, "the replica asked for it")

    # --- for the owner -------------------------------------------------------------------------------------------

    def accept(self, connection: Connection, hello: Hello) -> Refusal | None:
        """A member dialled us, and was admitted. Its newest connection replaces the one before."""
        own = self._identity.hello(hello.channel)
        if hello.node_id in (0, own.node_id):
            return Refusal(
                IdentityError.code, f"node {own.node_id} takes no connection from a node {hello.node_id}"
            )
        link = self._links.setdefault(hello.node_id, _Link(hello.node_id))
        if previous := link.accepted.get(hello.channel):
            self.detach(link, hello.channel, previous, None)
            previous.abort()
        greet(connection, own)
        self._attach(link, hello, connection, link.accepted)
        return None

    def close(self) -> None:
        """Drop everything; tell nobody."""
        self._closed = True
        self.set_peers({})

    def connected_to(self, peer: NodeId, channel: Channel = Channel.DATA) -> bool:
        """Whether there is a way to send."""
        link = self._links.get(peer)
        return link is not None and channel in link.paths

    def queued_bytes(self, peer: NodeId) -> int:
        """What waits to be written, over all connections with the member."""
        link = self._links.get(peer)
        return sum(connection.queued_bytes for connection in link.connections()) if link else 0

    # --- for the connections -------------------------------------------------------------------------------------

    def other_frame(self, link: _Link, connection: Connection, frame: Frame) -> None:
        """Only a refusal may still come: the side that dialled did not like our hello."""
        greeting = decode_greeting(frame.head) if frame.kind is FrameKind.HELLO else None
        if not isinstance(greeting, Refusal):
            raise MalformedError(f"node {link.peer} sent a {frame.kind.name.lower()} frame")
        self._refused(link, greeting)
        connection.abort()

    def detach(
        self, link: _Link, channel: Channel, connection: Connection, reason: DEngineError | None
    ) -> None:
        """The connection is gone or about to be. Harmless when repeated."""
        for connections in (link.dialled, link.accepted):
            if connections.get(channel) is connection:
                del connections[channel]
        if link.paths.get(channel) is not connection:
            return
        del link.paths[channel]
        _log.info(
            "node %d: the %s connection is lost: %s", link.peer, channel.name.lower(), reason or "closed"
        )
        if channel is Channel.DATA:
            self._tell(self.events.lost, link.peer)
        if other := link.dialled.get(channel) or link.accepted.get(channel):
            self._take_path(link, channel, other)

    # --- inside --------------------------------------------------------------------------------------------------

    def _attach(
        self, link: _Link, hello: Hello, connection: Connection, group: dict[Channel, Connection]
    ) -> "asyncio.Future[None]":
        channel = hello.channel
        if link.incarnation != hello.incarnation:
            # The replica goes by whoever was admitted last: nobody else may speak under this number beside it.
            self._give_up(link, "another data directory has its number")
            link.incarnation = hello.incarnation
        handler = _PeerHandler(self, link, channel, connection)
        connection.establish(handler, _SEND_LIMITS[channel], lossy=True)
        group[channel] = connection
        if channel not in link.paths:
            self._take_path(link, channel, connection)
        return handler.closed

    def _take_path(self, link: _Link, channel: Channel, connection: Connection) -> None:
        link.paths[channel] = connection
        link.unanswered = 0
        link.complaint = ""
        _log.info("node %d: connected for %s", link.peer, channel.name.lower())
        if channel is Channel.DATA:
            self._tell(self.events.connected, link.peer)

    def _tell(self, event: Callable[[NodeId], None], peer: NodeId) -> None:
        # Never from within a call of the replica's, and all through one queue, so that they stay in order.
        def tell() -> None:
            if not self._closed:
                event(peer)

        self._loop.call_soon(tell)

    def _give_up(self, link: _Link, why: str) -> None:
        reason = UnavailableError(f"the connections with node {link.peer} were dropped: {why}")
        gone = [*link.dialled.items(), *link.accepted.items()]
        link.dialled.clear()
        link.accepted.clear()
        for channel, connection in gone:
            self.detach(link, channel, connection, reason)
            connection.abort(reason)
        link.unanswered = 0

    def _note_unanswered(self, link: _Link) -> None:
        link.unanswered += 1
        now = self._loop.time()
        if link.unanswered == 1:
            link.silent_since = now
        elif link.unanswered > SILENCE_MESSAGES and now - link.silent_since > SILENCE_SECONDS:
            self._give_up(link, f"it has answered nothing for {SILENCE_SECONDS:g} s")

    def _refused(self, link: _Link, refusal: Refusal) -> None:
        self._complain(link, f"it refuses us: {refusal.text} ({refusal.code})")
        self.events.refused(link.peer, refusal)

    def _complain(self, link: _Link, text: str) -> None:
        """Once, until something else is wrong or all is well."""
        if text != link.complaint:
            link.complaint = text
            _log.warning("node %d at %s: %s", link.peer, link.address or "an unknown address", text)

    def _stop_dialling(self, link: _Link) -> None:
        for task in link.dialers:
            task.cancel()
        link.dialers.clear()

    def _admit_answer(self, link: _Link, channel: Channel, hello: Hello) -> Refusal | None:
        if hello.node_id != link.peer or hello.channel is not channel:
            return Refusal(
                UnavailableError.code, f"node {hello.node_id} answers where node {link.peer} is expected"
            )
        return self._identity.admit(hello, link.address)

    async def _keep_dialled(self, link: _Link, channel: Channel) -> None:
        pause = BACKOFF_SECONDS
        closed: asyncio.Future[None] | None = None

        def established(connection: Connection, hello: Hello) -> None:
            nonlocal closed
            closed = self._attach(link, hello, connection, link.dialled)

        while True:
            started = self._loop.time()
            try:
                outcome = await dial(
                    link.address,
                    self._identity.hello(channel),
                    lambda hello: self._admit_answer(link, channel, hello),
                    established,
                )
            except (UnavailableError, ProtocolError, IdentityError, ConfigError) as error:
                self._complain(link, str(error))
            else:
                if isinstance(outcome, Refusal):
                    self._refused(link, outcome)
                elif closed is not None:
                    await closed
                    if self._loop.time() - started > STABLE_SECONDS:
                        pause = BACKOFF_SECONDS
            await asyncio.sleep(pause * (0.5 + self._random_bits(16) / 131072))
            pause = min(2 * pause, BACKOFF_CAP_SECONDS)
