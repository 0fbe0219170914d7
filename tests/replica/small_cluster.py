"""A few nodes in one test: the production replicas over disks, a network and a clock that only the test moves."""

from collections import deque
from collections.abc import Callable
from functools import partial

from d_engine.format.configuration import Configuration, Member
from d_engine.format.errors import DEngineError
from d_engine.format.group import encode_group
from d_engine.format.hello import Channel
from d_engine.format.ids import LogIndex, NodeId
from d_engine.format.messages import PeerMessage
from d_engine.kv.commands import encode_put
from d_engine.kv.machine import KvStateMachine
from d_engine.raft.effects import LeaderState
from d_engine.replica.listener import Health
from d_engine.replica.outcome import GroupDone, GroupOutcome
from d_engine.replica.replica import Replica
from d_engine.replica.settings import MILLISECOND, ReplicaSettings, SnapshotSettings
from d_engine.storage.snapshot_format import SnapshotHeader
from d_engine.storage.snapshots import SnapshotFiles
from d_engine.storage.wal import WalStorage
from tests.storage.crash_disk import CrashDisk

OFTEN = SnapshotSettings(log_bytes=2000, keep_log_ns=6, part_bytes=1, slice_bytes=1, pause_ns=0)
NEVER = SnapshotSettings(log_bytes=1 << 40, keep_log_ns=6, part_bytes=1, slice_bytes=1 << 20, pause_ns=0)
SEGMENT_BYTES = 16 * 1024


class Node:
    """One machine and the process on it: all of a replica's ports."""

    def __init__(self, cluster: "Cluster", node: NodeId, settings: SnapshotSettings) -> None:
        self.cluster = cluster
        self.id = node
        self.settings = settings
        self.disk = CrashDisk()
        self.failure: DEngineError | None = None
        self.turns: deque[Callable[[], None]] = deque()
        self.machine = KvStateMachine()
        self.replica: Replica
        self.members: list[LogIndex] = []
        self.health: list[Health] = []
        self.repair = True
        self.stopped = True

    def open(self) -> None:
        """Everything is read, and nothing done yet."""
        self.failure = None
        self.stopped = False
        self.turns.clear()
        self.machine = KvStateMachine()
        members = tuple(Member(node, f"{node}:1", 100 + node) for node in self.cluster.ids)
        settings = ReplicaSettings(
            node_id=self.id,
            incarnation=100 + self.id,
            bootstrap=Configuration(0, members, tuple(self.cluster.ids)),
            # Node 1 loses patience first: it leads.
            election_min_ns=(500 if self.id == 1 else 900) * MILLISECOND,
            election_max_ns=(510 if self.id == 1 else 1000) * MILLISECOND,
            snapshots=self.settings,
            marker_ns=self.cluster.marker_ns,
            repair=self.repair,
        )
        storage = WalStorage(self.disk, 1, SEGMENT_BYTES)
        files = SnapshotFiles(self.disk)
        self.replica = Replica(settings, self, self, storage, files, self.machine, self)

    def start(self) -> None:
        self.open()
        self.replica.start()
        for other in self.cluster.nodes.values():
            if other is not self and not other.stopped:
                for one, two in ((self, other), (other, self)):
                    one.replica.peer_admit(two.replica.peers.hello(Channel.DATA))
                    one.replica.peer_connected(two.id)

    def stop(self, disk: CrashDisk | None = None) -> None:
        """The process is gone; its disk is now this one."""
        self.stopped = True
        self.disk = self.disk.killed() if disk is None else disk
        queue = self.cluster.queue
        self.cluster.queue = deque(item for item in queue if self.id not in item[:2])
        for other in self.cluster.nodes.values():
            if other is not self and not other.stopped:
                other.replica.peer_lost(self.id)

    def turn(self) -> bool:
        if self.stopped or not self.turns:
            return False
        self.turns.popleft()()
        return True

    # --- ports ---

    def now(self) -> int:
        return self.cluster.time

    def call_soon(self, function: Callable[[], None]) -> None:
        self.turns.append(function)

    def set_timer(self, deadline: int) -> None: ...

    def random_bits(self, count: int) -> int:
        return 99 + self.cluster.number()

    def send(self, to: NodeId, channel: Channel, message: PeerMessage) -> None:
        self.cluster.sent(self.id, to, message)

    def set_peers(self, peers: dict[NodeId, str]) -> None: ...

    def disconnect(self, peer: NodeId) -> None: ...

    def leader_changed(self, state: LeaderState) -> None: ...

    def members_changed(self, index: LogIndex, configuration: Configuration) -> None:
        self.members.append(index)

    def health_changed(self, health: Health) -> None:
        self.health.append(health)

    def failed(self, error: DEngineError) -> None:
        self.failure = error
        self.stopped = True


class Cluster:
    """`cut` lists nodes that nobody hears and that hear nobody."""

    def __init__(
        self, count: int, settings: SnapshotSettings = OFTEN, marker_ns: int = 60_000 * MILLISECOND
    ) -> None:
        self.marker_ns = marker_ns
        self.time = 1_000_000 * MILLISECOND
        self.ids = list(range(1, count + 1))
        self.queue: deque[tuple[NodeId, NodeId, PeerMessage]] = deque()
        self.cut: list[NodeId] = []
        self.log: list[PeerMessage] = []
        self.spoil: Callable[[NodeId, NodeId, PeerMessage], PeerMessage | None] = lambda a, b, message: (
            message
        )
        self._number = 0
        self.session = 0
        self._group = 0
        self.nodes: dict[NodeId, Node] = {}
        for node in self.ids:
            self.nodes[node] = Node(self, node, settings)
        for each in self.nodes.values():
            each.start()

    def __getitem__(self, node: NodeId) -> Node:
        return self.nodes[node]

    def number(self) -> int:
        self._number += 1
        return self._number

    def sent(self, sender: NodeId, to: NodeId, message: PeerMessage) -> None:
        if sender not in self.cut and to not in self.cut and not self.nodes[to].stopped:
            self.queue.append((sender, to, message))

    def step(self) -> bool:
        """One thing happens; False if there is nothing left to do at this moment."""
        for node in self.nodes.values():
            if node.turn():
                return True
        if self.queue:
            sender, to, message = self.queue.popleft()
            changed = self.spoil(sender, to, message)
            if changed is not None:
                self.log.append(changed)
                self.nodes[to].replica.receive(sender, changed)
            return True
        for node in self.nodes.values():
            if not node.stopped:
                for lane in node.disk.queues:
                    if node.disk.step(lane):
                        return True
        return False

    def run(self, milliseconds: int = 0) -> None:
        """Everything that is to be done, with so much time passing."""
        for _ in range(milliseconds // 20 + 1):
            steps = 0
            while self.step():
                steps += 1
                assert steps < 100_000, "it never ends"
            if milliseconds:
                self.time += 20 * MILLISECOND
                for node in self.nodes.values():
                    if not node.stopped:
                        node.replica.wake()
        while self.step():
            pass

    def elect(self) -> None:
        """Node 1 leads."""
        self.run(1000)
        assert self[1].replica.raft.ready

    def put(self, count: int, size: int = 100, through: NodeId = 1) -> GroupOutcome:
        """So many puts, each its own group and entry; the last one's outcome."""
        if not self.session:
            self.session = self.open_session(through)
        outcome = GroupOutcome((), 0, None)
        for _ in range(count):
            self._group += 1
            outcome = self.repeat(size, through)
            assert outcome.error is None
        return outcome

    def open_session(self, through: NodeId = 1) -> int:
        """A new one; its id."""
        return self.propose(partial(self[through].replica.open_session, 10**10)).revision

    def repeat(self, size: int = 100, through: NodeId = 1) -> GroupOutcome:
        """The outcome of the last put, asked for once more."""
        group = self.group(size)

        def ask(done: GroupDone) -> None:
            self[through].replica.propose(group, 10**10, done)

        return self.propose(ask)

    def group(self, size: int = 100) -> bytes:
        """The group of the present number."""
        command = encode_put(b"key %d" % (self._group % 50), b"%d" % self._group * size)
        return encode_group(self.session, self._group, self._group - 1, [command])

    def propose(self, ask: Callable[[GroupDone], None]) -> GroupOutcome:
        outcomes: list[GroupOutcome] = []
        ask(outcomes.append)
        self.run(20)
        assert outcomes, "there is no result"
        return outcomes[0]

    def snapshot(self, node: NodeId) -> SnapshotHeader:
        """Take one there."""
        done: list[tuple[SnapshotHeader | None, DEngineError | None]] = []
        self[node].replica.snapshot(lambda header, error: done.append((header, error)))
        self.run()
        header, error = done[0]
        assert header is not None, error
        return header

    def digests(self) -> list[bytes]:
        return [node.machine.digest() for node in self.nodes.values() if not node.stopped]


def snapshots_of(node: Node) -> list[str]:
    return sorted(name for name in node.disk.files() if name.endswith(".snp"))
