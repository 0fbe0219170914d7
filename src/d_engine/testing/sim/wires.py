"""The wires between all nodes: what becomes of a message that was sent over a standing connection."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from random import Random
from typing import TypeAlias

import msgspec

from d_engine.format.hello import Channel
from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.format.messages import PeerMessage, SnapshotChunk, decode_message, encode_message
from d_engine.testing.sim.events import MILLISECOND, EventQueue
from d_engine.testing.sim.links import Link, Quality, size_of
from d_engine.testing.sim.trace import Trace

Way: TypeAlias = tuple[NodeId, NodeId]
"""From whom to whom."""


@dataclass(slots=True)
class NetworkSettings:
    """What is drawn once for a run. `encoded` is the share of messages that travel as bytes, the rest as objects."""

    stream: bool = True
    encoded: float = 0.1
    notice_after: Nanoseconds = 1500 * MILLISECOND
    dial_pause: Nanoseconds = 50 * MILLISECOND
    queue_bytes: int = 16 * 1024 * 1024


class Wires:
    """All directed links. `arrived(source, to, message)` is called at the end of the way."""

    def __init__(
        self,
        events: EventQueue,
        rng: Random,
        trace: Trace,
        settings: NetworkSettings,
        arrived: Callable[[NodeId, NodeId, PeerMessage], None],
    ) -> None:
        self.settings = settings
        self._events = events
        self._rng = rng
        self._trace = trace
        self._arrived = arrived
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

    def send(self, way: Way, channel: Channel, message: PeerMessage, skew: Nanoseconds) -> None:
        """A connection stands. `skew` is how much later than now the message really leaves."""
        link = self._links[way]
        size = size_of(message)
        queued = link.queued.get(channel, 0) + size
        if queued > self.settings.queue_bytes and queued > size:
            self._trace.count("net: queue full")
            return
        link.queued[channel] = queued
        if link.blocked:
            self._hold(link, channel, message, size)
        else:
            self._post(way, channel, message, size, skew)

    def _hold(self, link: Link, channel: Channel, message: PeerMessage, size: int) -> None:
        if self.settings.stream or not link.cuts:
            link.held.append((channel, message, size))
        else:
            link.queued[channel] -= size
            self._trace.counters["net: message lost"] += 1

    def _post(self, way: Way, channel: Channel, message: PeerMessage, size: int, skew: Nanoseconds) -> None:
        rng, stream, link = self._rng, self.settings.stream, self._links[way]
        quality = link.quality
        delay = link.delay(rng, stream)
        if delay < 0:
            link.queued[channel] -= size
            self._trace.counters["net: message lost"] += 1
            return
        in_order = stream or not quality.reorder or rng.random() >= quality.reorder
        if not in_order:
            self._trace.counters["net: message out of order"] += 1
            delay += int(rng.random() * 20 * quality.latency)
        arrival = link.arrival(self._events.now + skew, delay, channel, size, in_order)
        self._events.at(arrival, self._arrive, way, channel, message, size, link.epoch)
        if not stream and quality.duplicate and rng.random() < quality.duplicate:
            self._trace.counters["net: message doubled"] += 1
            again = arrival + int(rng.random() * 50 * quality.latency)
            self._events.at(again, self._arrive, way, channel, message, 0, link.epoch)

    def _arrive(self, way: Way, channel: Channel, message: PeerMessage, size: int, epoch: int) -> None:
        link = self._links[way]
        if epoch != link.epoch:
            # Two connections have no order between them: what was sent on the old one may come late, to the same
            # process.
            gone = self.settings.stream or epoch < link.living_since
            if gone or link.blocked or self._rng.random() < 0.5:
                return
            self._trace.counters["net: message of an earlier connection"] += 1
        else:
            if link.blocked:
                self._hold(link, channel, message, size)
                return
            link.queued[channel] -= size
        if self._rng.random() < self.settings.encoded:
            head, tail = encode_message(message)
            message = decode_message(head, b"".join(tail))
        if self.to_spoil and isinstance(message, SnapshotChunk) and message.data:
            message = self._spoil(message)
        self._arrived(*way, message)

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
            for channel, message, size in held:
                self._post((source, to), channel, message, size, 0)

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
