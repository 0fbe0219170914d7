"""How a node keeps its connections with the other members: all that is decided there, and nothing that is done.

Each member dials every other one, with one connection for control (heartbeats, votes, read rounds) and one for data,
so that a heartbeat never queues behind entries. A connection carries messages in both directions. So there may be two
for one channel, one dialled from either side; a node sends on one of them, its *path*, and stays with it until it
breaks: that keeps messages in order while a path lasts, needs no agreement about who dials, and lets two members talk
where only one can reach the other, or where one does not know the other's address yet.

What is sent is best effort: what exceeds a connection's limit is dropped, and a path that breaks loses what was queued.
The replica is told when a member's data path comes and goes, and sends again.

Silence: control messages, heartbeats above all, are answered within milliseconds. When several went out and for
`SILENCE` nothing at all came back, the member's connections are given up and dialled anew, though the kernel finds
nothing wrong with them: something on the way may swallow everything.

`d_engine.runtime.peers` does what is decided here with sockets, the simulator with connections of its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from d_engine.format.hello import Channel, Hello
from d_engine.format.ids import Incarnation, Nanoseconds, NodeId
from d_engine.replica.settings import MILLISECOND, SECOND

SEND_LIMITS: Mapping[Channel, int] = {Channel.CONTROL: 256 * 1024, Channel.DATA: 16 * 1024 * 1024}
"""Bytes that may wait on a connection; a message that would exceed them is dropped."""
FIRST_PAUSE: Nanoseconds = 50 * MILLISECOND
LONGEST_PAUSE: Nanoseconds = SECOND
STABLE: Nanoseconds = SECOND
"""A connection that lasted so long was good: dialling starts with the shortest pause again."""
SILENCE: Nanoseconds = 3 * SECOND
SILENCE_MESSAGES = 8
SILENT = f"it has answered nothing for {SILENCE / SECOND:g} s"
JITTER_BITS = 16

_C = TypeVar("_C")


class Backoff:
    """The pauses of who dials one address. Each is drawn between half of its length and the whole, and the next one is
    twice as long:

    >>> backoff = Backoff()
    >>> backoff.pause(lasted=0, random_bits=0) / MILLISECOND
    25.0
    >>> backoff.pause(lasted=0, random_bits=0) / MILLISECOND
    50.0
    """

    __slots__ = ("_longest",)

    def __init__(self) -> None:
        self._longest = FIRST_PAUSE

    def pause(self, lasted: Nanoseconds, random_bits: int) -> Nanoseconds:
        """How long to wait before the next attempt. `lasted` is how long ago the last one began if it came to a
        connection, else 0; `random_bits` are `JITTER_BITS`."""
        if lasted > STABLE:
            self._longest = FIRST_PAUSE
        longest = self._longest
        self._longest = min(2 * longest, LONGEST_PAUSE)
        return longest * ((1 << JITTER_BITS) + random_bits) >> JITTER_BITS + 1


class Silence:
    """Whether a member answers. `unanswered` counts the control messages since it was last heard: whoever hears
    anything from it, on whichever connection, sets it to 0."""

    __slots__ = ("_since", "unanswered")

    def __init__(self) -> None:
        self.unanswered = 0
        self._since: Nanoseconds = 0

    def sent(self, now: Nanoseconds) -> bool:
        """A control message has left. True if the member's connections are to be given up."""
        self.unanswered += 1
        if self.unanswered == 1:
            self._since = now
        return self.unanswered > SILENCE_MESSAGES and now - self._since > SILENCE


@dataclass(slots=True, eq=False)
class Neighbour(Generic[_C]):
    """One member, as this node's connections see it. What is sent goes along `paths`; `address` is "" if it must dial
    us. To be changed by `Peering` only."""

    peer: NodeId
    address: str = ""
    incarnation: Incarnation = 0
    dialled: dict[Channel, _C] = field(default_factory=dict)
    accepted: dict[Channel, _C] = field(default_factory=dict)
    paths: dict[Channel, _C] = field(default_factory=dict)
    silence: Silence = field(default_factory=Silence)

    def connections(self) -> list[_C]:
        """All of them."""
        return [*self.dialled.values(), *self.accepted.values()]


class Connector(Protocol[_C]):
    """Who does it. Nothing here may call back into `Peering` from within the call.

    `keep_dialled` sees to a connection to the neighbour's address for that channel, with a `Backoff` between attempts,
    until `stop_dialling`, which also ends an attempt under way. `abort` closes a connection at once. `reachable` tells
    the replica, later and in order, that the member's data path has come or gone; the two alternate. `note` is for
    logs."""

    def keep_dialled(self, neighbour: Neighbour[_C], channel: Channel) -> None: ...

    def stop_dialling(self, neighbour: Neighbour[_C]) -> None: ...

    def abort(self, connection: _C, why: str) -> None: ...

    def reachable(self, peer: NodeId, reachable: bool) -> None: ...

    def note(self, peer: NodeId, what: str) -> None: ...


class Peering(Generic[_C]):
    """All neighbours of a node. The connector says when connections are made (`add`) and when they have ended."""

    def __init__(self, connector: Connector[_C]) -> None:
        self.neighbours: dict[NodeId, Neighbour[_C]] = {}
        self._connector = connector

    def neighbour(self, peer: NodeId) -> Neighbour[_C]:
        """The one with that number, from now on known."""
        return self.neighbours.setdefault(peer, Neighbour(peer))

    def set_peers(self, peers: Mapping[NodeId, str]) -> None:
        """Keep connections to these, and to nobody else. Who has no address must dial us."""
        connector = self._connector
        for neighbour in list(self.neighbours.values()):
            if neighbour.peer not in peers:
                connector.stop_dialling(neighbour)
                self.give_up(neighbour, "it is not a peer any more")
                del self.neighbours[neighbour.peer]
        for peer, address in peers.items():
            neighbour = self.neighbour(peer)
            if neighbour.address == address:
                continue
            connector.stop_dialling(neighbour)
            for channel, connection in list(neighbour.dialled.items()):
                self._drop(neighbour, channel, connection, "its address is another one now")
            neighbour.address = address
            if address:
                for channel in SEND_LIMITS:
                    connector.keep_dialled(neighbour, channel)

    def add(self, neighbour: Neighbour[_C], hello: Hello, connection: _C, *, dialled: bool) -> None:
        """Both sides have admitted each other. A member's newest connection replaces the one before, and one with
        another incarnation all of them."""
        channel = hello.channel
        if neighbour.incarnation != hello.incarnation:
            # The replica goes by whoever was admitted last: nobody else may speak under this number beside it.
            self.give_up(neighbour, "another data directory has its number")
            neighbour.incarnation = hello.incarnation
        group = neighbour.dialled if dialled else neighbour.accepted
        if channel in group:
            self._drop(neighbour, channel, group[channel], "a newer one replaces it")
        group[channel] = connection
        if channel not in neighbour.paths:
            self._take_path(neighbour, channel, connection)

    def ended(self, neighbour: Neighbour[_C], channel: Channel, connection: _C, why: str) -> None:
        """The connection is gone or about to be. Harmless when repeated."""
        for group in (neighbour.dialled, neighbour.accepted):
            if group.get(channel) is connection:
                del group[channel]
        if neighbour.paths.get(channel) is not connection:
            return
        del neighbour.paths[channel]
        self._connector.note(neighbour.peer, f"the {channel.name.lower()} connection is lost: {why}")
        if channel is Channel.DATA:
            self._connector.reachable(neighbour.peer, False)
        other = neighbour.dialled.get(channel) or neighbour.accepted.get(channel)
        if other is not None:
            self._take_path(neighbour, channel, other)

    def give_up(self, neighbour: Neighbour[_C], why: str) -> None:
        """Drop its connections and what is queued on them; dialling goes on."""
        gone = [*neighbour.dialled.items(), *neighbour.accepted.items()]
        neighbour.dialled.clear()
        neighbour.accepted.clear()
        for channel, connection in gone:
            self._drop(neighbour, channel, connection, why)
        neighbour.silence.unanswered = 0

    def _drop(self, neighbour: Neighbour[_C], channel: Channel, connection: _C, why: str) -> None:
        self.ended(neighbour, channel, connection, why)
        self._connector.abort(connection, why)

    def _take_path(self, neighbour: Neighbour[_C], channel: Channel, connection: _C) -> None:
        neighbour.paths[channel] = connection
        neighbour.silence.unanswered = 0
        self._connector.note(neighbour.peer, f"connected for {channel.name.lower()}")
        if channel is Channel.DATA:
            self._connector.reachable(neighbour.peer, True)
