"""Directed links: order, loss, doubling, cuts, and connections whose receiver died (scenario 35)."""

from random import Random
from typing import cast

import pytest

from d_engine.format.hello import Channel
from d_engine.format.messages import Heartbeat, PeerMessage
from d_engine.replica.peering import SEND_LIMITS
from d_engine.testing.sim.events import MILLISECOND, SECOND, EventQueue
from d_engine.testing.sim.links import SMALL_MESSAGE_BYTES, End, Quality
from d_engine.testing.sim.network import SimNetwork
from d_engine.testing.sim.trace import Trace
from d_engine.testing.sim.wires import NetworkSettings, Wires

WAY = (1, 2)


class Room:
    """One link, and what came out of it. Nobody owns the connections."""

    def __init__(self, quality: Quality, stream: bool) -> None:
        self.events = EventQueue()
        self.trace = Trace()
        self.came: list[int] = []
        settings = NetworkSettings(stream=stream, encoded=0.5)
        self.strays: list[End] = []
        self.wires = Wires(self.events, Random(1), self.trace, settings, self.arrived, self.strays.append)
        self.wires.add(*WAY, quality)
        self.end = self.connect()

    def connect(self) -> End:
        link, nobody = self.wires.link(*WAY), cast(SimNetwork, None)
        end, other = (
            End(nobody, node, Channel.CONTROL, link, SEND_LIMITS[Channel.CONTROL]) for node in reversed(WAY)
        )
        end.other, other.other = other, end
        return end

    def arrived(self, end: End, message: PeerMessage) -> None:
        assert isinstance(message, Heartbeat)
        self.came.append(message.round)

    def send(self, first: int, end: int) -> None:
        for number in range(first, end):
            self.wires.send(self.end, Heartbeat(1, number, 0, 0), 0)

    def wait(self) -> list[int]:
        self.events.run(self.events.now + 100 * SECOND, 10**6)
        return self.came


def test_a_stream_keeps_order_and_loses_nothing() -> None:
    room = Room(Quality(jitter=5 * MILLISECOND, loss=0.3, duplicate=0.5, reorder=0.5), stream=True)
    room.send(0, 200)
    assert room.wait() == list(range(200))


@pytest.mark.parametrize("stream", [True, False])
def test_who_sends_to_a_closed_end_is_told(stream: bool) -> None:
    """A kernel answers with a reset what belongs to no connection that it knows."""
    room = Room(Quality(), stream)
    room.end.other.open = False
    room.send(0, 1)
    room.wait()
    assert room.strays == [room.end]


def test_bare_links_lose_double_and_mix() -> None:
    room = Room(Quality(loss=0.2, duplicate=0.3, reorder=0.5), stream=False)
    room.send(0, 200)
    came = room.wait()
    assert 100 < len(set(came)) < 190
    assert len(came) > len(set(came))
    assert came != sorted(came)


@pytest.mark.parametrize("stream", [True, False])
def test_a_cut_holds_back_or_loses(stream: bool) -> None:
    room = Room(Quality(), stream)
    room.wires.link(*WAY).cuts = 1
    room.send(0, 5)
    assert room.wait() == []
    room.wires.link(*WAY).cuts = 0
    room.wires.release(*WAY)
    assert room.wait() == (list(range(5)) if stream else [])


def test_a_clogged_link_gives_all_at_once() -> None:
    room = Room(Quality(), stream=False)
    room.wires.clog(*WAY)
    room.send(0, 5)
    assert room.wait() == []
    room.wires.unclog(*WAY)
    assert sorted(room.wait()) == list(range(5))


def test_a_narrow_link_takes_its_time() -> None:
    room = Room(Quality(bytes_per_second=64), stream=True)
    room.send(0, 10)
    room.events.run(5 * SECOND + SECOND // 2, 10**6)
    assert len(room.came) == 5


@pytest.mark.parametrize("stream", [True, False])
def test_who_closes_takes_nothing_back(stream: bool) -> None:
    """What has left arrives, and then the news that the connection is closed."""
    room = Room(Quality(latency=MILLISECOND, jitter=MILLISECOND), stream)
    room.send(0, 50)
    room.end.open = False
    room.wires.carry(room.end, lambda: room.came.append(-1))
    room.send(50, 60)
    assert room.wait() == [*range(50), -1]


def test_news_wait_for_a_way() -> None:
    room = Room(Quality(loss=0.9), stream=False)
    room.wires.link(*WAY).cuts = 1
    room.wires.carry(room.end, room.came.append, 1)
    assert room.wait() == []
    room.wires.link(*WAY).cuts = 0
    room.wires.release(*WAY)
    room.wires.clog(*WAY)
    assert room.wait() == []
    room.wires.unclog(*WAY)
    assert room.wait() == [1]


def test_late_messages_of_an_earlier_connection() -> None:
    """They may reach the process that they were sent to, never its successor: that may be on another disk."""
    room = Room(Quality(), stream=False)
    room.send(0, 50)
    room.end.other.open = False
    late = len(room.wait())
    assert 0 < late < 50
    room.end = room.connect()
    room.send(50, 100)
    room.end.other.open, room.end.other.dropped = False, True
    assert len(room.wait()) == late
    room = Room(Quality(), stream=True)
    room.send(0, 50)
    room.end.other.open = False
    assert not room.wait()


def test_a_full_queue_drops_what_is_new() -> None:
    """By the limits of the production: 256 KiB for control."""
    room = Room(Quality(), stream=True)
    room.wires.clog(*WAY)
    room.send(0, 5000)
    room.wires.unclog(*WAY)
    fit = SEND_LIMITS[Channel.CONTROL] // SMALL_MESSAGE_BYTES
    assert room.wait() == list(range(fit))
    assert room.trace.counters["net: queue full"] == 5000 - fit
    room.send(0, 1)
    assert len(room.wait()) == fit + 1
