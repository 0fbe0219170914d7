"""Who is let in, whom to believe, and when a refusal is final (architecture, section 3, "Birth and identity").

A member list in a log is old while the node was down, cut off, or is catching up. What it says of other nodes must then
neither keep out the leader that would tell more, nor make a node give up that is a member by now, nor let somebody's
successor speak as its predecessor.
"""

from d_engine.format.configuration import Configuration, Member
from d_engine.format.errors import IncarnationMismatchError, NotMemberError
from d_engine.format.hello import Channel, Hello
from d_engine.format.ids import NodeId
from d_engine.raft.effects import Role
from d_engine.replica.admission import Refusals, _refusal, admit
from d_engine.replica.settings import MILLISECOND, SECOND
from d_engine.storage.identity import write_identity
from d_engine.storage.memory import MemoryDisk
from tests.replica.room import Room, Seat, change

CLUSTER = 77
OLD = Configuration(CLUSTER, (Member(1, "a", 101), Member(2, "b", 102), Member(3, "c", 103)), (1, 2, 3))


def hello(node: NodeId, incarnation: int, cluster: int = CLUSTER) -> Hello:
    return Hello(Channel.DATA, cluster, node, incarnation, "")


def grow_away_from(room: Room, stale: Seat) -> Seat:
    """The stale member is down while all the others are replaced by 4 and 5. Returns the leader, one of these."""
    stale.stop()
    for node in (4, 5):
        room.join(node)
    room.until(lambda: len(room.leader.alive.configuration.voters) == 5)
    assert room.carry_out(change("transfer", 4)) is None
    room.until(lambda: room.leader.id == 4)
    gone = [seat for seat in room.seats.values() if seat.id <= 3 and seat is not stale]
    assert room.carry_out(*[change("remove", seat.id) for seat in gone], force=True) is None
    for seat in gone:
        room.until(lambda seat=seat: seat.error is not None)  # type: ignore[misc]
    return room.leader


# --- letting in ------------------------------------------------------------------------------------------------------


def test_who_is_led_lets_in_members_only() -> None:
    stranger, another_disk = hello(9, 109), hello(3, 203)
    for greeting, error in ((stranger, NotMemberError), (another_disk, IncarnationMismatchError)):
        refusal = admit(greeting, 1, CLUSTER, OLD, OLD, led=True)
        assert refusal is not None
        assert refusal.code == error.code
        assert admit(greeting, 1, CLUSTER, OLD, OLD, led=False) is None


def test_who_is_led_by_nobody_lets_in_nobody_but_its_own_cluster() -> None:
    for cluster in (0, CLUSTER + 1):
        assert admit(hello(9, 109, cluster), 1, CLUSTER, OLD, OLD, led=False) is not None


def test_a_member_with_an_old_list_lets_in_the_leader_that_it_does_not_know() -> None:
    room = Room(3)
    stale = room.follower
    leader = grow_away_from(room, stale)
    last = leader.alive.raft.last_index
    stale.start()
    room.until(lambda: stale.alive.raft.commit_index >= last)

    assert stale.alive.raft.leader == leader.id
    assert stale.alive.configuration.voters == leader.alive.configuration.voters


def test_a_newcomer_with_an_old_list_keeps_its_leader_through_all_changes() -> None:
    """Each configuration of the log is in force for a moment, and names other members than now."""
    room = Room(3)
    leader = grow_away_from(room, room.follower)
    newcomer = room.newcomer(6)
    asked = room.ask(change("add_learner", 6, newcomer.address))
    lost: list[NodeId] = []
    part = room.part

    def noted(one: NodeId, other: NodeId) -> None:
        lost.extend((one, other))
        part(one, other)

    room.part = noted  # type: ignore[method-assign]
    room.until(lambda: bool(asked))
    room.until(lambda: newcomer.replica is not None and newcomer.alive.configuration.member(6) is not None)

    assert asked == [None]
    assert newcomer.id not in lost
    assert newcomer.alive.raft.leader == leader.id


def test_a_stranger_goes_when_a_leader_is_heard_who_does_not_know_it() -> None:
    """A removed member that does not know it may be let in meanwhile, and disturbs nobody."""
    room = Room(3)
    gone = room.follower
    gone.stop()
    assert room.carry_out(change("remove", gone.id)) is None
    other = room.follower
    room.cut(other.id)
    leader = room.leader
    room.cut(leader.id)
    room.run(2 * SECOND)
    gone.start()
    room.run(SECOND)
    room.mend(other.id)
    room.run(2 * SECOND)
    room.mend(leader.id)
    room.until(lambda: room.leads() is not None and gone.error is not None)
    room.run(SECOND)

    assert gone.id not in room.leader.alive.peers.reachable
    room.write()


# --- refusals --------------------------------------------------------------------------------------------------------


def test_a_node_that_came_back_as_a_new_one_does_not_stop_for_one_that_knows_its_predecessor() -> None:
    room = Room(3)
    gone = room.join(4, read_only=True)
    room.until(lambda: gone.alive.raft.commit_index == room.leader.alive.raft.commit_index)
    leader, behind = room.leader, room.follower
    room.cut(leader.id, behind.id)
    assert room.carry_out(change("remove", 4)) is None
    gone.stop()
    back = room.join(4, read_only=True)
    room.run(50 * MILLISECOND)

    assert behind.alive.raft.configuration.member(4) != leader.alive.raft.configuration.member(4)
    assert behind.id in back.refused_by
    assert back.error is None
    room.mend(behind.id)
    room.until(lambda: behind.id in back.connected)


def test_refusals_before_the_last_word_of_a_leader_prove_nothing() -> None:
    """Two members were behind, each at its time; a majority must be of one mind now."""
    room = Room(3)
    node, leader = room.follower, room.leader
    other = next(seat for seat in room.seats.values() if seat not in (node, leader))
    no = _refusal(NotMemberError, "no")
    room.cut(node.id)
    room.run(3 * SECOND)
    node.alive.peer_refused(leader.id, no)
    room.mend(node.id)
    room.until(lambda: node.alive.raft.is_led(room.time))
    room.cut(node.id)
    room.run(3 * SECOND)
    node.alive.peer_refused(other.id, no)
    assert node.error is None

    node.alive.peer_refused(leader.id, no)
    assert isinstance(node.error, NotMemberError)


def test_a_majority_that_refuses_is_final_and_acceptance_takes_it_back() -> None:
    no = _refusal(NotMemberError, "no")
    refusals = Refusals()
    assert refusals.refused(1, no, (1, 2, 3)) is None
    refusals.accepted(1)
    assert refusals.refused(2, no, (1, 2, 3)) is None
    assert isinstance(refusals.refused(1, no, (1, 2, 3)), NotMemberError)


def test_a_newcomer_whose_addition_was_rolled_back_goes_on_and_is_added_after_all() -> None:
    """It is a member by its own log, and a stranger to everybody else."""
    room = Room(3)
    old = room.leader
    others = [seat for seat in room.seats.values() if seat is not old]
    newcomer = room.newcomer(4)
    for seat in others:
        room.cut(old.id, seat.id)
    ended = room.ask(change("add_learner", 4, newcomer.address), through=old)
    room.until(lambda: newcomer.alive.raft.configuration.member(4) is not None)
    room.until(lambda: any(seat.alive.raft.role is Role.LEADER for seat in others))
    room.cut(old.id)
    room.run(5 * SECOND)

    assert newcomer.error is None
    assert all(seat.alive.raft.configuration.member(4) is None for seat in others)
    room.until(lambda: bool(ended))
    assert room.carry_out(change("add_learner", 4, newcomer.address)) is None
    room.until(lambda: newcomer.alive.configuration.member(4) is not None)


def test_a_member_by_its_own_log_at_its_start_stops_when_all_refuse_it() -> None:
    """It cannot tell a removal from an addition that was rolled back. Coming back by itself would undo a removal."""
    room = Room(3)
    newcomer = room.join(4, read_only=True)
    room.until(lambda: newcomer.alive.raft.configuration.member(4) is not None)
    newcomer.stop()
    assert room.carry_out(change("remove", 4)) is None
    newcomer.start()
    room.until(lambda: newcomer.error is not None)

    assert isinstance(newcomer.error, NotMemberError)


def test_a_member_with_an_old_list_and_its_successors_elect_after_a_restart_of_all() -> None:
    """Nobody has applied anything yet; each knows from its log to which cluster it belongs."""
    room = Room(5)
    leader, stale, gone, behind, other = sorted(room.seats.values(), key=lambda seat: seat is not room.leader)
    stale.stop()
    gone.wipe()
    assert room.carry_out(change("remove", gone.id)) is None
    back = room.join(gone.id)
    room.until(lambda: room.leader.alive.configuration.voters == (1, 2, 3, 4, 5))
    room.until(lambda: behind.alive.raft.commit_index == back.alive.raft.commit_index > 4)
    room.cut(behind.id)
    room.write()
    last = leader.alive.raft.last_index
    room.until(lambda: back.alive.raft.commit_index == last)
    for seat in (leader, behind, other, back):
        seat.stop()
    room.mend(behind.id)
    for seat in (stale, behind, back):
        seat.start()
    room.until(lambda: room.leads() is back)

    room.until(lambda: stale.alive.raft.commit_index > last)


def test_a_wiped_founder_stops_at_the_first_word_about_its_number() -> None:
    """It would found a second cluster with others that know nothing."""
    room = Room(5)
    wiped = room.follower
    others = [seat for seat in room.seats.values() if seat is not wiped]
    wiped.stop()
    for seat in others[1:]:
        room.cut(wiped.id, seat.id)
    wiped.wipe()
    wiped.start()
    room.until(lambda: wiped.error is not None)

    assert isinstance(wiped.error, IncarnationMismatchError)


def test_who_was_started_to_join_does_not_help_to_found_a_cluster() -> None:
    room = Room(3)
    leader, founder = room.leader, room.follower
    helper = next(seat for seat in room.seats.values() if seat not in (leader, founder))
    for seat in (leader, founder, helper):
        seat.stop()
    founder.wipe()
    room.newcomer(helper.id)
    founder.start()
    room.run(10 * SECOND)

    assert founder.alive.raft.term == 0
    assert room.leads() is None


def test_a_founder_that_never_heard_of_the_birth_is_found_by_leaders_that_it_does_not_know() -> None:
    room = Room(3)
    unborn = room.follower
    unborn.stop()
    unborn.disk = MemoryDisk(unborn.call_soon)
    member = next(m for m in room.leader.alive.configuration.members if m.id == unborn.id)
    write_identity(unborn.disk, unborn.id, member.incarnation)
    leader = grow_away_from(room, unborn)
    last = leader.alive.raft.last_index
    unborn.start()
    room.until(lambda: unborn.alive.raft.commit_index >= last)
