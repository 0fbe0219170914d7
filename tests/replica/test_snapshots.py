"""Taking snapshots, cutting the log, starting from them."""

from dataclasses import replace

import pytest

from d_engine.format.errors import CorruptionError, DEngineError, DiskError, DiskFullError, SnapshotError
from d_engine.format.group import encode_group
from d_engine.kv.commands import encode_put
from d_engine.kv.machine import KvStateMachine
from d_engine.replica.session_codec import decode_sessions
from d_engine.replica.settings import MILLISECOND
from d_engine.storage.disk import CreateFile, DiskOperation, Lane, WriteFile
from d_engine.storage.snapshot_format import Section, SnapshotHeader
from d_engine.storage.snapshots import SAVING_NAME
from tests.replica.small_cluster import NEVER, OFTEN, Cluster, snapshots_of

SLOW = replace(NEVER, slice_bytes=1)


def one_node() -> Cluster:
    cluster = Cluster(1, NEVER)
    cluster.elect()
    return cluster


def restart(cluster: Cluster, node: int = 1) -> None:
    cluster[node].stop()
    cluster[node].start()
    cluster.run(2000)


def test_a_snapshot_on_demand_is_of_what_was_applied_then() -> None:
    cluster = one_node()
    cluster.put(10)
    before = cluster[1].replica.applier.applied_index
    header = cluster.snapshot(1)
    assert (header.index, header.term) == (before, 1)
    assert snapshots_of(cluster[1]) == [f"snapshot-{before:014d}-{1:015d}.snp"]


def test_the_view_is_exact_whatever_is_written_meanwhile() -> None:
    cluster = Cluster(1, SLOW)
    cluster.elect()
    cluster.put(60, 1)
    replica, frozen = cluster[1].replica, cluster[1].machine.digest()
    index, sessions = replica.applier.applied_index, replica.applier.sessions.freeze()
    headers: list[SnapshotHeader | None] = []
    replica.snapshot(lambda header, error: headers.append(header))
    cluster[1].turn()
    for number in range(20):
        assert cluster[1].replica.executor.snapshots.taking.written
        group = encode_group(cluster.session, 1000 + number, 0, [encode_put(b"key %d" % number, b"changed")])
        outcomes: list[object] = []
        replica.propose(group, 10**10, outcomes.append)
        while not outcomes:
            if not cluster[1].turn():
                assert cluster[1].disk.step(Lane.LOG)
    cluster.run()
    assert headers[0] is not None
    assert headers[0].index == index
    file = replica.executor.snapshots.files.find(index, 1)
    assert file is not None
    machine = KvStateMachine()
    machine.restore(file.pieces(Section.STATE))
    assert machine.digest() == frozen != cluster[1].machine.digest()
    assert decode_sessions(file.pieces(Section.SESSIONS)) == sessions


def test_a_second_demand_waits_for_a_snapshot_of_its_own() -> None:
    cluster = one_node()
    cluster.put(3)
    headers: list[SnapshotHeader | None] = []
    ask = cluster[1].replica.snapshot
    ask(lambda header, error: headers.append(header))
    cluster[1].turn()
    cluster.put(1)
    ask(lambda header, error: headers.append(header))
    ask(lambda header, error: headers.append(header))
    cluster.run()
    assert [header is not None for header in headers] == [True] * 3
    cluster.put(1)
    index = cluster[1].replica.applier.applied_index
    assert cluster.snapshot(1).index == index
    assert cluster.snapshot(1).index == index, "nothing has happened since: it is the same"


def test_there_is_nothing_to_take_before_anything_was_applied() -> None:
    cluster = Cluster(3, NEVER)
    errors: list[DEngineError | None] = []
    cluster[1].replica.snapshot(lambda header, error: errors.append(error))
    cluster.run()
    assert isinstance(errors[0], SnapshotError)


def test_enough_log_is_reason_for_a_snapshot() -> None:
    cluster = Cluster(1, OFTEN)
    cluster.elect()
    cluster.put(5, 10)
    assert snapshots_of(cluster[1]) == []
    cluster.put(30, 10)
    assert len(snapshots_of(cluster[1])) >= 1


def test_a_large_snapshot_is_reason_to_wait() -> None:
    cluster = Cluster(1, OFTEN)
    cluster.elect()
    cluster.put(50, 400)
    snapshots = cluster[1].replica.executor.snapshots
    taken, size = snapshots.taking.taken, cluster.snapshot(1).size
    assert size > 20_000
    while snapshots.taking.log_bytes < size // 2:
        cluster.put(1, 400)
    assert snapshots.taking.taken == taken + 1
    cluster.put(40, 400)
    assert snapshots.taking.taken == taken + 2


def test_nodes_do_not_take_them_all_at_once() -> None:
    cluster = Cluster(3, OFTEN)
    cluster.elect()
    first: dict[int, int] = {}
    for number in range(60):
        cluster.put(1, 5)
        for node in cluster.ids:
            if snapshots_of(cluster[node]):
                first.setdefault(node, number)
    assert first[1] < first[2] < first[3]


def test_the_log_is_cut_behind_the_older_of_two() -> None:
    cluster = one_node()
    cluster.put(10)
    first = cluster.snapshot(1).index
    cluster.put(10)
    cluster.run(100)
    raft = cluster[1].replica.raft
    assert raft.first_index == 1, "one alone might be bad"
    cluster.snapshot(1)
    cluster.run(100)
    assert raft.first_index == first + 1
    assert cluster[1].replica.storage.read(first + 1, 1)[0].index == first + 1


def test_a_node_starts_from_its_snapshot_and_the_log_behind_it() -> None:
    cluster = one_node()
    cluster.put(30)
    cluster.snapshot(1)
    cluster.put(5)
    cluster.snapshot(1)
    outcome = cluster.put(5)
    group, digest = cluster.group(), cluster[1].machine.digest()
    log_time = cluster[1].replica.raft.highest_log_time
    cluster.run(100)
    assert cluster[1].replica.raft.first_index > 30
    restart(cluster)
    assert cluster[1].machine.digest() == digest
    assert cluster[1].replica.raft.highest_log_time >= log_time
    assert cluster[1].replica.cluster_id
    repeated = cluster.propose(lambda done: cluster[1].replica.propose(group, 10**10, done))
    assert (repeated.error, repeated.revision) == (None, outcome.revision)
    assert cluster[1].machine.digest() == digest, "nothing is applied twice"


def test_what_a_snapshot_holds_is_committed_and_applied_at_once() -> None:
    cluster = Cluster(3, NEVER)
    cluster.elect()
    cluster.put(10)
    index = cluster.snapshot(2).index
    cluster.cut = [2]
    cluster[2].stop()
    cluster[2].start()
    raft = cluster[2].replica.raft
    assert (raft.commit_index, raft.applied_index) == (index, index)
    assert cluster[2].members[-1] == index
    assert cluster.digests() == [cluster[1].machine.digest()] * 3


def test_a_bad_snapshot_costs_time_and_nothing_else() -> None:
    cluster = one_node()
    cluster.put(30)
    cluster.snapshot(1)
    cluster.put(5)
    cluster.snapshot(1)
    cluster.put(5)
    cluster.run(100)
    digest, disk = cluster[1].machine.digest(), cluster[1].disk
    bad = snapshots_of(cluster[1])[1]
    disk.flip(bad, disk.size(bad) // 2)
    restart(cluster)
    assert cluster[1].machine.digest() == digest
    assert bad in cluster[1].replica.executor.snapshots.files.refused[0]
    cluster.put(3)
    cluster.snapshot(1)
    cluster.run()
    assert bad not in snapshots_of(cluster[1])


def test_without_any_good_snapshot_a_cut_log_is_refused() -> None:
    cluster = one_node()
    for _ in range(2):
        cluster.put(10)
        cluster.snapshot(1)
    cluster.run(100)
    for name in snapshots_of(cluster[1]):
        cluster[1].disk.flip(name, 50)
    with pytest.raises(CorruptionError, match=r"the log begins at.*snapshot-"):
        restart(cluster)


def test_a_whole_log_makes_up_for_all_snapshots() -> None:
    cluster = one_node()
    cluster.put(10)
    cluster.snapshot(1)
    digest = cluster[1].machine.digest()
    cluster[1].disk.flip(snapshots_of(cluster[1])[0], 50)
    restart(cluster)
    assert cluster[1].machine.digest() == digest


def test_a_full_disk_costs_the_snapshot_only() -> None:
    cluster = one_node()
    cluster.put(3)
    disk = cluster[1].disk

    def refuse(operation: DiskOperation) -> DEngineError | None:
        mine = isinstance(operation, WriteFile) and operation.name == SAVING_NAME
        return DiskFullError("no room") if mine else None

    disk.refuse = refuse
    errors: list[DEngineError | None] = []
    cluster[1].replica.snapshot(lambda header, error: errors.append(error))
    cluster.run()
    assert isinstance(errors[0], DiskFullError)
    assert SAVING_NAME not in disk.files()
    cluster.put(3)
    disk.refuse = lambda operation: None
    cluster.snapshot(1)


def test_after_a_failure_no_other_is_tried_for_a_while() -> None:
    cluster = Cluster(1, OFTEN)
    cluster.elect()
    disk = cluster[1].disk
    disk.refuse = lambda operation: (
        DiskFullError("no room")
        if isinstance(operation, CreateFile) and operation.name == SAVING_NAME
        else None
    )
    cluster.put(60)
    tried = [operation for operation in disk.performed if getattr(operation, "name", "") == SAVING_NAME]
    assert len(tried) <= 3
    assert "a snapshot of this node's has no room" in cluster[1].health[-1].disk_full
    disk.refuse = lambda operation: None
    cluster.run(61_000)
    cluster.put(60)
    assert cluster[1].health[-1].disk_full == ""
    assert cluster[1].replica.executor.snapshots.taking.taken


def test_a_disk_that_fails_stops_the_node() -> None:
    cluster = one_node()
    cluster.put(3)
    cluster[1].disk.refuse = lambda operation: (
        DiskError("broken") if getattr(operation, "name", "") == SAVING_NAME else None
    )
    errors: list[DEngineError | None] = []
    cluster[1].replica.snapshot(lambda header, error: errors.append(error))
    cluster.run()
    assert isinstance(errors[0], DiskError)
    assert isinstance(cluster[1].failure, DiskError)


def test_a_node_that_stops_answers_who_waits_for_a_snapshot() -> None:
    cluster = one_node()
    cluster.put(3)
    errors: list[DEngineError | None] = []
    cluster[1].replica.snapshot(lambda header, error: errors.append(error))
    cluster[1].replica.fail(SnapshotError("something else"))
    assert len(errors) == 1
    assert errors[0] is not None


def test_a_snapshot_lets_turns_go_on() -> None:
    cluster = Cluster(1, SLOW)
    cluster.elect()
    cluster.put(50, 400)
    cluster[1].replica.snapshot(lambda header, error: None)
    outcomes: list[object] = []
    cluster[1].turn()
    group = encode_group(cluster.session, 10_000, 0, [b""])
    cluster[1].replica.propose(group, 10**10, outcomes.append)
    while not outcomes:
        if not cluster[1].turn():
            assert cluster[1].disk.step(Lane.LOG)
    assert SAVING_NAME in [
        getattr(operations[0][0], "name", "") for operations in cluster[1].disk.queues[Lane.BACKGROUND]
    ]


def test_between_two_slices_is_a_pause() -> None:
    cluster = Cluster(1, replace(SLOW, pause_ns=50 * MILLISECOND))
    cluster.elect()
    cluster.put(20, 400)
    taking = cluster[1].replica.executor.snapshots.taking
    headers: list[SnapshotHeader | None] = []
    cluster[1].replica.snapshot(lambda header, error: headers.append(header))
    for _ in range(4):
        cluster.run()
        written, deadline = taking.written, taking.deadline
        assert deadline == cluster.time + 50 * MILLISECOND
        cluster.time = deadline - 1
        cluster[1].replica.wake()
        cluster.run()
        assert taking.written == written
        cluster.time = deadline
        cluster[1].replica.wake()
        assert not headers
    cluster.run(10_000)
    assert headers[0] is not None
