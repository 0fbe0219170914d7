"""Quarantine of a node whose state is wrong, and how it gets out of it (architecture, section 11)."""

import pytest

from d_engine.format.configuration import Member
from d_engine.format.errors import CorruptionError, DEngineError, UnavailableError
from d_engine.format.messages import MemberChange
from d_engine.format.requests import EVENTUAL, LINEARIZABLE
from d_engine.format.state import HardState, Quarantine
from d_engine.replica.settings import MILLISECOND
from d_engine.storage.quarantine import QUARANTINE_NAME, load_quarantine, saving
from tests.replica.small_cluster import NEVER, Cluster, snapshots_of
from tests.replica.test_markers import digests, spoil

EVERY = 1000 * MILLISECOND


def cluster_of(count: int) -> Cluster:
    cluster = Cluster(count, NEVER, EVERY)
    cluster.elect()
    cluster.put(5)
    return cluster


def until_found_out(cluster: Cluster, node: int) -> None:
    """The node has been in quarantine, or still is."""
    for _ in range(200):
        if any(health.quarantine for health in cluster[node].health):
            return
        cluster.run(20)
    raise AssertionError("it never is")


def until_whole(cluster: Cluster) -> None:
    for _ in range(400):
        if all(node.replica.raft.isolation.record is None for node in cluster.nodes.values()):
            cluster.run(100)
            return
        cluster.run(20)
    raise AssertionError({node.id: node.replica.raft.isolation.record for node in cluster.nodes.values()})


def test_a_follower_whose_state_is_wrong_gets_the_leaders() -> None:
    cluster = cluster_of(3)
    spoil(cluster, 2)
    until_found_out(cluster, 2)
    assert not any(node.health for node in (cluster[1], cluster[3]))
    until_whole(cluster)
    cluster.put(5)
    cluster.run(1500)
    assert len(digests(cluster)) == 1
    assert len({node.machine.digest() for node in cluster.nodes.values()}) == 1
    assert cluster[2].replica.executor.snapshots.installed == 1
    assert len(snapshots_of(cluster[2])) == 1
    assert QUARANTINE_NAME not in cluster[2].disk.files()
    assert [bool(health.quarantine) for health in cluster[2].health][-1] is False


def test_a_leader_whose_state_is_wrong_stops_leading_and_gets_the_next_ones() -> None:
    cluster = cluster_of(3)
    spoil(cluster, 1)
    until_found_out(cluster, 1)
    assert cluster[1].replica.raft.leader != 1
    until_whole(cluster)
    assert cluster[1].replica.executor.snapshots.installed == 1
    assert len(digests(cluster)) == 1


def test_nobody_sees_a_wrong_state() -> None:
    cluster = cluster_of(3)
    cluster.spoil = lambda sender, to, message: None if type(message).__name__ == "SnapshotChunk" else message
    spoil(cluster, 2)
    applied = cluster[2].replica.applier.applied_index
    until_found_out(cluster, 2)
    answers: list[DEngineError | None] = []
    replica = cluster[2].replica
    assert replica.executor.guard.closed
    for policy in (EVENTUAL, LINEARIZABLE):
        with pytest.raises(UnavailableError, match="quarantine"):
            replica.read(policy, 0, 10**9, 1, answers.append)
    with pytest.raises(UnavailableError, match="quarantine"):
        replica.propose(cluster.group(), 10**9, lambda outcome: None)
    with pytest.raises(UnavailableError, match="quarantine"):
        replica.snapshot(lambda header, error: None)
    stopped_at = replica.applier.applied_index
    assert stopped_at >= applied
    cluster.put(5)
    assert cluster[2].replica.applier.applied_index == stopped_at
    assert cluster[2].replica.raft.last_index < cluster[1].replica.raft.last_index


def test_reads_that_wait_when_the_state_turns_out_wrong_are_not_answered_from_it() -> None:
    cluster = cluster_of(3)
    spoil(cluster, 2)
    errors: list[DEngineError | None] = []
    cluster.spoil = lambda sender, to, message: None if type(message).__name__ == "ReadResponse" else message
    cluster[2].replica.read(LINEARIZABLE, 0, 10**11, 1, errors.append)
    until_found_out(cluster, 2)
    assert [type(error) for error in errors] == [UnavailableError]


def test_a_restart_does_not_end_a_quarantine() -> None:
    cluster = cluster_of(3)
    cluster.spoil = lambda sender, to, message: None if type(message).__name__ == "SnapshotChunk" else message
    cluster.snapshot(2)
    spoil(cluster, 2)
    until_found_out(cluster, 2)
    cluster.run(200)
    held = cluster[2].replica.raft.last_index
    cluster[2].stop()
    cluster[2].start()
    record = cluster[2].replica.raft.isolation.record
    assert record is not None
    assert record.needs_snapshot
    assert record.held_index == held
    assert cluster[2].replica.executor.guard.closed
    cluster.run(2000)
    assert cluster[2].replica.applier.applied_index == 0
    cluster.spoil = lambda sender, to, message: message
    until_whole(cluster)
    cluster.put(1)
    assert len(digests(cluster)) == 1


def test_without_repair_a_node_whose_state_is_wrong_stops() -> None:
    cluster = cluster_of(3)
    cluster[2].repair = False
    cluster[2].stop()
    cluster[2].start()
    cluster.put(3)
    spoil(cluster, 2)
    for _ in range(100):
        cluster.run(20)
        if cluster[2].failure is not None:
            break
    assert isinstance(cluster[2].failure, CorruptionError)


def test_without_repair_a_node_in_quarantine_is_refused() -> None:
    cluster = cluster_of(3)
    cluster[2].stop()
    cluster[2].disk.run(saving(HardState(1, 1), Quarantine("for a test", 5, False)))
    cluster[2].repair = False
    with pytest.raises(CorruptionError, match="for a test"):
        cluster[2].start()
    assert load_quarantine(cluster[2].disk) is not None


def test_the_leader_makes_one_snapshot_for_it() -> None:
    cluster = cluster_of(3)
    spoil(cluster, 2)
    until_found_out(cluster, 2)
    until_whole(cluster)
    assert cluster[1].replica.executor.snapshots.taking.taken == 1


def test_a_node_in_quarantine_passes_changes_of_members_on() -> None:
    """So that an operator may replace it, whichever node he asks."""
    cluster = cluster_of(3)
    cluster.spoil = lambda sender, to, message: None if type(message).__name__ == "SnapshotChunk" else message
    spoil(cluster, 2)
    until_found_out(cluster, 2)
    errors: list[DEngineError | None] = []
    cluster[2].replica.change((MemberChange("set_address", Member(3, "new:1")),), True, 10**10, errors.append)
    cluster.run(100)
    assert errors == [None]
    member = cluster[1].replica.raft.configuration.member(3)
    assert member is not None
    assert member.address == "new:1"
