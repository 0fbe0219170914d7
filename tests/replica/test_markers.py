"""Digests and markers (architecture, section 11): who finds out what when replicas differ."""

from d_engine.format.entry import Entry, EntryKind
from d_engine.format.messages import DigestReport
from d_engine.format.state_machine import ApplyContext
from d_engine.kv.commands import encode_put
from d_engine.replica.digest import DIGEST_BYTES, NOTHING, roll
from d_engine.replica.markers import KEPT
from d_engine.replica.settings import MILLISECOND
from tests.replica.small_cluster import NEVER, Cluster

EVERY = 1000 * MILLISECOND


def cluster_of(count: int) -> Cluster:
    cluster = Cluster(count, NEVER, EVERY)
    cluster.elect()
    return cluster


def spoil(cluster: Cluster, node: int, key: bytes = b"rot") -> None:
    """The state machine of this node becomes different from the others'."""
    machine = cluster[node].machine
    machine.apply([encode_put(key, b"never written by anybody")], ApplyContext(1, 1, 0))


def digests(cluster: Cluster) -> set[bytes]:
    return {node.replica.applier.digest for node in cluster.nodes.values()}


def test_everything_that_an_entry_did_is_in_the_digest() -> None:
    entry = Entry.create(EntryKind.COMMANDS, 1, 7, 0, (b"payload",))
    digest = roll(NOTHING, entry, 3, [b"ok"])
    assert len(digest) == DIGEST_BYTES
    others = [
        roll(digest, entry, 3, [b"ok"]),
        roll(NOTHING, Entry.create(EntryKind.COMMANDS, 1, 8, 0, (b"payload",)), 3, [b"ok"]),
        roll(NOTHING, Entry.create(EntryKind.COMMANDS, 1, 7, 0, (b"other payload",)), 3, [b"ok"]),
        roll(NOTHING, entry, 4, [b"ok"]),
        roll(NOTHING, entry, 3, [b"no"]),
    ]
    assert len({digest, *others}) == 6


def test_replicas_have_equal_digests_at_equal_indexes() -> None:
    cluster = cluster_of(3)
    cluster.put(20)
    assert len(digests(cluster)) == 1
    assert digests(cluster) != {NOTHING}


def test_a_restored_node_goes_on_with_the_digest() -> None:
    cluster = cluster_of(3)
    cluster.put(20)
    cluster.snapshot(3)
    cluster[3].stop()
    cluster[3].start()
    cluster.put(5)
    assert cluster[3].replica.executor.snapshots.files.newest is not None
    assert len(digests(cluster)) == 1


def test_the_leader_logs_a_marker_in_equal_intervals_and_all_agree_on_it() -> None:
    cluster = cluster_of(3)
    cluster.put(3)
    cluster.run(3500)
    for node in cluster.nodes.values():
        markers = node.replica.executor.guard.markers
        assert markers.count == 4
        assert markers.agreed_index == cluster[1].replica.raft.commit_index
        assert not node.health


def test_a_node_alone_logs_no_markers() -> None:
    cluster = cluster_of(1)
    cluster.put(3)
    last = cluster[1].replica.raft.last_index
    cluster.run(5000)
    assert cluster[1].replica.raft.last_index == last


def test_without_an_agreeing_majority_there_is_an_alarm_and_nobody_is_accused() -> None:
    cluster = cluster_of(2)
    cluster.put(3)
    spoil(cluster, 2)
    cluster.put(3)
    cluster.run(2000)
    for node in cluster.nodes.values():
        assert "no majority agrees" in node.replica.executor.guard.health.alarm
        assert node.health[-1].alarm
        assert not node.replica.executor.guard.markers.differs_at
        assert node.failure is None


def test_three_that_all_differ_are_an_alarm() -> None:
    cluster = cluster_of(3)
    cluster.put(3)
    spoil(cluster, 2)
    spoil(cluster, 3)
    spoil(cluster, 3)
    cluster.put(3)
    cluster.run(2000)
    for node in cluster.nodes.values():
        assert "no majority agrees" in node.replica.executor.guard.health.alarm


def test_a_report_that_is_missing_delays_an_alarm_to_the_next_marker() -> None:
    cluster = cluster_of(3)
    cluster.put(3)
    spoil(cluster, 2)
    cluster.put(3)
    cluster.cut.append(3)
    cluster[3].stop()
    cluster.run(1020)
    counts = cluster[1].replica.executor.guard.markers.count
    assert not cluster[1].replica.executor.guard.health.alarm
    cluster.run(1020)
    assert cluster[1].replica.executor.guard.markers.count == counts + 1
    assert cluster[1].replica.executor.guard.health.alarm


def test_what_members_report_takes_little_memory() -> None:
    cluster = cluster_of(3)
    markers = cluster[1].replica.executor.guard.markers
    for index in range(1, 1000):
        markers.reported(2, DigestReport(index, NOTHING))
        markers.reported(77, DigestReport(index, NOTHING))
    assert {node: len(told) for node, told in markers._told.items()} == {2: KEPT}
