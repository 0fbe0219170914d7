"""One test for each rule of figure 2 of the Raft paper (Ongaro and Ousterhout, 2014)."""

from itertools import pairwise

from d_engine.format.ids import NOBODY
from d_engine.format.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    VoteRequest,
    VoteResponse,
)
from d_engine.format.state import HardState
from d_engine.raft.effects import Role
from d_engine.raft.settings import RaftSettings
from tests.raft.lone_node import MS, LoneNode, commands, only


def vote_request(term: int, last_index: int, last_term: int) -> VoteRequest:
    return VoteRequest(term, last_index, last_term, pre=False, transfer=False)


# --- state -----------------------------------------------------------------------------------------------------------


def test_term_vote_and_log_survive_a_restart() -> None:
    """Figure 2, "persistent state on all servers"."""
    node = LoneNode((1,))
    node.receive(2, vote_request(5, 1, 1))
    node.receive(2, AppendRequest(5, 1, 1, 0, commands(2, (5, 5))))

    node.disk.crash()
    node.start()

    assert node.raft.term == 5
    assert node.raft._state.hard_state.vote == 2
    assert node.terms == [1, 5, 5]


def test_nothing_is_answered_before_it_is_on_stable_storage() -> None:
    """Figure 2, "updated on stable storage before responding to RPCs"."""
    node = LoneNode((1,))
    node.auto_persist = False

    assert node.receive(2, vote_request(5, 1, 1)) == []
    assert node.persist() == [(2, VoteResponse(5, True, False))]
    assert node.receive(2, AppendRequest(5, 1, 1, 0, commands(2, (5,)))) == []
    assert node.persist() == [(2, AppendResponse(5, 2))]


def test_commit_index_starts_at_zero_and_rises_monotonically() -> None:
    """Figure 2, "volatile state on all servers"."""
    node = LoneNode((1, 1, 1))

    assert node.raft.commit_index == 0
    node.receive(2, AppendRequest(1, 3, 1, 3))
    node.receive(2, AppendRequest(1, 3, 1, 1))
    assert node.raft.commit_index == 3


def test_new_leader_knows_nothing_about_its_peers() -> None:
    """Figure 2, "volatile state on leaders": next index behind the last log entry, match index 0."""
    node = LoneNode((1, 1, 1))
    node.lead(ready=False)

    for peer in node.raft.status().peers.values():
        assert (peer.next_index, peer.match_index) == (4, 0)


# --- AppendEntries RPC, receiver -------------------------------------------------------------------------------------


def test_append_of_an_old_term_is_refused() -> None:
    """Figure 2, AppendEntries rule 1 (5.1)."""
    node = LoneNode((1,), hard_state=HardState(4))

    sends = node.receive(2, AppendRequest(3, 1, 1, 1, commands(2, (3,))))

    assert sends == [(2, AppendResponse(4, 0))]
    assert node.terms == [1]


def test_append_behind_an_unknown_entry_is_refused() -> None:
    """Figure 2, AppendEntries rule 2 (5.3): no entry at prev index, or another term there."""
    node = LoneNode((1, 1, 2))

    absent = node.receive(2, AppendRequest(4, 9, 2, 0, commands(10, (4,))))
    different = node.receive(2, AppendRequest(4, 3, 4, 0, commands(4, (4,))))

    assert absent == [(2, AppendResponse(4, 0, 9, 3, 2))]
    assert different == [(2, AppendResponse(4, 0, 3, 3, 2))]
    assert node.terms == [1, 1, 2]


def test_conflicting_entry_and_all_that_follow_are_deleted() -> None:
    """Figure 2, AppendEntries rule 3 (5.3)."""
    node = LoneNode((1, 1, 2, 2, 2))

    node.receive(2, AppendRequest(4, 2, 1, 0, commands(3, (2, 4))))

    assert node.terms == [1, 1, 2, 4]


def test_entries_that_are_there_already_stay() -> None:
    """Figure 2, AppendEntries rule 4 (5.3): only what is new is appended, nothing is deleted without a conflict."""
    node = LoneNode((1, 1, 1, 1))

    sends = node.receive(2, AppendRequest(1, 1, 1, 0, commands(2, (1,))))

    assert node.terms == [1, 1, 1, 1]
    assert sends == [(2, AppendResponse(1, 2))]


def test_commit_index_follows_the_leader_up_to_the_last_new_entry() -> None:
    """Figure 2, AppendEntries rule 5 (5.3): entries behind the last *new* one may still be another leader's."""
    node = LoneNode((1, 1, 1, 1))

    node.receive(2, AppendRequest(4, 1, 1, 4, commands(2, (1,))))

    assert node.raft.commit_index == 2


# --- RequestVote RPC, receiver ---------------------------------------------------------------------------------------


def test_vote_in_an_old_term_is_refused() -> None:
    """Figure 2, RequestVote rule 1 (5.1)."""
    node = LoneNode((1,), hard_state=HardState(4))

    assert node.receive(2, vote_request(3, 9, 3)) == [(2, VoteResponse(4, False, False))]


def test_vote_is_given_once_a_term_and_again_to_the_same_candidate() -> None:
    """Figure 2, RequestVote rule 2 (5.2)."""
    node = LoneNode((1,))

    assert node.receive(2, vote_request(4, 1, 1)) == [(2, VoteResponse(4, True, False))]
    assert node.receive(3, vote_request(4, 1, 1)) == [(3, VoteResponse(4, False, False))]
    assert node.receive(2, vote_request(4, 1, 1)) == [(2, VoteResponse(4, True, False))]


def test_vote_is_given_only_to_an_up_to_date_log() -> None:
    """Figure 2, RequestVote rule 2 (5.4.1): the later last term wins, then the longer log."""
    for last_index, last_term, granted in (
        (3, 2, True),
        (4, 2, True),
        (1, 3, True),
        (2, 2, False),
        (9, 1, False),
    ):
        node = LoneNode((1, 2, 2))

        sends = node.receive(2, vote_request(5, last_index, last_term))

        assert sends == [(2, VoteResponse(5, granted, False))], (last_index, last_term)


# --- rules for all servers -------------------------------------------------------------------------------------------


def test_what_is_committed_is_applied_in_order() -> None:
    """Figure 2, all servers (5.3)."""
    node = LoneNode((1, 1, 1))
    node.auto_apply = False
    node.receive(2, AppendRequest(1, 3, 1, 2))

    assert node.raft.commit_index == 2
    assert [entry.index for entry in node.raft.entries(1, 1 << 20)] == [1, 2]
    assert node.raft.entries(3, 1 << 20) == ()


def test_newer_term_makes_a_follower() -> None:
    """Figure 2, all servers (5.1)."""
    for message in (Heartbeat(9, 1, 0, 0), AppendResponse(9, 0), VoteResponse(9, False, False)):
        node = LoneNode((1,))
        node.lead()

        node.receive(3, message)

        assert (node.raft.role, node.raft.term) == (Role.FOLLOWER, 9), message


# --- rules for followers ---------------------------------------------------------------------------------------------


def test_follower_campaigns_after_a_time_out_without_leader() -> None:
    """Figure 2, followers (5.2)."""
    node = LoneNode((1,))
    node.follow(leader=2)

    assert only(node.wait(499), VoteRequest) == []
    assert len(only(node.wait(1), VoteRequest)) == 2


def test_nodes_that_draw_the_same_numbers_do_not_campaign_together() -> None:
    """5.2: split votes must be rare, also where generators agree (faults: identical election timers)."""
    deadlines = []
    for node_id in (1, 2, 3, 4, 5):
        settings = RaftSettings(node_id, 100 + node_id)
        deadlines.append(LoneNode((1,), (1, 2, 3, 4, 5), settings=settings).raft.deadline)
    deadlines.sort()
    assert min(later - earlier for earlier, later in pairwise(deadlines)) >= 50 * MS


def test_hearing_the_leader_or_granting_a_vote_resets_the_time_out() -> None:
    """Figure 2, followers (5.2)."""
    node = LoneNode((1,))
    node.wait(400)
    node.follow(leader=2)
    assert node.wait(400) == []

    node.wait(200)
    node.receive(3, vote_request(8, 1, 1))
    assert node.wait(400) == []


# --- rules for candidates --------------------------------------------------------------------------------------------


def test_candidate_enters_the_next_term_votes_for_itself_and_asks_everybody() -> None:
    """Figure 2, candidates (5.2), after the pre-vote of the dissertation's 9.6."""
    node = LoneNode((1, 2))

    sends = node.campaign()

    assert (node.raft.term, node.raft._state.hard_state.vote, node.raft.role) == (3, 1, Role.CANDIDATE)
    assert sends == [(peer, vote_request(3, 2, 2)) for peer in (2, 3)]


def test_candidate_with_a_majority_leads() -> None:
    """Figure 2, candidates (5.2)."""
    node = LoneNode((1,), voters=(1, 2, 3, 4, 5))
    node.campaign()

    roles = []
    for voter in (2, 2, 4):
        node.receive(voter, VoteResponse(2, True, False))
        roles.append(node.raft.role)

    assert roles == [Role.CANDIDATE, Role.CANDIDATE, Role.LEADER]


def test_candidate_follows_a_leader_of_its_term() -> None:
    """Figure 2, candidates (5.2)."""
    node = LoneNode((1,))
    node.campaign()

    node.receive(3, AppendRequest(2, 1, 1, 0, commands(2, (2,))))

    assert (node.raft.role, node.raft.leader) == (Role.FOLLOWER, 3)


def test_candidate_tries_again_after_a_time_out() -> None:
    """Figure 2, candidates (5.2): a split vote ends in a new election."""
    node = LoneNode((1,))
    node.campaign()

    node.campaign()

    assert (node.raft.role, node.raft.term) == (Role.CANDIDATE, 3)


# --- rules for leaders -----------------------------------------------------------------------------------------------


def test_leader_sends_heartbeats_upon_election_and_when_idle() -> None:
    """Figure 2, leaders (5.2)."""
    node = LoneNode((1,))

    assert len(only(node.lead(), Heartbeat)) == 2
    assert only(node.wait(99), Heartbeat) == []
    assert len(only(node.wait(1), Heartbeat)) == 2


def test_leader_appends_commands_and_sends_them() -> None:
    """Figure 2, leaders (5.3): append to the local log, replicate what is behind each next index."""
    node = LoneNode((1,))
    node.lead()

    entry = node.raft.propose([b"x"], 1, 0, node.now)
    sends = node.turn()

    assert (entry.index, entry.term) == (3, 2)
    assert sends == [(peer, AppendRequest(2, 2, 2, 2, (entry,))) for peer in (2, 3)]


def test_success_moves_next_and_match_index() -> None:
    """Figure 2, leaders (5.3)."""
    node = LoneNode((1,))
    node.lead()
    node.raft.propose([b"x"], 1, 0, node.now)
    node.turn()

    node.accept(2)

    peer = node.raft.status().peers[2]
    assert (peer.match_index, peer.next_index) == (3, 4)


def test_rejection_moves_next_index_back_and_tries_again() -> None:
    """Figure 2, leaders (5.3), with the hint of the text's end of 5.3."""
    node = LoneNode((1, 1, 2, 2))
    node.lead(ready=False)

    sends = node.receive(2, AppendResponse(3, 0, 4, 2, 1))

    assert [
        (to, message.prev_index, len(message.entries))
        for to, message in sends
        if isinstance(message, AppendRequest)
    ] == [(2, 2, 3)]


def test_leader_commits_what_a_majority_has_in_its_own_term() -> None:
    """Figure 2, leaders (5.3, 5.4): never an earlier term's entry by counting."""
    node = LoneNode((1, 1, 1))
    node.lead(ready=False)

    node.accept(2, 3)
    assert node.raft.commit_index == 0
    node.accept(2, 4)
    assert node.raft.commit_index == 4


def test_everybody_learns_who_leads() -> None:
    """Figure 2, AppendEntries argument leaderId."""
    node = LoneNode((1,))
    assert node.raft.leader == NOBODY

    node.follow(leader=3)

    assert node.raft.leader == 3
