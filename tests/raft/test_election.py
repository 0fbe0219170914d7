"""Elections: a test for each rule of the architecture's section 3; figure 2 has a file of its own."""

from msgspec.structs import replace

from d_engine.format.configuration import encode_configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.messages import (
    AppendRequest,
    HeartbeatResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from d_engine.format.state import HardState, RecoveredLog
from d_engine.raft.core import Raft
from d_engine.raft.effects import Role
from d_engine.raft.settings import RaftSettings
from tests.raft.lone_node import LoneNode, configuration_of, only


def test_pre_vote_changes_nothing() -> None:
    """Section 3, pre-vote: neither the voter's term nor its vote."""
    node = LoneNode((1,))

    sends = node.receive(2, VoteRequest(5, 1, 1, pre=True, transfer=False))

    assert sends == [(2, VoteResponse(5, True, True))]
    assert (node.raft.term, node.raft._state.hard_state.vote) == (1, 0)


def test_pre_vote_is_refused_with_the_newer_term() -> None:
    """Section 3, pre-vote: a candidate that is behind learns the term, and only then can win."""
    node = LoneNode((1,), hard_state=HardState(7))

    assert node.receive(2, VoteRequest(5, 9, 4, pre=True, transfer=False)) == [
        (2, VoteResponse(7, False, True))
    ]


def test_check_quorum() -> None:
    """Section 3, check-quorum; scenario `check_quorum`."""
    node = LoneNode((1,))
    node.lead()

    node.wait(999)
    assert node.raft.leader == 1
    node.wait(1)
    assert node.raft.leader == 0
    assert node.raft.role is Role.FOLLOWER


def test_loyalty_to_the_leader_survives_a_change_of_term() -> None:
    """Section 3, leader stickiness; section 6: leases rest on it, whatever message raises the term meanwhile."""
    node = LoneNode((1,))
    node.follow(leader=2)
    node.receive(3, VoteResponse(4, False, True))
    assert node.raft.term == 4

    assert node.receive(3, VoteRequest(5, 1, 1, pre=False, transfer=False)) == []
    node.now += 500_000_000
    assert len(node.receive(3, VoteRequest(5, 1, 1, pre=False, transfer=False))) == 1


def test_transfer_overrides_loyalty() -> None:
    """Section 3, leadership transfer: the leader itself wanted the election."""
    node = LoneNode((1,))
    node.follow(leader=2)

    sends = node.receive(3, VoteRequest(2, 1, 1, pre=False, transfer=True))

    assert sends == [(3, VoteResponse(2, True, False))]


def test_voter_is_quiet_after_its_start_where_leases_may_be_in_use() -> None:
    """Section 6: no vote for one maximal lease after a start; scenario `restarted_voter_is_quiet`."""
    for leases in (False, True):
        node = LoneNode((1,), configuration=configuration_of((1, 2, 3), lease_reads=leases))

        sends = node.receive(2, VoteRequest(2, 1, 1, pre=False, transfer=False))

        assert bool(sends) is not leases


def test_sole_voter_campaigns_at_once_and_is_never_quiet() -> None:
    """Section 6: a sole voter is exempt; scenario `sole_voter`."""
    node = LoneNode((1,), configuration=configuration_of((1,), lease_reads=True))

    node.wait(0)

    assert node.raft.role is Role.LEADER
    assert node.now < node.raft.lease_deadline


def test_stalled_disk_gives_leadership_away_then_up() -> None:
    """Section 3, step-down of a leader whose disk stalls; scenarios `disk_stall`, `disk_stall_alone`."""
    node = LoneNode((1,))
    node.lead()
    node.auto_persist = False
    node.raft.propose([b"x"], 1, 0, node.now)
    node.turn()
    node.accept(2)

    for _ in range(4):
        node.wait(100)
        node.receive(2, HeartbeatResponse(2, 1))
    assert node.raft.status().transferee == 0
    assert (2, TimeoutNow(2)) in node.wait(100)
    for _ in range(11):
        node.wait(100)
        node.receive(2, HeartbeatResponse(2, 1))
    assert node.raft.role is Role.FOLLOWER
    # No campaign until a write has completed.
    assert node.wait(2000) == []
    node.persist()
    assert len(only(node.wait(2000), VoteRequest)) == 2


def test_node_outside_every_configuration_never_campaigns() -> None:
    """Section 3, birth and identity: a node that is to join waits to be added."""
    raft = Raft(RaftSettings(4, 104), RecoveredLog(), None, lambda first, size: (), lambda bits: 0, 0)

    raft.tick(10_000_000_000)

    assert raft.role is Role.FOLLOWER
    assert raft.effects(10_000_000_000).sends == []


def vote(term: int) -> VoteResponse:
    return VoteResponse(term, True, False)


def test_a_vote_counts_for_the_data_directory_that_gave_it() -> None:
    """Section 3, identity: the successor's vote is not its predecessor's, whoever of them speaks next."""
    node = LoneNode((1,), voters=(1, 2, 3, 4, 5))
    node.raft.peer_incarnation(2, 202, node.now)
    for peer in (3, 4):
        node.raft.peer_incarnation(peer, 100 + peer, node.now)
    node.campaign()
    node.receive(2, vote(node.raft.term))
    node.raft.peer_incarnation(2, 102, node.now)
    node.receive(3, vote(node.raft.term))
    assert node.raft.role is Role.CANDIDATE

    node.receive(2, vote(node.raft.term))
    assert node.raft.leader == 1


def test_whom_a_rolled_back_configuration_dropped_is_who_it_was() -> None:
    """Section 3, identity: the connection with the successor stands all the time."""
    node = LoneNode((1,))
    node.raft.peer_incarnation(3, 203, node.now)
    members = configuration_of((1, 2, 3))
    without = replace(members, members=members.members[:2], voters=(1, 2))
    entry = Entry.create(EntryKind.CONFIGURATION, 1, 2, 0, [encode_configuration(without)])
    node.receive(2, AppendRequest(1, 1, 1, 1, (entry,)))
    assert node.raft._state.electorate.bound == (1, 2)
    node.receive(2, AppendRequest(2, 1, 1, 1, (Entry.create(EntryKind.NOOP, 2, 2, 0, ()),)))
    assert node.raft.configuration.voters == (1, 2, 3)

    node.campaign()
    node.receive(3, vote(node.raft.term))
    assert node.raft.role is not Role.LEADER


def test_a_restart_does_not_make_a_voter_of_who_was_one_long_ago() -> None:
    """4.2.2 ends with the commitment of the removal, and a configuration behind it proves that."""
    node = LoneNode((1,))
    members = configuration_of((1, 2, 3))
    demoted = replace(members, voters=(2, 3), learners=(1,))
    moved = replace(demoted, members=(replace(members.members[0], address="elsewhere"), *members.members[1:]))
    payloads = [encode_configuration(each) for each in (demoted, moved)]
    entries = tuple(
        Entry.create(EntryKind.CONFIGURATION, 1, 2 + place, 0, [payload])
        for place, payload in enumerate(payloads)
    )
    node.receive(2, AppendRequest(1, 1, 1, 1, entries[:1]))
    node.start()
    assert node.wait(2000) != []

    node.receive(2, AppendRequest(1, 2, 1, 1, entries[1:]))
    node.start()
    assert node.wait(2000) == []
    assert node.raft.committed_configuration == demoted
