"""Directed links: order, loss, doubling, cuts, and connections whose receiver died (scenario 35)."""

from random import Random

import pytest

from d_engine.format.hello import Channel
from d_engine.format.messages import Heartbeat, PeerMessage
from d_engine.testing.sim.events import MILLISECOND, SECOND, EventQueue
from d_engine.testing.sim.links import Quality
from d_engine.testing.sim.trace import Trace
from d_engine.testing.sim.wires import NetworkSettings, Wires

WAY = (1, 2)


class Room:
    """One link, and what came out of it."""

    def __init__(self, quality: Quality, stream: bool) -> None:
        self.events = EventQueue()
        self.trace = Trace()
        self.came: list[int] = []
        settings = NetworkSettings(stream=stream, encoded=0.5)
        self.wires = Wires(self.events, Random(1), self.trace, settings, self.arrived)
        self.wires.add(*WAY, quality)

    def arrived(self, source: int, to: int, message: PeerMessage) -> None:
        assert (source, to) == WAY
        assert isinstance(message, Heartbeat)
        self.came.append(message.round)

    def send(self, first: int, end: int) -> None:
        for number in range(first, end):
            self.wires.send(WAY, Channel.CONTROL, Heartbeat(1, number, 0, 0), 0)

    def wait(self) -> list[int]:
        self.events.run(self.events.now + 100 * SECOND, 10**6)
        return self.came


def test_a_stream_keeps_order_and_loses_nothing() -> None:
    room = Room(Quality(jitter=5 * MILLISECOND, loss=0.3, duplicate=0.5, reorder=0.5), stream=True)
    room.send(0, 200)
    assert room.wait() == list(range(200))


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


def test_late_messages_of_an_earlier_connection() -> None:
    """They reach the process that they were sent to, never its successor: that may be on another disk."""
    room = Room(Quality(), stream=False)
    room.send(0, 50)
    room.wires.link(*WAY).reset()
    late = len(room.wait())
    assert 0 < late < 50
    room.send(50, 100)
    room.wires.link(*WAY).receiver_died()
    assert len(room.wait()) == late
