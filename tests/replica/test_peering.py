"""What a node decides of its connections: pauses, silence, paths.

Connections are plain objects here; the connector remembers what was asked of it."""

from dataclasses import dataclass, field

import pytest

from d_engine.format.hello import Channel, Hello
from d_engine.format.ids import Incarnation, NodeId
from d_engine.replica.peering import (
    JITTER_BITS,
    SILENCE,
    SILENCE_MESSAGES,
    STABLE,
    Backoff,
    Neighbour,
    Peering,
    Silence,
)
from d_engine.replica.settings import MILLISECOND, SECOND

DATA, CONTROL = Channel.DATA, Channel.CONTROL
LARGEST = (1 << JITTER_BITS) - 1


# --- pauses ----------------------------------------------------------------------------------------------------------


def test_pauses_double_up_to_a_second_between_half_and_the_whole() -> None:
    shortest, longest = Backoff(), Backoff()
    least = [shortest.pause(0, 0) / MILLISECOND for _ in range(7)]
    assert least == [25, 50, 100, 200, 400, 500, 500]
    most = [longest.pause(0, LARGEST) / MILLISECOND for _ in range(7)]
    assert all(2 * a * 0.999 < b < 2 * a for a, b in zip(least, most, strict=True))


def test_only_a_connection_that_lasted_makes_pauses_short_again() -> None:
    backoff = Backoff()
    for _ in range(5):
        backoff.pause(0, 0)
    assert backoff.pause(STABLE, 0) == 500 * MILLISECOND
    assert backoff.pause(STABLE + 1, 0) == 25 * MILLISECOND
    assert backoff.pause(0, 0) == 50 * MILLISECOND


# --- silence ---------------------------------------------------------------------------------------------------------


def test_a_member_is_given_up_after_many_messages_and_a_long_time() -> None:
    silence = Silence()
    assert not any(silence.sent(number) for number in range(100))
    assert not silence.sent(SILENCE)
    assert silence.sent(SILENCE + 1)


def test_few_messages_are_no_silence_and_an_answer_ends_it() -> None:
    silence = Silence()
    assert not any(silence.sent(number * 10 * SECOND) for number in range(SILENCE_MESSAGES))
    silence.unanswered = 0
    assert not any(silence.sent(100 * SECOND + number) for number in range(SILENCE_MESSAGES + 1))
    assert silence.sent(104 * SECOND)


# --- paths -----------------------------------------------------------------------------------------------------------


@dataclass(eq=False)
class Line:
    """A connection."""

    name: str
    aborted: str = ""


@dataclass
class Room:
    """A connector that does nothing but remember."""

    asked: list[tuple[str, NodeId, int]] = field(default_factory=list)
    told: list[tuple[NodeId, bool]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.peering: Peering[Line] = Peering(self)

    def keep_dialled(self, neighbour: Neighbour[Line], channel: Channel) -> None:
        self.asked.append((neighbour.address, neighbour.peer, channel))

    def stop_dialling(self, neighbour: Neighbour[Line]) -> None:
        self.asked.append(("stop", neighbour.peer, 0))

    def abort(self, connection: Line, why: str) -> None:
        assert not connection.aborted
        connection.aborted = why

    def reachable(self, peer: NodeId, reachable: bool) -> None:
        self.told.append((peer, reachable))

    def note(self, peer: NodeId, what: str) -> None:
        self.notes.append(what)

    @property
    def two(self) -> Neighbour[Line]:
        return self.peering.neighbour(2)

    def add(
        self, name: str, channel: Channel = DATA, *, dialled: bool = False, incarnation: Incarnation = 7
    ) -> Line:
        line = Line(name)
        self.peering.add(self.two, Hello(channel, 0, 2, incarnation), line, dialled=dialled)
        return line

    def ended(self, line: Line, channel: Channel = DATA) -> None:
        self.peering.ended(self.two, channel, line, "closed")


def test_each_channel_is_dialled_where_there_is_an_address() -> None:
    room = Room()
    room.peering.set_peers({2: "two:1", 3: ""})
    assert [ask for ask in room.asked if ask[0] != "stop"] == [("two:1", 2, CONTROL), ("two:1", 2, DATA)]
    room.asked.clear()
    room.peering.set_peers({2: "two:1", 3: ""})
    assert not room.asked
    room.peering.set_peers({2: "", 3: "three:1"})
    assert room.asked == [
        ("stop", 2, 0),
        ("stop", 3, 0),
        ("three:1", 3, CONTROL),
        ("three:1", 3, DATA),
    ]


def test_the_first_connection_is_the_path_until_it_breaks() -> None:
    room = Room()
    accepted, dialled = room.add("accepted"), room.add("dialled", dialled=True)
    assert room.two.paths == {DATA: accepted}
    room.ended(accepted)
    assert room.two.paths == {DATA: dialled}
    assert room.told == [(2, True), (2, False), (2, True)]
    room.ended(dialled)
    assert not room.two.paths
    assert room.told[3:] == [(2, False)]
    room.ended(dialled)
    assert len(room.told) == 4


def test_a_connection_that_is_no_path_may_end_unnoticed() -> None:
    room = Room()
    accepted, dialled = room.add("accepted"), room.add("dialled", dialled=True)
    room.ended(dialled)
    assert room.two.paths == {DATA: accepted}
    assert room.told == [(2, True)]


def test_the_replica_hears_of_the_data_path_only() -> None:
    room = Room()
    line = room.add("accepted", CONTROL)
    room.ended(line, CONTROL)
    assert not room.told
    assert room.notes == ["connected for control", "the control connection is lost: closed"]


def test_the_newest_replaces_the_one_before_of_its_kind() -> None:
    room = Room()
    first, dialled = room.add("first"), room.add("dialled", dialled=True)
    second = room.add("second")
    assert first.aborted
    assert not dialled.aborted
    assert room.two.connections() == [dialled, second]
    assert room.two.paths == {DATA: dialled}
    assert room.told == [(2, True), (2, False), (2, True)]


def test_another_incarnation_replaces_all() -> None:
    room = Room()
    old = [
        room.add("control", CONTROL),
        room.add("data"),
        room.add("dialled", dialled=True),
    ]
    new = room.add("new", incarnation=8)
    assert all(line.aborted for line in old)
    assert room.two.connections() == [new]
    assert room.two.paths == {DATA: new}
    assert room.told == [(2, True), (2, False), (2, True)]


def test_who_is_given_up_loses_all_connections_and_is_dialled_on() -> None:
    room = Room()
    room.peering.set_peers({2: "two:1"})
    lines = [room.add("accepted"), room.add("dialled", dialled=True), room.add("control", CONTROL)]
    room.two.silence.unanswered = 5
    room.asked.clear()
    room.peering.give_up(room.two, "it is silent")
    assert [line.aborted for line in lines] == ["it is silent"] * 3
    assert not room.two.paths
    assert room.two.silence.unanswered == 0
    assert room.told == [(2, True), (2, False)]
    assert not room.asked


def test_a_new_address_ends_what_was_dialled_at_the_old_one() -> None:
    room = Room()
    room.peering.set_peers({2: "two:1"})
    dialled, accepted = room.add("dialled", dialled=True), room.add("accepted")
    room.peering.set_peers({2: "two:2"})
    assert dialled.aborted
    assert not accepted.aborted
    assert room.two.paths == {DATA: accepted}


def test_who_is_no_peer_any_more_is_forgotten() -> None:
    room = Room()
    room.peering.set_peers({2: "two:1"})
    two, line = room.two, room.add("accepted")
    room.peering.set_peers({})
    assert line.aborted
    assert not room.peering.neighbours
    assert room.told == [(2, True), (2, False)]
    room.peering.ended(two, DATA, line, "closed")
    assert len(room.told) == 2


@pytest.mark.parametrize("channel", [DATA, CONTROL])
def test_a_new_path_begins_without_silence(channel: Channel) -> None:
    room = Room()
    room.two.silence.unanswered = 5
    room.add("accepted", channel)
    assert room.two.silence.unanswered == 0
