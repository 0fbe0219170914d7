"""Directed links: how long a message takes from one machine to another, and whether it comes at all.

A link is either *stream-like*, as TCP makes it (in order, nothing lost while the connection lasts; what the network
loses only comes later), or *bare*: messages are lost, doubled and overtake each other. Consensus must be safe on both.
"""

from dataclasses import dataclass, field
from random import Random

from d_engine.format.hello import Channel
from d_engine.format.ids import Nanoseconds
from d_engine.format.messages import AppendRequest, Forward, PeerMessage, SnapshotChunk
from d_engine.testing.sim.events import MICROSECOND, MILLISECOND, SECOND

RETRANSMISSION: Nanoseconds = 200 * MILLISECOND
SMALL_MESSAGE_BYTES = 64


@dataclass(slots=True)
class Quality:
    """Latencies and chances. `bytes_per_second` 0 is: no limit."""

    latency: Nanoseconds = 200 * MICROSECOND
    jitter: Nanoseconds = 50 * MICROSECOND
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    bytes_per_second: int = 0


@dataclass(slots=True)
class Link:
    """From one node to another. `cuts` counts the faults that cut it, `epoch` the connections that it has carried; what
    an epoch before `living_since` carried was meant for a process that is dead."""

    quality: Quality
    cuts: int = 0
    clogs: int = 0
    epoch: int = 0
    living_since: int = 0
    ready: dict[Channel, Nanoseconds] = field(default_factory=dict)
    queued: dict[Channel, int] = field(default_factory=dict)
    held: list[tuple[Channel, PeerMessage, int]] = field(default_factory=list)
    """What waits for a cut or clogged link to open again."""

    @property
    def blocked(self) -> bool:
        """Nothing gets through now."""
        return self.cuts > 0 or self.clogs > 0

    def reset(self) -> None:
        """Another connection; what was under way is lost."""
        self.epoch += 1
        self.ready.clear()
        self.queued.clear()
        self.held.clear()

    def receiver_died(self) -> None:
        """What was under way will never be read."""
        self.reset()
        self.living_since = self.epoch

    def delay(self, rng: Random, stream: bool) -> Nanoseconds:
        """How long this message takes, by its own; -1 if it is lost."""
        quality = self.quality
        delay = quality.latency + int(quality.jitter * rng.expovariate(1.0))
        while quality.loss and rng.random() < quality.loss:
            if not stream:
                return -1
            delay += RETRANSMISSION
        return delay

    def arrival(
        self, now: Nanoseconds, delay: Nanoseconds, channel: Channel, size: int, in_order: bool
    ) -> Nanoseconds:
        """When it arrives, behind what was sent before if order is kept, and with its share of the bandwidth."""
        time = now + delay
        if in_order or self.quality.bytes_per_second:
            before = self.ready.get(channel, 0)
            if self.quality.bytes_per_second:
                before += size * SECOND // self.quality.bytes_per_second
            if before > time:
                time = before
            self.ready[channel] = time
        return time


def size_of(message: PeerMessage) -> int:
    """About as many bytes as the message takes."""
    if isinstance(message, AppendRequest):
        return SMALL_MESSAGE_BYTES + sum([len(entry.data) for entry in message.entries])
    if isinstance(message, SnapshotChunk):
        return SMALL_MESSAGE_BYTES + len(message.data)
    if isinstance(message, Forward):
        return SMALL_MESSAGE_BYTES + sum(map(len, message.groups))
    return SMALL_MESSAGE_BYTES
