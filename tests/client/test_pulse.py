"""Once a second, while there is something to do: who leads?"""

from types import SimpleNamespace
from typing import cast

import msgspec
import pytest

from d_engine.client.api import LeaderInfo, MemberInfo
from d_engine.client.endpoints import Endpoints
from d_engine.client.link import Call, Link
from d_engine.client.pulse import PULSE_SECONDS, SILENT_PULSES, Pulse
from d_engine.format.errors import DEngineError, NotAppliedTimeoutError, UnavailableError
from d_engine.format.requests import Manage, Managed
from d_engine.testing.sim.events import SECOND, EventQueue
from d_engine.testing.sim.loop import SimLoop

A, B = "127.0.0.1:1", "127.0.0.1:2"
MEMBERS = [MemberInfo(1, A, "voter"), MemberInfo(2, B, "voter")]


class Scene:
    """A pulse and the node that it asks, which answers at once, or at a call's deadline does not."""

    def __init__(self) -> None:
        self.events = EventQueue()
        self.loop = SimLoop(self.events).as_event_loop()
        self.asked: list[str] = []
        self.followed: list[str] = []
        self.aborted: list[DEngineError] = []
        self.answers = True
        self.leader: LeaderInfo | None = LeaderInfo(1, 1)
        connection = SimpleNamespace(open=True, abort=self.aborted.append)
        self.link = cast(
            "Link",
            SimpleNamespace(connection=connection, calls={}, watches={}, heard=0, address=A, node_id=1),
        )
        self.pulse = Pulse(self.loop, Endpoints([A]), self.send, self.followed.append)

    def send(self, link: Link, call: Call) -> None:
        request = call.make(1, 1)
        assert isinstance(request, Manage)
        self.asked.append(request.operation)
        link.calls[len(self.asked)] = call
        if self.answers:
            self.loop.call_soon(self.answer, len(self.asked), request.operation)
        else:
            self.loop.call_at(call.deadline, self.end, len(self.asked))

    def answer(self, number: int, operation: str) -> None:
        self.link.heard += 1
        document = msgspec.json.encode(MEMBERS if operation == "members" else self.leader)
        self.link.calls.pop(number).done(Managed(number, document))

    def end(self, number: int) -> None:
        self.link.calls.pop(number).done(NotAppliedTimeoutError("nothing came"))

    def run(self, seconds: float) -> None:
        self.events.run(self.events.now + int(seconds * SECOND), 10_000)


@pytest.mark.parametrize("looked_for", [0.0, 10 * PULSE_SECONDS])
def test_a_silent_node_is_given_up_however_long_it_was_looked_for(looked_for: float) -> None:
    scene = Scene()
    scene.pulse.active()
    scene.run(looked_for)
    scene.pulse.watch(scene.link)
    scene.link.watches[1] = cast("object", None)  # type: ignore[assignment]
    scene.run(3.5 * PULSE_SECONDS)
    assert not scene.aborted
    scene.answers = False
    scene.run((SILENT_PULSES + 1.5) * PULSE_SECONDS)
    assert isinstance(scene.aborted[0], UnavailableError)


def test_who_has_nothing_to_do_asks_nothing() -> None:
    scene = Scene()
    scene.pulse.watch(scene.link)
    for _ in range(2):
        before = len(scene.asked)
        scene.pulse.active()
        scene.run(3.5 * PULSE_SECONDS)
        after = len(scene.asked)
        assert after > before
        scene.run(10 * PULSE_SECONDS)
        assert len(scene.asked) == after


def test_the_leader_is_gone_to_once_it_is_known_where_it_is() -> None:
    scene = Scene()
    scene.leader = None
    scene.pulse.watch(scene.link)
    scene.link.watches[1] = cast("object", None)  # type: ignore[assignment]
    scene.run(1.5 * PULSE_SECONDS)
    assert scene.followed == []
    scene.leader = LeaderInfo(2, 2)
    scene.run(PULSE_SECONDS)
    assert scene.followed == [B]
