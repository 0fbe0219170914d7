"""Getting a snapshot from another node, whatever comes between."""

from dataclasses import replace
from random import Random

import pytest

from d_engine.format.errors import DiskFullError
from d_engine.format.messages import (
    AppendRequest,
    PeerMessage,
    SnapshotChunk,
    SnapshotRequest,
)
from d_engine.replica.settings import MILLISECOND
from d_engine.storage.disk import Lane, WriteFile
from d_engine.storage.snapshots import RECEIVING_NAME
from tests.replica.small_cluster import NEVER, Cluster, snapshots_of
from tests.storage.crash_disk import CrashDisk


def left_behind(keys: int = 60, size: int = 2000) -> Cluster:
    """Node 3 has missed more than the others' logs hold. Its snapshot has a few chunks."""
    cluster = Cluster(3, NEVER)
    cluster.elect()
    cluster.put(1)
    cut_off(cluster)
    cluster.put(keys, size)
    for node in (1, 2):
        cluster.snapshot(node)
    cluster.put(1)
    for node in (1, 2):
        cluster.snapshot(node)
    cluster.put(2)
    cluster.run(200)
    assert cluster[1].replica.raft.first_index > keys
    cluster.log.clear()
    return cluster


def cut_off(cluster: Cluster) -> None:
    cluster.cut = [3]
    for node, peer in ((1, 3), (2, 3), (3, 1), (3, 2)):
        cluster[node].replica.peer_lost(peer)


def let_in(cluster: Cluster, milliseconds: int = 3000) -> None:
    cluster.cut = []
    for node, peer in ((1, 3), (2, 3), (3, 1), (3, 2)):
        cluster[node].replica.peer_connected(peer)
    cluster.run(milliseconds)


def is_whole(cluster: Cluster) -> bool:
    return len({node.replica.applier.applied_index for node in cluster.nodes.values()}) == 1 and (
        len(set(cluster.digests())) == 1
    )


def requests(cluster: Cluster) -> list[SnapshotRequest]:
    return [message for message in cluster.log if isinstance(message, SnapshotRequest)]


def test_who_was_left_behind_gets_a_snapshot_and_then_the_log() -> None:
    cluster = left_behind()
    let_in(cluster)
    assert is_whole(cluster)
    node = cluster[3]
    assert node.replica.executor.snapshots.installed == 1
    assert node.replica.raft.first_index == int(snapshots_of(node)[0][9:23]) + 1
    assert node.replica.applier.sessions.freeze() == cluster[1].replica.applier.sessions.freeze()
    assert RECEIVING_NAME not in node.disk.files()
    offsets = [request.offset for request in requests(cluster)]
    assert len(offsets) > 4
    assert offsets == sorted({*offsets}), "every part is asked for once, in order"


def test_an_installed_state_survives_a_restart() -> None:
    cluster = left_behind()
    let_in(cluster)
    cluster[3].stop()
    cluster[3].start()
    cluster.run(2000)
    assert is_whole(cluster)


def test_a_lost_answer_is_asked_for_again() -> None:
    cluster = left_behind()
    lost: list[int] = []

    def lose(sender: int, to: int, message: PeerMessage) -> PeerMessage | None:
        if isinstance(message, SnapshotChunk) and message.offset not in lost:
            lost.append(message.offset)
            return None
        return message

    cluster.spoil = lose
    let_in(cluster, 20_000)
    assert is_whole(cluster)
    assert len(lost) > 3


def test_late_doubled_and_foreign_parts_change_nothing() -> None:
    cluster = left_behind()
    seen: list[SnapshotChunk] = []

    def again(sender: int, to: int, message: PeerMessage) -> PeerMessage:
        if isinstance(message, SnapshotChunk):
            seen.append(message)
            receive = cluster[3].replica.receive
            for old in seen[:-1]:
                receive(1, old)
            receive(2, message)
            receive(1, replace_chunk(message, index=message.index - 1))
            receive(1, replace_chunk(message, offset=message.offset + 1))
            receive(1, replace_chunk(message, data=message.data[:-1]))
            receive(1, replace_chunk(message, data=message.data[:20] + b"?" + message.data[21:]))
            receive(1, replace_chunk(message, data=b""))
        return message

    cluster.spoil = again
    let_in(cluster, 20_000)
    assert is_whole(cluster)
    assert cluster[3].replica.executor.snapshots.installed == 1


def replace_chunk(chunk: SnapshotChunk, **changes: int | bytes) -> SnapshotChunk:
    fields = {name: getattr(chunk, name) for name in chunk.__struct_fields__}
    return SnapshotChunk(**{**fields, **changes})


def test_a_broken_connection_does_not_begin_anew() -> None:
    cluster = left_behind()
    interrupt(cluster, 3)
    cut_off(cluster)
    cluster.run(400)
    let_in(cluster)
    assert is_whole(cluster)
    assert sum(request.offset == 0 for request in requests(cluster)) == 1


def interrupt(cluster: Cluster, parts: int) -> None:
    """Let so many parts get through."""
    cluster.cut = []
    for one, peer in ((1, 3), (2, 3), (3, 1), (3, 2)):
        cluster[one].replica.peer_connected(peer)
    while len(requests(cluster)) < parts:
        if not cluster.step():
            cluster.time += 20 * MILLISECOND
            for node in cluster.nodes.values():
                node.replica.wake()


@pytest.mark.parametrize("power", [False, True])
def test_a_receiver_that_was_restarted_goes_on_where_it_was(power: bool) -> None:
    cluster = left_behind()
    interrupt(cluster, 4)
    disk = cluster[3].disk
    while disk.queues[Lane.BACKGROUND]:
        disk.step(Lane.BACKGROUND)
    had = disk.size(RECEIVING_NAME)
    cluster[3].stop(disk.crash(Random(2)) if power else None)
    cluster.log.clear()
    cluster[3].start()
    cluster.run(4000)
    assert is_whole(cluster)
    offsets = [request.offset for request in requests(cluster)]
    assert offsets == sorted({*offsets})
    if not power:
        assert offsets[0] == had


def test_what_was_received_of_another_snapshot_is_of_no_use() -> None:
    cluster = left_behind()
    interrupt(cluster, 4)
    cluster[3].stop()
    for number in (1, 2):
        cluster.put(20)
        cluster.snapshot(number)
    cluster.log.clear()
    cluster[3].start()
    cluster.run(4000)
    assert is_whole(cluster)
    assert requests(cluster)[0].offset == 0


def test_a_damaged_beginning_is_cut_off() -> None:
    cluster = left_behind()
    interrupt(cluster, 4)
    while cluster[3].disk.step(Lane.BACKGROUND):
        pass
    cluster[3].stop()
    had = cluster[3].disk.size(RECEIVING_NAME)
    cluster[3].disk.flip(RECEIVING_NAME, had - 5)
    cluster.log.clear()
    cluster[3].start()
    cluster.run(4000)
    assert is_whole(cluster)
    assert 0 < requests(cluster)[0].offset < had


def test_another_sender_may_continue_the_same_snapshot() -> None:
    """Equal states are equal files. Node 1 is gone; node 2 leads, and has the snapshot too."""
    cluster = left_behind()
    indices = [
        {file.header.index for file in cluster[node].replica.executor.snapshots.files.kept} for node in (1, 2)
    ]
    assert indices[0] == indices[1]
    interrupt(cluster, 4)
    cluster[1].stop()
    cluster.log.clear()
    cluster.run(12_000)
    assert cluster[2].replica.raft.ready
    assert len(set(cluster.digests())) == 1
    assert cluster[3].replica.executor.snapshots.installed == 1
    assert min(request.offset for request in requests(cluster)) > 0


def test_a_snapshot_that_is_gone_makes_room_for_the_next_offer() -> None:
    cluster = left_behind()
    interrupt(cluster, 3)
    cluster.cut = [3]
    for _ in range(2):
        cluster.put(5)
        cluster.snapshot(1)
    let_in(cluster, 5000)
    assert is_whole(cluster)
    assert requests(cluster)[-1].index > requests(cluster)[0].index
    gone = [message for message in cluster.log if isinstance(message, SnapshotChunk) and not message.size]
    assert len(gone) == 1


def test_a_sender_does_not_serve_what_is_damaged() -> None:
    cluster = left_behind()
    sender = cluster[1]
    bad = snapshots_of(sender)[-1]
    sender.disk.flip(bad, sender.disk.size(bad) // 2)
    let_in(cluster, 8000)
    assert is_whole(cluster)
    assert bad in sender.replica.executor.snapshots.files.refused[0]
    assert sender.failure is None


@pytest.mark.parametrize(("offset", "length"), [(7, 100), (200, 0), (1 << 60, 1), (0, 0)])
def test_a_strange_request_costs_no_snapshot(offset: int, length: int) -> None:
    cluster = left_behind()
    files = cluster[1].replica.executor.snapshots.files
    kept = list(files.kept)
    header = kept[0].header
    cluster[1].replica.receive(2, SnapshotRequest(header.index, header.term, offset, length))
    cluster.run(100)
    answer = next(message for message in cluster.log if isinstance(message, SnapshotChunk))
    assert answer.digest == (header.digest if offset < header.size else b"")
    assert (files.kept, files.refused) == (kept, [])


def test_the_rate_is_limited() -> None:
    cluster = left_behind()
    slow = replace(NEVER, receive_bytes_per_second=100_000)
    cluster[3].stop()
    cluster[3].settings = slow
    cluster[3].start()
    before = cluster.time
    while not cluster[3].replica.executor.snapshots.installed:
        let_in(cluster, 100)
    size = cluster[3].replica.executor.snapshots.files.kept[0].header.size
    assert cluster.time - before >= (size - 70_000) * 10_000


def test_a_full_disk_makes_it_wait() -> None:
    """What was received goes, it is said what is wanting, and nobody is asked again at once."""
    cluster = left_behind()
    refused: list[WriteFile] = []

    def refuse(operation: object) -> DiskFullError | None:
        if isinstance(operation, WriteFile) and operation.name == RECEIVING_NAME and len(refused) < 3:
            refused.append(operation)
            return DiskFullError("no room")
        return None

    node = cluster[3]
    node.disk.refuse = refuse
    let_in(cluster, 8000)
    assert len(refused) == 1
    assert node.failure is None
    assert RECEIVING_NAME not in node.disk.files()
    assert "of another member's" in node.health[-1].disk_full
    assert "no room" in node.health[-1].disk_full
    cluster.run(30_000)
    assert is_whole(cluster)
    assert len(refused) == 3
    assert [bool(health.disk_full) for health in node.health] == [True, False]


def test_room_is_no_matter_for_a_snapshot_that_is_not_needed_any_more() -> None:
    cluster = left_behind()
    cluster[3].disk.refuse = lambda operation: (
        DiskFullError("no room")
        if isinstance(operation, WriteFile) and operation.name == RECEIVING_NAME
        else None
    )
    let_in(cluster, 500)
    receiving = cluster[3].replica.executor.snapshots.receiving
    assert receiving.lacks_room
    receiving.run(cluster.time, lambda meta: False)
    assert not receiving.lacks_room
    assert receiving.deadline is None


def test_nobody_else_waits_for_a_snapshot_that_is_on_its_way() -> None:
    """Its parts get lost, so it is under way all the time. Each write commits all the same, at once."""
    cluster = left_behind()
    cluster.spoil = lambda sender, to, message: None if isinstance(message, SnapshotChunk) else message
    let_in(cluster, 100)
    before = cluster[2].replica.applier.applied_index
    for _ in range(20):
        cluster.put(1)
    assert requests(cluster)
    assert cluster[3].replica.applier.applied_index < before
    cluster.run()
    assert cluster[2].replica.applier.applied_index >= before + 20
    cluster.spoil = lambda sender, to, message: message
    cluster.run(3000)
    assert is_whole(cluster)


def test_progress_is_told() -> None:
    cluster = left_behind()
    interrupt(cluster, 3)
    received, size = cluster[3].replica.executor.snapshots.receiving.progress
    assert 0 < received < size
    assert size == cluster[1].replica.executor.snapshots.files.kept[0].header.size


def test_a_write_that_waits_is_answered_from_the_restored_state() -> None:
    """Its entry is applied elsewhere; here only the snapshot tells of it."""
    cluster = Cluster(3, NEVER)
    cluster.elect()
    cluster.put(1)
    cut_off(cluster)
    cluster.put(5)
    outcomes: list[object] = []
    cluster[3].replica.propose(cluster.group(), 10**12, outcomes.append)
    for _ in range(2):
        for node in (1, 2):
            cluster.snapshot(node)
        cluster.open_session()
    cluster.run(200)
    cluster.spoil = lambda sender, to, message: None if is_entries(message, to) else message
    let_in(cluster)
    assert len(outcomes) == 1


def is_entries(message: PeerMessage, to: int) -> bool:
    return isinstance(message, AppendRequest) and to == 3 and bool(message.entries)


def test_a_crash_at_any_operation_of_an_install_leaves_the_old_or_the_new() -> None:
    """Power loss or kill between any two operations of the receiver's disk. It always comes back, to the state of
    before or after; and then it catches up."""
    total = operations_of_install(None)[1]
    assert total > 10
    for count in range(0, total, 1):
        for seed in (0, 1):
            cluster, _ = operations_of_install(count)
            random = Random(seed * 1000 + count)
            disk: CrashDisk | None = None if seed == 0 else cluster[3].disk.crash(random)
            before = cluster[3].replica.raft.commit_index
            cluster[3].stop(disk)
            cluster[3].start()
            applied = cluster[3].replica.applier.applied_index
            assert applied in (0, int(newest_of(cluster[3])[9:23] or 0)), (count, before)
            cluster.run(3000)
            assert is_whole(cluster), (count, seed)


def newest_of(node: object) -> str:
    names = snapshots_of(node)  # type: ignore[arg-type]
    return names[-1] if names else "snapshot-00000000000000"


def operations_of_install(limit: int | None) -> tuple[Cluster, int]:
    """Node 3 is let in, and its disk stops after so many operations."""
    cluster = left_behind(25, 100)
    node = cluster[3]
    begin = len(node.disk.performed)
    cluster.cut = []
    for one, peer in ((1, 3), (2, 3), (3, 1), (3, 2)):
        cluster[one].replica.peer_connected(peer)
    for _ in range(50):
        while step_with_limit(cluster, None if limit is None else begin + limit):
            pass
        if limit is not None and len(node.disk.performed) - begin >= limit:
            break
        cluster.time += 20 * MILLISECOND
        for each in cluster.nodes.values():
            each.replica.wake()
    return cluster, len(node.disk.performed) - begin


def step_with_limit(cluster: Cluster, limit: int | None) -> bool:
    node = cluster[3]
    if limit is None:
        return cluster.step()
    for lane, queue in node.disk.queues.items():
        while queue:
            left = limit - len(node.disk.performed)
            if left < len(queue[0][0]):
                node.disk.step(lane, max(left, 0))
                return False
            node.disk.step(lane)
    return len(node.disk.performed) < limit and cluster.step()
