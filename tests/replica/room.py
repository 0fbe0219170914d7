"""A room of replicas: whole nodes in one thread, on disks in memory, with a clock that the test moves.

Connections are made where both sides ask for them, can reach each other, and admit each other, as in production.
Messages arrive at once and in order. Nothing is random: a node's draws follow from its id and its life.
"""

from collections import deque
from collections.abc import Callable
from random import Random

from d_engine.format.configuration import Configuration, Member
from d_engine.format.errors import DEngineError
from d_engine.format.group import encode_group
from d_engine.format.hello import Channel
from d_engine.format.ids import LogIndex, NodeId
from d_engine.format.messages import MemberChange, PeerMessage
from d_engine.kv.commands import encode_put
from d_engine.kv.machine import KvStateMachine
from d_engine.raft.effects import LeaderState, Role
from d_engine.replica.listener import Health
from d_engine.replica.outcome import GroupOutcome
from d_engine.replica.replica import Replica
from d_engine.replica.settings import MILLISECOND, SECOND, ReplicaSettings
from d_engine.storage.identity import load_identity
from d_engine.storage.memory import MemoryDisk
from d_engine.storage.snapshots import SnapshotFiles
from d_engine.storage.wal import WalStorage

STEP = 10 * MILLISECOND
PENDING = "pending"


def change(kind: str, node: NodeId, address: str = "", *, read_only: bool = False) -> MemberChange:
    return MemberChange(kind, Member(node, address), read_only)


class Seat:
    """One node: host, network and listener of its present process, and a disk that outlives it."""

    def __init__(self, room: "Room", node_id: NodeId, bootstrap: Configuration | None) -> None:
        self.room = room
        self.id = node_id
        self.bootstrap = bootstrap
        self.address = f"n{node_id}:1"
        self.settings: dict[str, bool] = {}
        self.life = 0
        self.disk = MemoryDisk(self.call_soon)
        self.replica: Replica | None = None
        self.error: DEngineError | None = None
        self.peers: dict[NodeId, str] = {}
        self.connected: dict[NodeId, bool] = {}
        self.refused_by: list[NodeId] = []
        self.members: list[tuple[LogIndex, Configuration]] = []
        self._rng = Random(node_id + 1000 * len(room.newcomers))
        self._deadline: int | None = None

    # --- life ---

    def start(self) -> "Seat":
        assert self.replica is None
        self.life += 1
        self.error = None
        incarnation = load_identity(self.disk, self.id, self.random_bits)
        settings = ReplicaSettings(
            self.id,
            incarnation,
            self.address,
            self.bootstrap,
            auto_promote=self.settings.get("auto_promote", True),
        )
        storage = WalStorage(self.disk, incarnation & 0xFFFFFFFF, 1 << 20)
        files = SnapshotFiles(self.disk)
        self.replica = Replica(settings, self, self, storage, files, KvStateMachine(), self)
        self.replica.start()
        return self

    def stop(self) -> None:
        self.replica = None
        self.life += 1
        self.peers = {}
        self.room.hang_up(self)

    def wipe(self) -> None:
        self.stop()
        self.disk = MemoryDisk(self.call_soon)

    @property
    def alive(self) -> Replica:
        assert self.replica is not None, f"node {self.id} is down: {self.error}"
        return self.replica

    def tick(self) -> None:
        if self.replica is not None and self._deadline is not None and self.room.time >= self._deadline:
            self.replica.wake()

    # --- host ---

    def now(self) -> int:
        return self.room.time

    def call_soon(self, function: Callable[[], None]) -> None:
        life = self.life
        self.room.soon.append(lambda: function() if life == self.life else None)

    def set_timer(self, deadline: int) -> None:
        self._deadline = deadline

    def random_bits(self, count: int) -> int:
        return self._rng.getrandbits(count)

    # --- network ---

    def send(self, to: NodeId, channel: Channel, message: PeerMessage) -> None:
        self.room.post(self.id, to, message)

    def set_peers(self, peers: dict[NodeId, str]) -> None:
        self.peers = dict(peers)
        for peer in list(self.connected):
            if peer not in peers:
                self.room.soon.append(lambda peer=peer: self.room.part(self.id, peer))  # type: ignore[misc]

    def disconnect(self, peer: NodeId) -> None:
        self.room.part(self.id, peer)

    # --- listener ---

    def leader_changed(self, state: LeaderState) -> None: ...

    def members_changed(self, index: LogIndex, configuration: Configuration) -> None:
        self.members.append((index, configuration))

    def health_changed(self, health: Health) -> None: ...

    def failed(self, error: DEngineError) -> None:
        self.error = error
        self.call_soon(self.stop)


def _is_born(leader: "Seat | None") -> bool:
    """Somebody leads, and has bound every member to its data directory."""
    return leader is not None and all(member.incarnation for member in leader.alive.configuration.members)


class Room:
    """Nodes 1..n are born as voters; others `join`."""

    def __init__(self, voters: int) -> None:
        self.time = 1000 * SECOND
        self.soon: deque[Callable[[], None]] = deque()
        self.cuts: list[set[NodeId]] = []
        self.newcomers: list[NodeId] = []
        members = tuple(Member(node, f"n{node}:1") for node in range(1, voters + 1))
        bootstrap = Configuration(0, members, tuple(range(1, voters + 1)))
        self.seats = {node: Seat(self, node, bootstrap) for node in bootstrap.voters}
        self._numbers = 0
        for seat in self.seats.values():
            seat.start()
        self.until(lambda: _is_born(self.leads()))

    def newcomer(self, node: NodeId) -> Seat:
        """A node on an empty disk that knows nobody."""
        self.newcomers.append(node)
        seat = self.seats[node] = Seat(self, node, None)
        return seat.start()

    # --- time ---

    def run(self, duration: int) -> None:
        end = self.time + duration
        while self.time < end:
            self._settle()
            self.time += STEP
            for seat in list(self.seats.values()):
                seat.tick()
        self._settle()

    def until(self, condition: Callable[[], bool], patience: int = 30 * SECOND) -> None:
        end = self.time + patience
        while not condition():
            assert self.time < end, self.describe()
            self.run(STEP)

    def _settle(self) -> None:
        self._meet()
        for _ in range(100_000):
            if not self.soon:
                return
            self.soon.popleft()()
        raise AssertionError("the nodes never stop talking")

    def describe(self) -> str:
        return "; ".join(
            f"node {seat.id}: {seat.error or (seat.replica and seat.replica.raft.status())}"
            for seat in self.seats.values()
        )

    # --- connections ---

    def _meet(self) -> None:
        for one in self.seats.values():
            for peer, address in list(one.peers.items()):
                other = self.seats.get(peer)
                if other is None or other.address != address or peer in one.connected:
                    continue
                apart = any(cut <= {one.id, peer} for cut in self.cuts)
                if one.replica and other.replica and not apart:
                    self._greet(one, other)

    def _greet(self, one: Seat, other: Seat) -> None:
        refusal = other.alive.peer_admit(one.alive.peers.hello(Channel.DATA))
        if refusal is not None:
            one.refused_by.append(other.id)
            one.alive.peer_refused(other.id, refusal)
            return
        refusal = one.alive.peer_admit(other.alive.peers.hello(Channel.DATA))
        if refusal is not None:
            other.refused_by.append(one.id)
            other.alive.peer_refused(one.id, refusal)
            return
        for seat, peer in ((one, other.id), (other, one.id)):
            seat.connected[peer] = True
            seat.alive.peer_connected(peer)

    def part(self, one: NodeId, other: NodeId) -> None:
        for seat, peer in ((self.seats[one], other), (self.seats[other], one)):
            if seat.connected.pop(peer, None) and seat.replica is not None:
                seat.replica.peer_lost(peer)

    def hang_up(self, seat: Seat) -> None:
        for peer in list(seat.connected):
            self.part(seat.id, peer)

    def cut(self, node: NodeId, other: NodeId | None = None) -> None:
        """Nobody, or not that other one, hears from the node, until `mend`."""
        self.cuts.append({node} if other is None else {node, other})
        for peer in list(self.seats[node].connected):
            if other in (None, peer):
                self.part(node, peer)

    def mend(self, node: NodeId) -> None:
        self.cuts = [cut for cut in self.cuts if node not in cut]

    def post(self, sender: NodeId, to: NodeId, message: PeerMessage) -> None:
        def deliver() -> None:
            replica = self.seats[to].replica
            if replica is not None and sender in self.seats[to].connected:
                replica.receive(sender, message)

        if to in self.seats[sender].connected:
            self.soon.append(deliver)

    # --- asking ---

    def leads(self) -> Seat | None:
        """The ready leader of the highest term."""
        leading = [
            seat
            for seat in self.seats.values()
            if seat.replica and seat.replica.raft.role is Role.LEADER and seat.replica.raft.ready
        ]
        return max(leading, key=lambda seat: seat.alive.raft.term, default=None)

    @property
    def leader(self) -> Seat:
        seat = self.leads()
        assert seat is not None, self.describe()
        return seat

    @property
    def follower(self) -> Seat:
        """A voter that does not lead."""
        voters = self.leader.alive.configuration.voters
        return next(self.seats[node] for node in voters if node != self.leader.id)

    def ask(self, *changes: MemberChange, through: Seat | None = None, force: bool = False) -> list[object]:
        """Ask for one step. The list gets how it ended: None, or an error."""
        ended: list[object] = []
        (through or self.leader).alive.change(changes, force, 10 * SECOND, ended.append)
        return ended

    def carry_out(self, *changes: MemberChange, through: Seat | None = None, force: bool = False) -> object:
        """Ask, and wait for how it ends."""
        ended = self.ask(*changes, through=through, force=force)
        self.until(lambda: bool(ended))
        return ended[0]

    def write(self, seat: Seat | None = None) -> None:
        """One write, acknowledged."""
        self._numbers += 1
        outcomes: list[GroupOutcome] = []
        replica = (seat or self.leader).alive
        replica.open_session(10 * SECOND, outcomes.append)
        self.until(lambda: len(outcomes) == 1)
        assert outcomes[0].error is None
        group = encode_group(outcomes[0].revision, 1, 0, [encode_put(b"k%d" % self._numbers, b"v", False)])
        replica.propose(group, 10 * SECOND, outcomes.append)
        self.until(lambda: len(outcomes) == 2)
        assert outcomes[1].error is None, outcomes[1].error

    def join(self, node: NodeId, *, read_only: bool = False) -> Seat:
        """A newcomer that is added, and knows it."""
        seat = self.newcomer(node)
        assert self.carry_out(change("add_learner", node, seat.address, read_only=read_only)) is None
        return seat
