"""Directed links: how long a message takes from one machine to another, and whether it comes at all; and the ends of
the connections over them.

A link is either *stream-like*, as TCP makes it (in order, nothing lost while the connection lasts; what the network
loses only comes later), or *bare*: messages are lost, doubled and overtake each other. Consensus must be safe on both.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from d_engine.format.hello import Channel
from d_engine.format.ids import Nanoseconds, NodeId
from d_engine.format.messages import AppendRequest, Forward, PeerMessage, SnapshotChunk
from d_engine.testing.sim.events import MICROSECOND, MILLISECOND, SECOND

if TYPE_CHECKING:
    from d_engine.replica.peering import Neighbour
    from d_engine.testing.sim.network import Dialer, SimNetwork

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
    """From one node to another. `cuts` counts the faults that cut it."""

    quality: Quality
    cuts: int = 0
    clogs: int = 0
    held: list[tuple[Callable[..., None], tuple[object, ...]]] = field(default_factory=list)
    """What waits for a cut or clogged link to open again, in calls."""

    @property
    def blocked(self) -> bool:
        """Nothing gets through now."""
        return self.cuts > 0 or self.clogs > 0

    def delay(self, rng: Random, stream: bool) -> Nanoseconds:
        """How long this message takes, by its own; -1 if it is lost."""
        quality = self.quality
        delay = quality.latency + int(quality.jitter * rng.expovariate(1.0))
        while quality.loss and rng.random() < quality.loss:
            if not stream:
                return -1
            delay += RETRANSMISSION
        return delay


@dataclass(slots=True, eq=False)
class End:
    """One side of a connection. What is sent from there goes over `link`, at most `limit` bytes at a time. It is `open`
    as long as its kernel knows nothing else, and `over` when its process has learned of that. Nobody reads any more
    from a `dropped` one: its process is dead, or closed it itself."""

    owner: "SimNetwork"
    peer: NodeId
    channel: Channel
    link: Link
    limit: int
    other: "End" = field(init=False)
    neighbour: "Neighbour[End] | None" = None
    """Set when the greeting is over."""
    dialer: "Dialer | None" = None
    """On the side that dialled."""
    open: bool = True
    over: bool = False
    dropped: bool = False
    queued: int = 0
    _ready: Nanoseconds = 0

    def arrival(self, now: Nanoseconds, delay: Nanoseconds, size: int, in_order: bool) -> Nanoseconds:
        """When it arrives, behind what was sent before if order is kept, and with its share of the bandwidth."""
        time = now + delay
        rate = self.link.quality.bytes_per_second
        if in_order or rate:
            before = self._ready
            if rate:
                before += size * SECOND // rate
            if before > time:
                time = before
            self._ready = time
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
