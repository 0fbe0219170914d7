"""A snapshot becomes the state in steps: beside the state that is served, all at once, and then what was is let go."""

from collections.abc import Callable

import pytest

from d_engine.format.errors import SnapshotError
from d_engine.format.messages import Heartbeat, HeartbeatResponse
from d_engine.replica.installation import Installation
from d_engine.replica.metrics import metrics_of
from d_engine.replica.settings import MILLISECOND
from tests.replica.small_cluster import Cluster, snapshots_of
from tests.replica.test_installer import is_whole, left_behind, let_in


def until(cluster: Cluster, condition: Callable[[], bool]) -> None:
    """One thing after the other, and time when there is none."""
    for _ in range(100_000):
        if condition():
            return
        if not cluster.step():
            cluster.time += 20 * MILLISECOND
            for node in cluster.nodes.values():
                node.replica.wake()
    raise AssertionError("it never happens")


def installing(cluster: Cluster) -> Installation | None:
    return cluster[3].replica.executor.snapshots._installing


def begun() -> Cluster:
    """Node 3 has fetched a snapshot and begins to read it."""
    cluster = left_behind()
    let_in(cluster, 0)
    until(cluster, lambda: installing(cluster) is not None)
    return cluster


def test_a_node_answers_its_leader_and_serves_what_it_has_meanwhile() -> None:
    cluster = begun()
    node = cluster[3]
    digest, applied = node.machine.digest(), node.replica.applier.applied_index
    cluster.log.clear()
    steps = 0
    while (installation := installing(cluster)) is not None and installation.reading:
        steps += 1
        assert (node.machine.digest(), node.replica.applier.applied_index) == (digest, applied)
        assert node.replica.executor.snapshots.installed == 0
        assert metrics_of(node.replica)["snapshot_installing"] == 1
        if steps == 1:
            # The installer works in turns, so a heartbeat finds one.
            term = node.replica.raft.term
            node.replica.receive(1, Heartbeat(term, 1000, 0, 0))
        until(cluster, lambda: bool(node.turns))
        node.turn()
    assert steps > 2
    assert any(isinstance(message, HeartbeatResponse) for _, _, message in cluster.queue) or any(
        isinstance(message, HeartbeatResponse) for message in cluster.log
    )
    until(cluster, lambda: installing(cluster) is None)
    assert node.replica.executor.snapshots.installed == 1
    assert metrics_of(node.replica)["snapshot_installing"] == 0
    cluster.run(1000)
    assert is_whole(cluster)


def test_what_is_not_needed_any_more_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """The log may have caught up meanwhile."""
    cluster = begun()
    node = cluster[3]
    digest, names = node.machine.digest(), snapshots_of(node)
    assert len(names) == 1
    with monkeypatch.context() as patch:
        patch.setattr(node.replica.executor.snapshots, "_is_needed", lambda meta: False)
        node.replica.wake()
        until(cluster, lambda: installing(cluster) is None)
        until(cluster, lambda: not snapshots_of(node))
        assert node.machine.digest() == digest
    cluster.run(3000)
    assert is_whole(cluster)


def test_a_state_that_cannot_be_read_stops_the_node_and_changes_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cluster = left_behind()
    node = cluster[3]
    digest = node.machine.digest()

    def restoring(source: object) -> object:
        yield
        raise SnapshotError("this is no state")

    monkeypatch.setattr(node.machine, "restoring", restoring)
    let_in(cluster)
    assert isinstance(node.failure, SnapshotError)
    assert node.machine.digest() == digest


def test_a_restart_in_the_middle_comes_to_the_same_end() -> None:
    cluster = begun()
    cluster[3].stop()
    cluster[3].start()
    assert cluster[3].replica.applier.applied_index > 60
    cluster.run(2000)
    assert is_whole(cluster)
