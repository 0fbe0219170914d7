"""What the simulated TCP does to a remote client's connection (docs/design/simulation.md)."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from types import SimpleNamespace
from typing import cast

import pytest

from d_engine.format.errors import DEngineError, UnavailableError
from d_engine.format.frames import Frame, FrameKind, encode_frame
from d_engine.runtime.connection import SILENCE_MS
from d_engine.testing.sim.connections import ClientNetwork, _End
from d_engine.testing.sim.events import MILLISECOND, SECOND, EventQueue
from d_engine.testing.sim.links import Quality
from d_engine.testing.sim.loop import SimLoop
from d_engine.testing.sim.node import SimNode
from d_engine.testing.sim.trace import Trace

LIMIT = 10_000


@dataclass
class Machine:
    """As much of a `SimNode` as a connection sees."""

    id: int = 1
    life: int = 1
    skew: int = 0
    shared: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(dark={}))
    settings: SimpleNamespace = field(default_factory=lambda: SimpleNamespace(address="node1:1"))

    def enter(self, life: int, function: Callable[[], object]) -> None:
        if life == self.life:
            function()


@dataclass
class Side:
    """A handler."""

    events: EventQueue
    heard: list[bytes] = field(default_factory=list)
    ended: list[tuple[int, DEngineError | None]] = field(default_factory=list)

    def on_frames(self, frames: list[Frame]) -> None:
        self.heard += [bytes(frame.head) for frame in frames]

    def on_close(self, reason: DEngineError | None) -> None:
        self.ended.append((self.events.now, reason))


class Pair:
    """A connection with both its handlers."""

    def __init__(self, loss: float = 0.0) -> None:
        self.events = EventQueue()
        self.machine = Machine()
        known = Quality(MILLISECOND, MILLISECOND, loss)
        node = cast("SimNode", self.machine)
        self.network = ClientNetwork(self.events, Trace(), Random(1), {1: node}, known)
        self.client, self.node = Side(self.events), Side(self.events)
        self.here = self.network._connect(node)
        self.there: _End = self.here.other
        self.here.establish(self.client, 0)
        self.there.establish(self.node, 0)

    def run(self, seconds: float) -> None:
        self.events.run(self.events.now + int(seconds * SECOND), LIMIT)


def frame(number: int) -> list[bytes]:
    return encode_frame(FrameKind.REQUEST, b"%d" % number)


NUMBERS = [b"%d" % number for number in range(20)]


def test_everything_arrives_in_order_however_much_is_lost_on_the_way() -> None:
    pair = Pair(loss=0.5)
    for number in range(20):
        assert pair.here.send(frame(number))
        pair.run(0.001)
    pair.run(20)
    assert pair.node.heard == NUMBERS
    assert not pair.client.ended


def test_a_short_cut_only_delays() -> None:
    pair = Pair()
    pair.network.cut_off[1] = 1
    for number in range(20):
        pair.here.send(frame(number))
    pair.run(1)
    assert pair.node.heard == []
    pair.network.cut_off[1] = 0
    pair.run(0.5)
    assert pair.node.heard == NUMBERS
    pair.run(10)
    assert not pair.client.ended
    assert not pair.node.ended


def test_a_long_cut_ends_the_connection_first_for_the_side_that_had_something_to_say() -> None:
    pair = Pair()
    pair.network.cut_off[1] = 1
    pair.run(10)
    assert not pair.client.ended, "nothing was sent"
    pair.here.send(frame(1))
    before = pair.events.now
    pair.run(10)
    ((here, reason),), ((there, other),) = pair.client.ended, pair.node.ended
    assert here - before >= SILENCE_MS * MILLISECOND
    assert there > here
    assert isinstance(reason, UnavailableError)
    assert isinstance(other, UnavailableError)
    assert not pair.here.send(frame(2))
    assert pair.node.heard == []


def test_what_a_dead_process_is_sent_comes_back_as_a_reset() -> None:
    pair = Pair()
    pair.machine.life += 1
    pair.here.send(frame(1))
    pair.run(0.1)
    assert len(pair.client.ended) == 1
    assert pair.node.heard == []


def test_a_dark_machine_says_nothing_and_a_killed_process_ends_its_connections() -> None:
    for dark, ended in ((True, 0), (False, 1)):
        pair = Pair()
        pair.machine.shared.dark.update({1: True} if dark else {})
        pair.network.node_ended(1)
        pair.run(1)
        assert len(pair.client.ended) == ended


def test_a_process_that_is_held_up_and_killed_meanwhile_has_said_nothing() -> None:
    pair = Pair()
    pair.machine.skew = SECOND
    pair.there.send(frame(1))
    pair.machine.skew = 0
    pair.run(0.5)
    pair.machine.life += 1
    pair.run(5)
    assert pair.client.heard == []


def test_who_closes_sends_what_it_had_to_say_first() -> None:
    pair = Pair()
    pair.here.send(frame(7))
    pair.here.close()
    assert not pair.client.ended, "never from within a call"
    pair.run(1)
    assert pair.node.heard == [b"7"]
    assert [reason for _, reason in pair.client.ended] == [None]
    assert [reason for _, reason in pair.node.ended] == [None]


def test_tasks_run_in_virtual_time() -> None:
    events = EventQueue()
    loop = SimLoop(events)
    times: list[float] = []

    async def work() -> None:
        await asyncio.sleep(2)
        times.append(loop.time())
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(3):
                await loop.create_future()
        times.append(loop.time())

    with loop.running():
        task = loop.create_task(work())
        events.run(10 * SECOND, LIMIT)
    assert task.done()
    assert times == [2, 5]


def test_a_callback_that_fails_fails_the_run() -> None:
    events = EventQueue()

    def fail() -> None:
        raise ValueError("here")

    SimLoop(events).call_soon(fail)
    with pytest.raises(ValueError, match="here"):
        events.run(1, LIMIT)
