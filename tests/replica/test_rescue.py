"""A new cluster from one surviving directory: what is kept, what is never given out twice, and what a crash leaves."""

from collections.abc import Iterator, Sequence
from random import Random

import pytest

from d_engine.format.errors import DataDirectoryError, DEngineError, DiskError, InvalidRequestError
from d_engine.format.group import encode_group
from d_engine.format.hello import Channel
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state_machine import ApplyContext
from d_engine.kv.commands import encode_put
from d_engine.kv.machine import KvStateMachine
from d_engine.replica.outcome import GroupOutcome
from d_engine.replica.replica import Replica
from d_engine.replica.rescue import JUMP, NewIdentity, Survivor
from d_engine.replica.settings import ReplicaSettings
from d_engine.storage.disk import DiskOperation, Lane
from d_engine.storage.identity import load_identity, write_identity
from d_engine.storage.inspection import Inspection
from d_engine.storage.snapshots import SnapshotFiles
from d_engine.storage.wal import WalStorage
from tests.replica.small_cluster import NEVER, Cluster, Node, snapshots_of
from tests.storage.crash_disk import CrashDisk

IDENTITY = NewIdentity(0xC1D, 0x14C, 5)


def survivor(disk: CrashDisk) -> Survivor:
    """What the directory of node 2 holds. It is only read."""
    disk = disk.copy()
    write_identity(disk, 2, 102)

    def refuse(operation: DiskOperation) -> None:
        raise AssertionError(f"{operation} in a directory that is only read")

    disk.refuse = refuse
    return Survivor(disk, Inspection(disk), KvStateMachine())


def write(state: Survivor, disk: CrashDisk) -> SnapshotMeta:
    return state.write(disk, IDENTITY, lambda: step(disk))


def step(disk: CrashDisk) -> None:
    assert disk.step(Lane.BACKGROUND) or disk.step(Lane.LOG), "nothing is under way"


class Alone:
    """The one node that starts on a new directory."""

    def __init__(self, cluster: Cluster, disk: CrashDisk) -> None:
        self.node = Node(cluster, 2, NEVER)
        self.node.disk = disk
        assert load_identity(disk, 2, lambda bits: 1) == IDENTITY.incarnation
        cluster.nodes = {2: self.node}
        cluster.queue.clear()
        settings = ReplicaSettings(2, IDENTITY.incarnation, snapshots=NEVER)
        storage = WalStorage(disk, 1, 16 * 1024)
        machine, node = self.node.machine, self.node
        node.replica = Replica(settings, node, node, storage, SnapshotFiles(disk), machine, node)
        node.replica.start()
        node.stopped = False
        cluster.run(2500)
        assert node.replica.raft.ready


def lost_majority(survivors_lag: int = 3) -> Cluster:
    """Three members with a history; node 2 has missed the last of it, and node 2 is what is left."""
    cluster = Cluster(3)
    cluster.elect()
    cluster.put(60)
    cluster.run(2000)
    cluster.cut = [2]
    cluster.put(survivors_lag)
    for node in cluster.nodes.values():
        node.stop()
    cluster.cut = []
    return cluster


def test_everything_that_survived_is_kept() -> None:
    cluster = lost_majority()
    assert snapshots_of(cluster[2]), "the history is in a snapshot and in the log behind it"
    before = cluster[2].machine
    state = survivor(cluster[2].disk)
    assert (state.node_id, state.sessions) == (2, 1)
    assert state.applier.state_machine.revision == 60
    disk = CrashDisk()
    write(state, disk)
    alone = Alone(cluster, disk)
    kept = {entry.key: entry for entry in alone.node.machine.store.scan()}
    assert kept == {entry.key: entry for entry in before.store.scan()}


def test_nothing_is_given_out_twice() -> None:
    cluster = lost_majority()
    ahead = cluster[1].replica
    revision, index, term = cluster[1].machine.revision, ahead.raft.last_index, ahead.raft.term
    old_session = cluster.session
    state = survivor(cluster[2].disk)
    disk = CrashDisk()
    meta = write(state, disk)
    assert meta.index == state.last_index + JUMP
    replica = Alone(cluster, disk).node.replica
    # A watch that would go on from a revision of the old cluster is told that it cannot.
    assert cluster[2].machine.history.oldest > revision
    assert replica.cluster_id == IDENTITY.cluster_id != ahead.cluster_id
    assert replica.configuration.voters == (2,)
    assert [member.incarnation for member in replica.configuration.members] == [IDENTITY.incarnation]
    assert replica.raft.term > term + JUMP // 2
    assert replica.raft.last_index > index + JUMP // 2
    outcomes: list[GroupOutcome] = []
    again = encode_group(old_session, 1000, 0, [encode_put(b"k", b"v")])
    replica.propose(again, 10**10, outcomes.append)
    cluster.run(20)
    error = outcomes[0].error
    assert error is not None
    assert error.code == "session_lost"
    assert cluster.open_session(2) > old_session
    cluster.session = cluster.open_session(2)
    assert cluster.put(1, through=2).error is None
    assert cluster[2].machine.revision > revision + JUMP // 2


def test_old_members_are_strangers() -> None:
    cluster = lost_majority()
    hello = cluster[3].replica.peers.hello(Channel.DATA)
    disk = CrashDisk()
    write(survivor(cluster[2].disk), disk)
    refusal = Alone(cluster, disk).node.replica.peer_admit(hello)
    assert refusal is not None
    assert refusal.code == "cluster_id_mismatch"


@pytest.mark.parametrize("seed", range(3))
def test_a_crash_at_any_step_leaves_nothing_that_starts(seed: int) -> None:
    cluster = lost_majority()
    total = CrashDisk()
    write(survivor(cluster[2].disk), total)
    for limit in range(len(total.performed)):
        disk, performed = CrashDisk(), list[DiskOperation]()

        def refuse(
            operation: DiskOperation, performed: list[DiskOperation] = performed, limit: int = limit
        ) -> DEngineError | None:
            performed.append(operation)
            return DiskError("killed") if len(performed) > limit else None

        disk.refuse = refuse
        with pytest.raises(DEngineError):
            write(survivor(cluster[2].disk), disk)
        for found in (disk.killed(), disk.crash(Random(seed))):
            if not found.files():
                continue
            try:
                incarnation = load_identity(found, 2, lambda bits: 7)
            except DataDirectoryError:
                continue
            # Only the last sync is missing, or all there is is a temporary identity.
            assert incarnation == IDENTITY.incarnation
            assert limit == len(total.performed) - 1
            assert Inspection(found).report.damage == ()


def test_a_log_older_than_the_snapshot_is_left_out() -> None:
    """Its node died between an installation and the log's reset."""
    cluster = lost_majority(survivors_lag=60)
    disk = cluster[2].disk
    newest = snapshots_of(cluster[1])[-1]
    index = int(newest.split("-")[1])
    assert survivor(disk).last_index < index
    disk.names[newest] = cluster[1].disk.names[newest].copy()
    assert survivor(disk).last_index == index


def test_a_state_machine_that_cannot_raise_its_revision_is_refused() -> None:
    class Plain:
        revision = 0

        def apply(self, commands: Sequence[bytes], context: ApplyContext) -> list[bytes]:
            return [b""] * len(commands)

        def query(self, request: bytes) -> bytes:
            return b""

        def view(self) -> object:
            return None

        def chunks(self, view: object) -> Iterator[bytes]:
            return iter(())

        def restore(self, source: Iterator[bytes]) -> None: ...

        def digest(self) -> bytes:
            return b""

    cluster = Cluster(3, NEVER)
    cluster.elect()
    cluster.put(3)
    disk = cluster[2].disk.copy()
    write_identity(disk, 2, 102)
    state = Survivor(disk, Inspection(disk), Plain())
    empty = CrashDisk()
    with pytest.raises(InvalidRequestError, match="Plain cannot be recovered"):
        write(state, empty)
    assert empty.files() == []


def test_nothing_is_made_of_nothing() -> None:
    with pytest.raises(InvalidRequestError, match="ends at 0"):
        write(survivor(CrashDisk()), CrashDisk())
