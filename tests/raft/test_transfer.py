"""Leadership transfer: the architecture's section 3."""

import pytest

from d_engine.format.errors import MembershipError
from d_engine.format.messages import (
    HeartbeatResponse,
    TimeoutNow,
    VoteRequest,
)
from d_engine.format.state import HardState
from d_engine.raft.effects import Role
from d_engine.raft.errors import NotLeader
from tests.raft.lone_node import LoneNode, configuration_of


def test_no_proposals_while_leadership_is_given_away() -> None:
    """Section 3, leadership transfer; scenario `transfer_to_lagging_node`."""
    node = LoneNode((1,))
    with pytest.raises(NotLeader):
        node.raft.propose([b"x"], 1, 0, node.now)
    node.lead()
    node.raft.transfer(3, node.now)

    with pytest.raises(NotLeader):
        node.raft.propose([b"x"], 1, 0, node.now)
    for _ in range(10):
        node.wait(100)
        node.receive(2, HeartbeatResponse(2, 1))
    assert node.raft.propose([b"x"], 1, 0, node.now).index == 3


def test_target_that_is_up_to_date_is_asked_at_once() -> None:
    """Dissertation, 3.10; scenario `transfer`."""
    node = LoneNode((1,))
    node.lead()
    node.raft.transfer(2, node.now)

    assert (2, TimeoutNow(2)) in node.turn()


def test_target_campaigns_without_pre_vote_and_says_so() -> None:
    """Dissertation, 3.10."""
    node = LoneNode((1,))
    node.follow(leader=2)

    sends = node.receive(2, TimeoutNow(1))

    assert sends == [(peer, VoteRequest(2, 1, 1, pre=False, transfer=True)) for peer in (2, 3)]


def test_call_to_campaign_counts_from_the_leader_only() -> None:
    """A delayed or foreign `TimeoutNow` moves nobody."""
    node = LoneNode((1,), hard_state=HardState(4))
    node.follow(leader=2, term=4)

    assert node.receive(3, TimeoutNow(4)) == []
    assert node.receive(2, TimeoutNow(3)) == []
    assert node.raft.role is Role.FOLLOWER


def test_bad_targets() -> None:
    """Scenario `transfer_bad_targets`: only a voter can take over, one attempt at a time."""
    node = LoneNode((1,), configuration=configuration_of((1, 2, 3), learners=(4,), unbound=(3,)))
    with pytest.raises(NotLeader):
        node.raft.transfer(2, node.now)
    node.lead()

    for target in (1, 3, 4, 9):
        with pytest.raises(MembershipError):
            node.raft.transfer(target, node.now)
    node.raft.transfer(2, node.now)
    node.raft.transfer(2, node.now)
    assert node.raft.status().transferee == 2


def test_best_transferee_is_alive_and_furthest() -> None:
    node = LoneNode((1,))
    assert node.raft.best_transferee(node.now) == 0
    node.lead()
    node.raft.propose([b"x"], 1, 0, node.now)
    node.turn()
    node.accept(3)
    assert node.raft.best_transferee(node.now) == 3

    node.wait(499)
    node.receive(2, HeartbeatResponse(2, 1))
    node.now += 1_000_000
    assert node.raft.best_transferee(node.now) == 2
