"""What can be seen of the core: the status, entries for applying, what a snapshot stands for."""

from d_engine.format.messages import AppendRequest
from d_engine.raft.effects import Effects, Role
from tests.raft.lone_node import LoneNode


def test_status_of_a_leader_names_its_peers() -> None:
    node = LoneNode((1,))
    node.lead()
    node.raft.propose([b"x"], 1, 0, node.now)
    node.turn()
    node.accept(2)

    status = node.raft.status()
    assert (status.role, status.term, status.leader, status.ready) == (Role.LEADER, 2, 1, True)
    assert (status.first_index, status.last_index, status.durable_index) == (1, 3, 3)
    assert (status.commit_index, status.applied_index, status.configuration_index) == (3, 3, 1)
    assert {peer: (known.state, known.lag) for peer, known in status.peers.items()} == {
        2: ("replicate", 0),
        3: ("replicate", 1),
    }


def test_status_of_a_follower_has_no_peers() -> None:
    node = LoneNode((1,))
    node.follow(leader=3)

    status = node.raft.status()
    assert (status.role, status.leader, status.ready) == (Role.FOLLOWER, 3, False)
    assert not status.peers


def test_entries_for_applying_end_with_the_commit_index() -> None:
    node = LoneNode((1, 1, 1, 1))
    node.receive(2, AppendRequest(1, 4, 1, 3))

    assert [entry.index for entry in node.raft.entries(2, 1 << 20)] == [2, 3]
    assert [entry.index for entry in node.raft.entries(2, 1)] == [2]
    assert node.raft.entries(4, 1 << 20) == ()


def test_snapshot_stands_for_what_is_committed() -> None:
    node = LoneNode((1, 1, 1))
    assert node.raft.snapshot_meta(1) is None
    node.receive(2, AppendRequest(1, 3, 1, 2))

    meta = node.raft.snapshot_meta(2)
    assert meta is not None
    assert (meta.index, meta.term, meta.configuration.voters) == (2, 1, (1, 2, 3))
    assert node.raft.snapshot_meta(3) is None


def test_committed_configuration_can_be_older_than_the_one_in_force() -> None:
    node = LoneNode((1,))

    assert node.raft.configuration.voters == (1, 2, 3)
    assert node.raft.committed_configuration.voters == ()


def test_effects_are_false_when_there_is_nothing_to_do() -> None:
    assert not Effects()
    assert Effects(commit_index=3)
