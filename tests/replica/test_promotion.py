"""When learners become voters: by themselves, on request, by force (dissertation, 4.2.1)."""

from hypothesis import given
from hypothesis import strategies as st

from d_engine.format.errors import MembershipError
from d_engine.format.ids import NodeId
from d_engine.replica.promotion import CatchUp, choose
from d_engine.replica.settings import MILLISECOND, SECOND
from tests.replica.room import Room, change

LIMIT = 500 * MILLISECOND


# --- whom to choose --------------------------------------------------------------------------------------------------


@given(st.integers(1, 9), st.sets(st.integers(10, 20), max_size=7))
def test_the_chosen_make_the_number_odd_and_are_as_many_as_possible(voters: int, ready: set[NodeId]) -> None:
    chosen = choose(voters, sorted(ready))

    assert not chosen or (voters + len(chosen)) % 2
    assert len(ready) - len(chosen) <= 1 or not ready
    assert list(chosen) == sorted(ready)[: len(chosen)]


def test_one_grows_to_three_and_three_to_five() -> None:
    assert choose(1, [2]) == ()
    assert choose(1, [2, 3]) == (2, 3)
    assert choose(3, [4]) == ()
    assert choose(3, [5, 4, 6]) == (4, 5)
    assert choose(2, [3]) == (3,)


# --- rounds ----------------------------------------------------------------------------------------------------------


def test_a_learner_has_caught_up_after_a_short_round() -> None:
    catch_up = CatchUp(LIMIT)
    catch_up.observe(1, 100, {4: 0}, 0)
    assert not catch_up.has_caught_up(4, 0)
    catch_up.observe(1, 150, {4: 100}, LIMIT)
    assert not catch_up.has_caught_up(4, LIMIT)
    catch_up.observe(1, 160, {4: 150}, LIMIT + 1)
    assert catch_up.has_caught_up(4, LIMIT + 1)


def test_a_learner_that_stands_still_has_not_caught_up() -> None:
    catch_up = CatchUp(LIMIT)
    catch_up.observe(1, 10, {4: 10}, 0)
    assert catch_up.has_caught_up(4, LIMIT - 1)
    catch_up.observe(1, 20, {4: 10}, LIMIT - 1)
    catch_up.observe(1, 30, {4: 10}, 2 * LIMIT - 1)
    assert not catch_up.has_caught_up(4, 2 * LIMIT - 1)


def test_rounds_are_measured_anew_in_a_new_term_and_of_a_new_learner() -> None:
    catch_up = CatchUp(LIMIT)
    catch_up.observe(1, 10, {4: 10}, 0)
    catch_up.observe(2, 10, {4: 5}, 1)
    assert not catch_up.has_caught_up(4, 1)
    catch_up.observe(2, 10, {5: 10}, 2)
    catch_up.observe(2, 10, {4: 5}, 3)
    assert not catch_up.has_caught_up(4, 3)
    assert not catch_up.has_caught_up(5, 3)


# --- by itself -------------------------------------------------------------------------------------------------------


def voters(room: Room) -> tuple[NodeId, ...]:
    return room.leader.alive.raft.configuration.voters


def reason(room: Room, node: NodeId) -> str:
    return room.leader.alive.changer.promotion.waiting(room.time)[node]


def test_one_node_grows_to_three_in_one_joint_step() -> None:
    room = Room(1)
    room.join(2)
    room.run(2 * SECOND)
    assert voters(room) == (1,)
    assert "waits for one more learner" in reason(room, 2)

    room.join(3)
    room.until(lambda: voters(room) == (1, 2, 3))
    joint = [configuration for _, configuration in room.leader.members if configuration.joint]
    assert [(configuration.outgoing, configuration.voters) for configuration in joint] == [((1,), (1, 2, 3))]


def test_three_grow_to_five() -> None:
    room = Room(3)
    room.join(4)
    room.join(5)
    room.until(lambda: voters(room) == (1, 2, 3, 4, 5))


def test_a_learner_that_does_not_answer_waits() -> None:
    room = Room(1)
    room.join(2)
    room.run(SECOND)
    room.cut(2)
    room.run(SECOND)
    room.join(3)
    room.run(2 * SECOND)

    assert voters(room) == (1,)
    assert "has not answered" in reason(room, 2)
    room.mend(2)
    room.until(lambda: voters(room) == (1, 2, 3))


def test_a_learner_that_was_never_started_waits() -> None:
    room = Room(1)
    room.join(2)
    assert room.carry_out(change("add_learner", 3, "n3:1")) is None
    room.run(2 * SECOND)

    assert voters(room) == (1,)
    assert "has not connected" in reason(room, 3)


def test_read_only_learners_are_never_promoted_not_even_by_force() -> None:
    room = Room(1)
    room.join(2, read_only=True)
    room.join(3)
    room.run(2 * SECOND)

    assert voters(room) == (1,)
    assert "read-only" in reason(room, 2)
    for force in (False, True):
        error = room.carry_out(change("promote", 2), change("promote", 3), force=force)
        assert isinstance(error, MembershipError)
        assert "read-only" in str(error)


def test_demoted_voters_stay_learners_until_somebody_asks() -> None:
    room = Room(3)
    node = room.follower.id
    assert room.carry_out(change("demote", node)) is None
    room.run(3 * SECOND)
    assert node not in voters(room)
    assert "was demoted" in reason(room, node)

    assert room.carry_out(change("promote", node)) is None
    assert voters(room) == (1, 2, 3)


def test_a_new_leader_promotes_too() -> None:
    room = Room(3)
    room.join(4)
    room.leader.stop()
    room.until(lambda: room.leads() is not None)
    room.join(5)
    room.until(lambda: voters(room) == (1, 2, 3, 4, 5))


def test_it_can_be_switched_off() -> None:
    room = Room(1)
    room.seats[1].stop()
    room.seats[1].settings["auto_promote"] = False
    room.seats[1].start()
    room.until(lambda: room.leads() is not None)
    room.join(2)
    room.join(3)
    room.run(2 * SECOND)

    assert voters(room) == (1,)
    assert "is off" in reason(room, 2)
    assert room.carry_out(change("promote", 2), change("promote", 3)) is None
    assert voters(room) == (1, 2, 3)


# --- asked for -------------------------------------------------------------------------------------------------------


def refusal(error: object) -> str:
    assert isinstance(error, MembershipError), error
    assert "unless it is forced" in str(error)
    return str(error)


def test_an_even_number_is_refused_unless_forced() -> None:
    room = Room(1)
    room.join(2)
    room.run(SECOND)

    assert "2 voters would tolerate no more failures than 1" in refusal(room.carry_out(change("promote", 2)))
    assert room.carry_out(change("promote", 2), force=True) is None
    assert voters(room) == (1, 2)


def test_a_learner_that_lags_is_refused_unless_forced() -> None:
    room = Room(3)
    room.join(4)
    room.join(5, read_only=True)
    room.cut(4)
    room.run(SECOND)
    step = (change("promote", 4), change("demote", room.follower.id))
    assert "has not answered" in refusal(room.carry_out(*step))
    assert room.carry_out(*step, force=True) is None


def test_a_step_that_leaves_no_majority_that_answers_is_refused() -> None:
    room = Room(3)
    leader, alive = room.leader, room.follower
    dead = next(seat for seat in room.seats.values() if seat not in (leader, alive))
    dead.stop()
    room.run(SECOND)

    assert "no majority" in refusal(room.carry_out(change("remove", alive.id)))
    assert room.carry_out(change("remove", dead.id)) is None


def test_a_dead_voter_is_replaced_by_one_that_is_still_to_be_started() -> None:
    """One joint step, before the new machine runs; it counts when it has shown its data directory."""
    room = Room(3)
    dead = room.follower
    dead.stop()
    room.run(SECOND)
    step = (change("remove", dead.id), change("add_learner", 4, "n4:1"), change("promote", 4))
    assert room.carry_out(*step) is None
    assert 4 in voters(room)
    assert dead.id not in voters(room)

    new = room.newcomer(4)
    room.until(lambda: new.alive.raft.commit_index >= room.leader.alive.raft.last_index)
    room.leader.stop()
    room.until(lambda: room.leads() is not None)
    room.write(new)


def test_a_living_voter_is_replaced_by_one_that_has_caught_up_only() -> None:
    room = Room(3)
    old = room.follower.id
    step = (change("remove", old), change("add_learner", 4, "n4:1"), change("promote", 4))
    assert "it is no member yet" in refusal(room.carry_out(*step))
    room.join(4)
    room.run(SECOND)

    assert room.carry_out(*step) is None
    assert voters(room) == tuple(sorted({1, 2, 3, 4} - {old}))


def test_nobody_unknown_takes_a_dead_voters_place() -> None:
    """Without an address it could never be reached, and the node that comes under its number would be refused."""
    room = Room(3)
    dead = room.follower
    dead.stop()
    room.run(SECOND)
    step = (change("remove", dead.id), change("add_learner", 4), change("promote", 4))
    error = room.carry_out(*step)
    assert isinstance(error, MembershipError)
    assert "nobody knows where it is" in str(error)
    assert dead.id in voters(room)
