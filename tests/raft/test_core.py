"""The ordering rules of the architecture's section 3, one test each. What takes several nodes to show is in the
scenarios, which the tests name."""

from d_engine.format.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    ReadRequest,
    ReadResponse,
    VoteRequest,
    VoteResponse,
)
from d_engine.format.state import HardState
from d_engine.raft.effects import ReadReady, Role
from tests.raft.lone_node import LoneNode, command, commands, only


def test_vote_leaves_after_it_is_durable() -> None:
    """Section 3, first ordering rule; scenario `vote_waits_for_disk`."""
    node = LoneNode((1,))
    node.auto_persist = False

    assert node.receive(2, VoteRequest(5, 1, 1, pre=False, transfer=False)) == []
    assert node.persist() == [(2, VoteResponse(5, True, False))]


def test_vote_request_leaves_after_the_own_vote_is_durable() -> None:
    """Section 3, first ordering rule; the candidate's vote for itself counts only then, too."""
    node = LoneNode((1,), voters=(1,))
    node.auto_persist = False

    node.campaign()
    assert node.raft.role is Role.CANDIDATE
    node.persist()
    assert node.raft.term == 2
    assert node.raft.leader == 1


def test_higher_term_leaves_after_it_is_durable() -> None:
    """Section 3, first ordering rule: even a refusal tells a term."""
    node = LoneNode((1, 3))
    node.auto_persist = False

    assert node.receive(2, VoteRequest(5, 1, 1, pre=False, transfer=False)) == []
    assert node.persist() == [(2, VoteResponse(5, False, False))]


def test_acknowledgement_leaves_after_the_entries_are_durable() -> None:
    """Section 3, first ordering rule; scenario `acknowledgement_waits_for_disk`."""
    node = LoneNode((1,))
    node.follow()
    node.auto_persist = False

    assert node.receive(2, AppendRequest(1, 1, 1, 0, commands(2, (1, 1)))) == []
    assert node.persist() == [(2, AppendResponse(1, 3))]


def test_leader_sends_first_and_counts_itself_when_durable() -> None:
    """Section 3, first ordering rule; scenario `leader_counts_itself_when_durable`."""
    node = LoneNode((1,))
    node.lead()
    node.auto_persist = False

    node.raft.propose([b"x"], 1, 0, node.now)
    assert len(only(node.turn(), AppendRequest)) == 2
    node.accept(2)
    assert node.raft.commit_index == 2
    node.persist()
    assert node.raft.commit_index == 3


def test_echo_needs_only_a_durable_term() -> None:
    """Section 3, first ordering rule: heartbeats never wait for a sync of the log."""
    node = LoneNode((1,))
    node.follow()
    node.auto_persist = False
    node.receive(2, AppendRequest(1, 1, 1, 0, commands(2, (1,))))

    assert node.receive(2, Heartbeat(1, 5, 0, 0)) == [(2, HeartbeatResponse(1, 5))]
    assert node.receive(3, Heartbeat(2, 1, 0, 0)) == []
    assert node.persist() == [(3, HeartbeatResponse(2, 1))]


def test_completion_counts_only_for_what_is_still_in_the_log() -> None:
    """Section 3, second ordering rule; scenario `completion_after_cut`."""
    node = LoneNode((1,))
    node.auto_persist = False
    node.receive(2, AppendRequest(1, 1, 1, 0, commands(2, (1, 1, 1))))
    node.receive(3, AppendRequest(2, 2, 1, 0, (command(3, 2),)))

    first = node.disk.complete_next()
    assert first is not None
    node.raft.persisted(first, node.now)

    assert node.raft.status().durable_index == 2


def test_completion_of_an_entry_that_was_cut_off_and_came_back_does_not_count() -> None:
    """Section 3, second ordering rule: the same index and term again, while the first write of it ends."""
    node = LoneNode((1,), hard_state=HardState(2))
    node.auto_persist = False
    node.receive(2, AppendRequest(2, 1, 1, 0, commands(2, (2, 2, 2))))
    node.receive(3, AppendRequest(3, 2, 2, 0, (command(3, 3),)))
    node.receive(2, AppendRequest(4, 2, 2, 0, commands(3, (2, 2))))

    first = node.disk.complete_next()
    assert first is not None
    node.raft.persisted(first, node.now)

    assert node.terms == [1, 2, 2, 2]
    assert node.raft.status().durable_index == 2


def test_commit_advances_only_over_entries_of_the_present_term() -> None:
    """Section 3, third ordering rule; scenario `figure_8`."""
    node = LoneNode((1, 1, 1))
    node.lead(ready=False)

    node.accept(2, 3)
    node.accept(3, 3)

    assert node.raft.commit_index == 0


def test_leader_tells_no_commit_index_that_it_has_not_applied() -> None:
    """Section 3, fourth ordering rule: not in appends, heartbeats, nor answers to reads."""
    node = LoneNode((1,))
    node.lead()
    node.auto_apply = False
    node.raft.propose([b"x"], 1, 0, node.now)
    node.turn()
    sends = node.accept(2)
    node.raft.propose([b"y"], 1, 0, node.now)
    sends += node.turn()
    sends += node.wait(100)
    sends += node.receive(2, ReadRequest(2, 1))
    sends += node.receive(2, HeartbeatResponse(2, 99))

    assert node.raft.commit_index == 3
    assert {
        message.commit_index for _, message in sends if isinstance(message, AppendRequest | Heartbeat)
    } == {2}
    assert only(sends, ReadResponse) == []

    node.raft.applied(3, node.now)
    sends = node.turn()
    assert only(sends, ReadResponse) == [(2, ReadResponse(2, 1, 3))]
    assert (2, Heartbeat(2, 0, 3, 0)) in sends


def test_commit_news_go_out_in_the_turn_that_applied() -> None:
    """Section 6: when commit advances and nothing else goes out, the leader sends the new index in the same turn."""
    node = LoneNode((1,))
    node.lead()
    node.raft.propose([b"x"], 1, 0, node.now)
    node.turn()

    sends = node.accept(2)

    assert sends == [(2, Heartbeat(2, 0, 3, 0))]


def test_no_read_before_the_first_entry_of_the_term_is_applied() -> None:
    """Section 3, fourth ordering rule; scenario `read_waits_for_noop`."""
    node = LoneNode((1, 1))
    node.lead(ready=False)
    node.raft.read(node.now)
    node.turn()
    node.receive(2, HeartbeatResponse(2, 1))
    assert node.gathered.read_ready is None

    node.accept(2)
    node.receive(2, HeartbeatResponse(2, 2))

    assert node.gathered.read_ready == ReadReady(1, 3)


def test_log_time_never_falls() -> None:
    """Section 7: an entry gets at least the highest log time that was seen, in an entry or a heartbeat."""
    node = LoneNode((1,))
    node.receive(2, Heartbeat(1, 1, 0, 5000))
    assert node.raft.highest_log_time == 5000
    node.now += 10**9
    node.lead()

    assert node.raft.propose([b"x"], 1, 4000, node.now).log_time == 5000
    assert node.raft.propose([b"x"], 1, 6000, node.now).log_time == 6000
    node.raft.set_log_time(7000)
    assert [m.log_time for _, m in node.wait(100) if isinstance(m, Heartbeat)] == [7000, 7000]
