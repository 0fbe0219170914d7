"""Changes of members: a test for each rule of the architecture's section 3."""

import pytest

from d_engine.format.configuration import Configuration, Member
from d_engine.format.entry import EntryKind
from d_engine.format.errors import ChangePendingError, MembershipError
from d_engine.format.messages import (
    AppendRequest,
    TimeoutNow,
    VoteResponse,
)
from d_engine.format.state import RecoveredLog
from d_engine.raft.core import Raft
from d_engine.raft.effects import Role
from d_engine.raft.membership import AddLearner, Demote, Promote, Remove
from d_engine.raft.settings import RaftSettings
from tests.raft.lone_node import LoneNode, command, configuration_of


def test_configuration_is_effective_when_appended_and_rolled_back_when_cut_off() -> None:
    """Section 3, joint consensus; scenario `change_rolled_back`."""
    node = LoneNode((1,))
    node.lead()
    learners = [node.raft.configuration.learners]
    node.raft.propose_change(AddLearner(Member(4)), 0, node.now)
    learners.append(node.raft.configuration.learners)
    node.receive(2, AppendRequest(3, 2, 2, 2, (command(3, 3),)))
    learners.append(node.raft.configuration.learners)

    assert learners == [(), (4,), ()]


def test_change_is_refused_before_the_first_entry_of_the_term_is_applied() -> None:
    """Section 3; dissertation, 4.3 (the single-server bug); scenario `single_server_bug`."""
    node = LoneNode((1,))
    node.lead(ready=False)

    with pytest.raises(ChangePendingError):
        node.raft.propose_change(Remove(3), 0, node.now)


def test_second_change_is_refused_while_one_is_under_way() -> None:
    """Section 3; scenario `one_change_at_a_time`."""
    node = LoneNode((1,))
    node.lead()
    node.raft.propose_change(Remove(3), 0, node.now)

    with pytest.raises(ChangePendingError):
        node.raft.propose_change(AddLearner(Member(4)), 0, node.now)


def test_leader_leaves_the_joint_state_by_itself() -> None:
    """Section 3, joint consensus: also a new leader that finds one."""
    node = LoneNode((1,))
    node.lead()
    node.raft.propose_change(Remove(3), 0, node.now)
    node.turn()
    assert node.raft.configuration.joint

    node.accept(2)

    assert not node.raft.configuration.joint
    assert node.raft.configuration.voters == (1, 2)

    joint = LoneNode(
        (1,), configuration=Configuration(7, configuration_of((1, 2, 3)).members, (1, 2), (1, 2, 3))
    )
    joint.lead()
    assert joint.raft.configuration.voters == (1, 2)
    assert not joint.raft.configuration.joint


def test_only_a_change_of_voters_is_joint() -> None:
    """Section 3: learners, addresses and incarnations change in one entry."""
    node = LoneNode((1,))
    node.lead()

    node.raft.propose_change(AddLearner(Member(4)), 0, node.now)

    assert not node.raft.configuration.joint


def test_removed_leader_does_not_count_itself_and_steps_down() -> None:
    """Section 3; dissertation, 4.2.2; scenario `leader_removes_itself`."""
    node = LoneNode((1,))
    node.lead()
    node.raft.propose_change(Remove(1), 0, node.now)
    node.turn()
    node.accept(2)
    node.accept(3)
    assert node.raft.role is Role.LEADER

    node.accept(2)
    assert node.raft.role is Role.LEADER
    assert node.accept(3)[-1] == (2, TimeoutNow(2))
    assert node.raft.leader == 0


def test_voter_that_is_not_bound_does_not_count() -> None:
    """Section 3, birth and identity: it counts in the size, never as a yes; scenario `unbound_voter`."""
    node = LoneNode((1,), configuration=configuration_of((1, 2, 3), unbound=(3,)))
    node.campaign()

    node.receive(3, VoteResponse(2, True, False))
    assert node.raft.role is Role.CANDIDATE
    node.receive(2, VoteResponse(2, True, False))
    node.accept(3)
    assert node.raft.commit_index == 0
    node.accept(2)
    assert node.raft.commit_index == 2


def test_leader_binds_a_member_that_it_meets() -> None:
    """Section 3, birth and identity: by a configuration entry, as soon as no change is pending."""
    node = LoneNode((1,), configuration=configuration_of((1, 2, 3), unbound=(3,)))
    node.lead()

    node.raft.peer_incarnation(3, 103, node.now)

    member = node.raft.configuration.member(3)
    assert member is not None
    assert member.incarnation == 103


def test_birth_is_the_first_entry_and_names_those_who_are_known() -> None:
    """Section 3, birth and identity; scenario `birth`."""
    bootstrap = Configuration(0, (Member(1), Member(2), Member(3)), (1, 2, 3))
    raft = Raft(RaftSettings(1, 101), RecoveredLog(), bootstrap, lambda first, size: (), lambda bits: 0, 0)
    raft.peer_incarnation(2, 102, 0)
    raft.tick(10**9)
    raft.effects(10**9)
    raft.step(2, VoteResponse(1, True, True), 10**9)
    raft.effects(10**9)
    raft.persisted(1, 10**9)
    raft.step(2, VoteResponse(1, True, False), 10**9)

    (entry,) = raft._state.log.slice(1, 1, 0)
    assert entry.kind is EntryKind.CONFIGURATION
    assert raft.configuration.cluster_id != 0
    assert [member.incarnation for member in raft.configuration.members] == [101, 102, 0]


def test_learner_gets_the_log_and_does_not_count() -> None:
    """Section 3, learners; scenario `learner_does_not_count`."""
    node = LoneNode((1,), configuration=configuration_of((1, 2, 3), learners=(4,)))
    node.lead(ready=False)

    node.accept(4)

    assert node.raft.status().peers[4].match_index == 2
    assert node.raft.commit_index == 0


def test_promotion_leaves_a_majority_that_counts() -> None:
    """Section 3, birth and identity: voters that are not bound never count, so they must not be half of all."""
    node = LoneNode((1,), voters=(1,))
    node.lead()
    node.persist()

    with pytest.raises(MembershipError):
        node.raft.propose_change([AddLearner(Member(4)), Promote(4)], 0, node.now)
    node.raft.peer_incarnation(4, 104, node.now)
    node.raft.propose_change([AddLearner(Member(4)), Promote(4)], 0, node.now)
    assert node.raft.configuration.voters == (1, 4)


def test_data_directory_does_not_change_under_an_id_within_one_step() -> None:
    """Section 3, joint consensus: another directory is another voter, and needs a step of its own."""
    node = LoneNode((1,))
    node.lead()

    with pytest.raises(MembershipError):
        node.raft.propose_change([Remove(3), AddLearner(Member(3, "", 999)), Promote(3)], 0, node.now)


def test_second_change_is_told_what_is_pending() -> None:
    """Section 3: one change at a time."""
    node = LoneNode((1,))
    node.lead()
    node.raft.propose_change([Remove(3), AddLearner(Member(4)), Promote(4)], 0, node.now)

    with pytest.raises(ChangePendingError, match="from nodes 1, 2, 3 to nodes 1, 2, 4"):
        node.raft.propose_change(Demote(2), 0, node.now)


def test_second_change_is_told_of_a_pending_learner() -> None:
    node = LoneNode((1,))
    node.lead()
    node.raft.propose_change([AddLearner(Member(4)), Remove(3)], 0, node.now)
    joint = node.raft.status().pending_change
    other = LoneNode((1,))
    other.lead()
    other.raft.propose_change(AddLearner(Member(4)), 0, other.now)

    assert joint == "voters change from nodes 1, 2, 3 to nodes 1, 2 (log index 3)"
    assert other.raft.status().pending_change == "node 4 is added (log index 3)"
