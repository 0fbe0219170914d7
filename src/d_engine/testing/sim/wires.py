"""The wires between all nodes: what becomes of what is sent over a connection."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import TypeAlias

import msgspec

from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.format.messages import PeerMessage, SnapshotChunk, decode_message, encode_message
from d_engine.runtime.connection import SILENCE_MS
from d_engine.testing.sim.events import MILLISECOND, EventQueue
from d_engine.testing.sim.links import End, Link, Quality, size_of
from d_engine.testing.sim.trace import Trace

Way: TypeAlias = tuple[NodeId, NodeId]
"""From whom to whom."""


@dataclass(slots=True)
class NetworkSettings:
    """What is drawn once for a run. `encoded` is the share of messages that travel as bytes, the rest as objects."""

    stream: bool = True
    encoded: float = 0.1
    notice_after: Nanoseconds = SILENCE_MS * MILLISECOND


class Wires:
    """All directed links. `arrived(end, message)` is called at the end of the way, with the end that it came to;
    `strayed(end)`, with the end that sent, when there is nobody any more."""

    def __init__(
        self,
        events: EventQueue,
        rng: Random,
        trace: Trace,
        settings: NetworkSettings,
        arrived: Callable[[End, PeerMessage], None],
        strayed: Callable[[End], None],
    ) -> None:
        self.settings = settings
        self._events = events
        self._rng = rng
        self._trace = trace
        self._arrived = arrived
        self._strayed = strayed
        self.to_spoil = 0
        """So many of the next parts of snapshots arrive with a bit flipped."""
        self._links: dict[Way, Link] = {}
        self._good: dict[Way, Quality] = {}

    def add(self, source: NodeId, to: NodeId, quality: Quality) -> None:
        """One more link."""
        self._links[source, to] = Link(quality)
        self._good[source, to] = Quality(quality.latency, quality.jitter)

    def link(self, source: NodeId, to: NodeId) -> Link:
        """The link, to be made worse or better."""
        return self._links[source, to]

    def links(self) -> list[Way]:
        """All directed links."""
        return sorted(self._links)

    def send(self, end: End, message: PeerMessage, skew: Nanoseconds) -> None:
        """To the other end, if there is room. `skew` is how much later than now the message really leaves."""
        size = size_of(message)
        queued = end.queued + size
        if queued > end.limit:
            self._trace.count("net: queue full")
        elif end.open:
            end.queued = queued
            link = end.link
            if link.cuts or link.clogs:
                self._hold(end, message, size)
            else:
                self._post(end, message, size, skew)

    def carry(self, end: End, action: Callable[..., None], *arguments: object) -> None:
        """What is not lost while there is a way: greetings, and the news that the connection is closed. The action is
        done when it arrives, in order with what was sent before."""
        link = end.link
        if link.blocked:
            link.held.append((self.carry, (end, action, *arguments)))
            return
        arrival = end.arrival(self._events.now, link.delay(self._rng, stream=True), 0, in_order=True)
        self._events.at(arrival, self._delivered, end, action, arguments)

    def _delivered(self, end: End, action: Callable[..., None], arguments: tuple[object, ...]) -> None:
        if end.link.blocked:
            self.carry(end, action, *arguments)
        else:
            action(*arguments)

    def _hold(self, end: End, message: PeerMessage, size: int) -> None:
        """It waits; on a bare link that is cut it is lost."""
        if self.settings.stream or not end.link.cuts:
            end.link.held.append((self._go_on, (end, message, size)))
        else:
            end.queued -= size
            self._trace.counters["net: message lost"] += 1

    def _go_on(self, end: End, message: PeerMessage, size: int) -> None:
        if end.other.open:
            self._post(end, message, size, 0)

    def _post(self, end: End, message: PeerMessage, size: int, skew: Nanoseconds) -> None:
        rng, stream, link = self._rng, self.settings.stream, end.link
        quality = link.quality
        delay = link.delay(rng, stream)
        if delay < 0:
            end.queued -= size
            self._trace.counters["net: message lost"] += 1
            return
        in_order = stream or not quality.reorder or rng.random() >= quality.reorder
        if not in_order:
            self._trace.counters["net: message out of order"] += 1
            delay += int(rng.random() * 20 * quality.latency)
        arrival = end.arrival(self._events.now + skew, delay, size, in_order)
        self._events.at(arrival, self._arrive, end, message, size)
        if not stream and quality.duplicate and rng.random() < quality.duplicate:
            self._trace.counters["net: message doubled"] += 1
            again = arrival + int(rng.random() * 50 * quality.latency)
            self._events.at(again, self._arrive, end, message, 0)

    def _arrive(self, end: End, message: PeerMessage, size: int) -> None:
        link, to = end.link, end.other
        if not to.open:
            self._strayed(end)
            # Two connections have no order between them: what was sent on the old one may come late, to the same
            # process.
            gone = self.settings.stream or to.dropped
            if gone or link.blocked or self._rng.random() < 0.5:
                return
            self._trace.counters["net: message of an earlier connection"] += 1
        elif link.cuts or link.clogs:
            self._hold(end, message, size)
            return
        else:
            end.queued -= size
        if self._rng.random() < self.settings.encoded:
            head, tail = encode_message(message)
            message = decode_message(head, b"".join(tail))
        if self.to_spoil and isinstance(message, SnapshotChunk) and message.data:
            message = self._spoil(message)
        self._arrived(to, message)

    def _spoil(self, chunk: SnapshotChunk) -> SnapshotChunk:
        self.to_spoil -= 1
        self._trace.count("net: part of a snapshot spoiled")
        data = bytearray(chunk.data)
        data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)
        return msgspec.structs.replace(chunk, data=bytes(data))

    def release(self, source: NodeId, to: NodeId) -> None:
        """If the link is open again, what waited for that goes on its way."""
        link = self._links[source, to]
        if not link.blocked:
            held, link.held = link.held, []
            for call, arguments in held:
                call(*arguments)

    def clog(self, source: NodeId, to: NodeId) -> None:
        """Messages wait; the connection does not break."""
        self._links[source, to].clogs += 1

    def unclog(self, source: NodeId, to: NodeId) -> None:
        """The opposite of one `clog`."""
        self._links[source, to].clogs -= 1
        self.release(source, to)

    def heal(self) -> None:
        """All links are good."""
        for (source, to), link in self._links.items():
            link.cuts = link.clogs = self.to_spoil = 0
            link.quality = replace(self._good[source, to])
            self.release(source, to)
