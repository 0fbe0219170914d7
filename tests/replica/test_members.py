"""Changes of members on whole nodes: one at a time, refused in words, told to everybody, harmless to the cluster."""

import pytest

from d_engine.format.configuration import Member
from d_engine.format.errors import (
    ChangePendingError,
    DEngineError,
    IncarnationMismatchError,
    InvalidRequestError,
    MembershipError,
    NoLeaderError,
    NotMemberError,
    OutcomeUnknownError,
)
from d_engine.format.messages import MemberChange
from d_engine.raft.effects import Role
from d_engine.replica.settings import MILLISECOND, SECOND
from tests.replica.room import Room, change


def text_of(error: object, kind: type[DEngineError]) -> str:
    assert isinstance(error, kind), error
    return str(error)


def test_members_are_added_removed_demoted_and_promoted_in_one_step_each() -> None:
    """Issue of a step: one entry, or two if the voters differ."""
    room = Room(3)
    room.join(4, read_only=True)
    assert room.leader.alive.configuration.learners == (4,)

    assert room.carry_out(change("remove", 4), through=room.follower) is None
    assert room.leader.alive.configuration.member(4) is None

    follower = room.follower.id
    assert room.carry_out(change("demote", follower)) is None
    assert room.leader.alive.configuration.learners == (follower,)
    assert room.carry_out(change("promote", follower)) is None
    assert room.leader.alive.configuration.voters == (1, 2, 3)


def test_several_changes_are_one_joint_step() -> None:
    """Faults page, scenario 16: a disjoint replacement."""
    room = Room(1)
    for node in (2, 3, 4, 5, 6):
        room.join(node, read_only=False)
    room.until(lambda: len(room.leader.alive.configuration.voters) == 5)
    leader = room.leader.alive
    first = leader.raft.last_index
    gone = [node for node in leader.configuration.voters if node != room.leader.id][:2]
    assert room.carry_out(*[change("remove", node) for node in gone]) is None

    steps = [configuration for index, configuration in room.leader.members if index > first]
    assert [configuration.joint for configuration in steps] == [True, False]
    assert not any(node in steps[-1].voters for node in gone)


def test_second_change_is_refused_and_told_what_is_pending() -> None:
    """Faults page, scenario 13."""
    room = Room(3)
    followers = [node for node in (1, 2, 3) if node != room.leader.id]
    for node in followers:
        room.cut(node)
    first = room.ask(change("add_learner", 4, "n4:1"))
    (second,) = room.ask(change("remove", followers[0]))

    assert "node 4 is added (log index" in text_of(second, ChangePendingError)
    assert not first
    for node in followers:
        room.mend(node)
    room.until(lambda: bool(first))


def test_change_is_refused_before_the_first_entry_of_the_term_is_applied() -> None:
    """Faults page, scenario 12."""
    room = Room(3)
    seat = room.follower
    room.leader.stop()
    room.until(lambda: any(s.replica and s.alive.raft.role is Role.LEADER for s in room.seats.values()))
    seat = next(s for s in room.seats.values() if s.replica and s.alive.raft.role is Role.LEADER)
    refused = []
    if not seat.alive.raft.ready:
        refused = room.ask(change("remove", 3), through=seat)
        assert "not committed anything" in text_of(refused[0], ChangePendingError)
    room.until(lambda: seat.alive.raft.ready)


def test_asking_for_a_member_that_there_is_changes_nothing() -> None:
    room = Room(3)
    room.join(4)
    last = room.leader.alive.raft.last_index

    assert room.carry_out(change("add_learner", 4, "n4:1")) is None
    assert room.carry_out(change("add_learner", 4)) is None
    assert room.leader.alive.raft.last_index == last
    assert "not at elsewhere" in text_of(
        room.carry_out(change("add_learner", 4, "elsewhere")), MembershipError
    )
    other = MemberChange("add_learner", Member(4, "n4:1", 77))
    assert "another data directory" in text_of(room.carry_out(other), MembershipError)


@pytest.mark.parametrize("kind", ["transfer", "abolish"])
def test_what_is_no_part_of_a_step_is_refused(kind: str) -> None:
    room = Room(1)
    assert "no change of members" in text_of(
        room.carry_out(change("remove", 1), change(kind, 1)), InvalidRequestError
    )


def test_change_waits_until_a_newcomer_is_bound() -> None:
    """Binding is a step that nobody asked for: it refuses nobody."""
    room = Room(3)
    room.newcomer(4)
    first = room.ask(change("add_learner", 4, "n4:1"))
    room.until(lambda: bool(first))
    second = room.carry_out(change("add_learner", 5, "n5:1"))

    assert (first, second) == ([None], None)


def test_a_leader_removes_itself() -> None:
    """Faults page, scenario 14: whoever asked gets an answer, the others have a leader at once, the node stops."""
    room = Room(3)
    leader = room.leader
    room.write()
    at = room.time
    ended = room.ask(change("remove", leader.id))
    room.until(lambda: leader.error is not None)

    assert ended == [None]
    assert "was removed from the cluster" in text_of(leader.error, NotMemberError)
    room.until(lambda: room.leads() is not None)
    assert room.time - at < 500 * MILLISECOND
    assert room.leader.alive.configuration.voters == tuple(sorted({1, 2, 3} - {leader.id}))
    room.write()


def test_a_leader_is_demoted() -> None:
    """It leads as a learner until that is committed, and then follows."""
    room = Room(3)
    old = room.leader
    assert room.carry_out(change("demote", old.id)) is None
    room.until(lambda: room.leads() not in (None, old))
    room.write()

    assert old.error is None
    assert room.leader.alive.configuration.learners == (old.id,)
    room.until(lambda: old.alive.raft.leader == room.leader.id)


def test_members_that_go_together_are_told_although_one_that_stays_is_down() -> None:
    """They hear of the joint state, not of its end: whoever stays decides what they are."""
    room = Room(5)
    leader, down, *going = sorted(room.seats.values(), key=lambda seat: seat is not room.leader)
    down.stop()
    going.pop()
    assert room.carry_out(*[change("remove", seat.id) for seat in going], force=True) is None
    for seat in going:
        room.until(lambda seat=seat: seat.error is not None)  # type: ignore[misc]
        assert isinstance(seat.error, NotMemberError)
    assert leader.alive.raft.role is Role.LEADER


def test_a_removed_member_is_told_and_stops() -> None:
    """Faults page, scenario 43."""
    room = Room(3)
    gone = room.follower
    term = room.leader.alive.raft.term
    assert room.carry_out(change("remove", gone.id)) is None
    room.until(lambda: gone.error is not None)

    assert isinstance(gone.error, NotMemberError)
    assert room.leader.alive.raft.term == term


def test_a_member_removed_while_it_was_down_is_refused_and_stops() -> None:
    """Faults page, scenario 43: by a majority, without disturbing the cluster."""
    room = Room(3)
    gone = room.follower
    gone.stop()
    term = room.leader.alive.raft.term
    assert room.carry_out(change("remove", gone.id)) is None
    room.run(2 * SECOND)
    for _ in range(2):
        gone.start()
        room.until(lambda: gone.error is not None)
        assert "is not a member" in text_of(gone.error, NotMemberError)
    room.run(3 * SECOND)

    assert room.leader.alive.raft.term == term
    room.write()


def test_a_removed_member_comes_back_as_a_new_one_on_an_empty_disk() -> None:
    """Its old number stands in the log with another data directory: that is none of its business."""
    room = Room(3)
    gone = room.follower
    assert room.carry_out(change("remove", gone.id)) is None
    room.until(lambda: gone.error is not None)
    for _ in range(20):
        room.write()
    back = room.join(gone.id)
    room.until(lambda: gone.id in room.leader.alive.configuration.voters)
    room.write(back)

    assert back.error is None
    assert room.leader.alive.configuration.voters == (1, 2, 3)


def test_a_wiped_disk_is_a_stranger_until_it_is_removed_and_added() -> None:
    """Faults page, scenario 15."""
    room = Room(3)
    wiped = room.follower
    wiped.wipe()
    wiped.start()
    room.until(lambda: wiped.error is not None)
    assert isinstance(wiped.error, IncarnationMismatchError)

    assert room.carry_out(change("remove", wiped.id)) is None
    room.join(wiped.id)
    room.until(lambda: room.leader.alive.configuration.voters == (1, 2, 3))
    room.write(room.seats[wiped.id])


def test_an_address_can_be_changed() -> None:
    room = Room(3)
    moved = room.follower
    moved.stop()
    moved.address = "elsewhere:1"
    assert room.carry_out(change("set_address", moved.id, "elsewhere:1")) is None
    moved.start()
    last = room.leader.alive.raft.last_index
    room.until(lambda: moved.alive.raft.commit_index >= last)

    member = moved.alive.configuration.member(moved.id)
    assert member is not None
    assert member.address == "elsewhere:1"


def test_change_of_a_leader_that_falls_ends_as_unknown() -> None:
    """The entry may be rolled back, and another may stand in its place: its commitment proves nothing."""
    room = Room(3)
    old = room.leader
    room.cut(old.id)
    ended = room.ask(change("add_learner", 4, "n4:1"), through=old)
    room.until(lambda: bool(ended))
    assert isinstance(ended[0], OutcomeUnknownError)

    room.until(lambda: room.leads() is not old and room.leads() is not None)
    room.mend(old.id)
    for _ in range(5):
        room.write()
    assert room.leader.alive.configuration.member(4) is None
    assert len(ended) == 1


def test_nobody_leads_and_nothing_changes() -> None:
    room = Room(3)
    alone = room.follower
    room.cut(alone.id)
    room.run(3 * SECOND)

    assert isinstance(room.ask(change("remove", 1), through=alone)[0], NoLeaderError)


def test_a_node_that_stops_does_not_know_what_became_of_the_change() -> None:
    room = Room(3)
    leader = room.leader
    for node in {1, 2, 3} - {leader.id}:
        room.cut(node)
    ended = room.ask(change("add_learner", 4, "n4:1"))
    leader.alive.fail(NotMemberError("removed"))

    assert isinstance(ended[0], OutcomeUnknownError)
