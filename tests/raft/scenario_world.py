"""The world of a scenario: nodes, a network that holds every message until told, disks, and a clock that stands still.

Whatever happens is written down, one line each, in the words of the protocol. Nothing is random: campaigns start when
told, the drawn cluster id is 7, reads are numbered from 1.
"""

from dataclasses import dataclass, field, replace

from d_engine.format.configuration import Configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.ids import NodeId
from d_engine.format.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    RaftMessage,
    ReadRequest,
    ReadResponse,
    SnapshotMeta,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from d_engine.format.state import Quarantine
from d_engine.raft.core import Raft
from d_engine.raft.effects import Effects, LeaderState, Persist
from d_engine.raft.settings import RaftSettings
from tests.raft.model_disk import ModelDisk

MS = 1_000_000
BITS_OF_A_CLUSTER_ID = 63


def fixed_bits(count: int) -> int:
    """The shortest time-outs, reads numbered from 1, and a cluster id."""
    return 7 if count == BITS_OF_A_CLUSTER_ID else 0


# --- words -----------------------------------------------------------------------------------------------------------


def entry_words(entry: Entry) -> str:
    words = f"{entry.index}@{entry.term}"
    if entry.kind is EntryKind.COMMANDS:
        return (
            f"{words} {bytes(entry.payload).decode()!r}" if len(entry.payload) < 20 else f"{words} commands"
        )
    return f"{words} {entry.kind.name.lower()}"


def entries_words(entries: tuple[Entry, ...]) -> str:
    return "[" + ", ".join(entry_words(entry) for entry in entries) + "]"


def configuration_words(configuration: Configuration) -> str:
    parts = [f"voters {configuration.voters}"]
    for name in ("outgoing", "learners", "learners_next", "read_only"):
        if getattr(configuration, name):
            parts.append(f"{name} {getattr(configuration, name)}")
    unbound = tuple(member.id for member in configuration.members if member.incarnation == 0)
    if unbound:
        parts.append(f"unbound {unbound}")
    return " ".join(part.replace(",)", ")") for part in parts)


def message_words(message: RaftMessage) -> str:
    match message:
        case VoteRequest():
            kind = "pre-vote" if message.pre else "vote"
            transfer = " for a transfer" if message.transfer else ""
            return f"{kind} t{message.term} last {message.last_index}@{message.last_term}{transfer}"
        case VoteResponse():
            kind = "pre-vote" if message.pre else "vote"
            return f"{kind} {'granted' if message.granted else 'refused'} t{message.term}"
        case AppendRequest():
            where = f"{message.prev_index}@{message.prev_term} commit {message.commit_index}"
            return f"append t{message.term} after {where} {entries_words(message.entries)}"
        case AppendResponse():
            if message.rejected_index:
                hint = f"{message.hint_index}@{message.hint_term}"
                return f"append rejected t{message.term} at {message.rejected_index}, maybe {hint}"
            return f"append accepted t{message.term} up to {message.match_index}"
        case Heartbeat():
            return f"heartbeat t{message.term} round {message.round} commit {message.commit_index}"
        case HeartbeatResponse():
            words = f"echo t{message.term} round {message.round}"
            if message.wanted_index:
                return f"{words} in quarantine, wants a snapshot from {message.wanted_index} on"
            return f"{words} in quarantine" if message.quarantined else words
        case ReadRequest():
            return f"read? t{message.term} batch {message.batch}"
        case ReadResponse():
            return f"read! t{message.term} batch {message.batch} at {message.read_index}"
        case TimeoutNow():
            return f"timeout-now t{message.term}"
        case InstallSnapshot():
            return f"snapshot t{message.term} {message.snapshot.index}@{message.snapshot.term}"


def persist_words(persist: Persist) -> str:
    words = []
    if persist.hard_state is not None:
        words.append(f"t{persist.hard_state.term} vote {persist.hard_state.vote}")
    if persist.entries:
        words.append(entries_words(persist.entries))
    return " ".join(words)


def leader_words(state: LeaderState) -> str:
    words = f"is {state.role.value} t{state.term}"
    if state.leader:
        words += f" of leader {state.leader}" if state.role.value != "leader" else ""
    return words + (" ready" if state.ready else "")


# --- the world -------------------------------------------------------------------------------------------------------


@dataclass
class ScenarioNode:
    """One node and the switches that hold it back."""

    id: NodeId
    bootstrap: Configuration | None
    incarnation: int
    knows: dict[NodeId, int]
    disk: ModelDisk = field(default_factory=ModelDisk)
    raft: Raft | None = None
    applied: int = 0
    manual_disk: bool = False
    manual_apply: bool = False
    offered: SnapshotMeta | None = None
    record: Quarantine | None = None
    """What the disk says of a quarantine."""
    manual_record: bool = False


class World:
    """Everything that a scenario moves."""

    def __init__(self) -> None:
        self.now = 1000 * MS
        self.nodes: dict[NodeId, ScenarioNode] = {}
        self.queue: list[tuple[NodeId, NodeId, RaftMessage]] = []
        self.cuts: set[tuple[NodeId, NodeId]] = set()
        self.transcript: list[str] = []
        self.settings: dict[str, int] = {}

    def say(self, text: str) -> None:
        self.transcript.append(text)

    def raft(self, node_id: NodeId) -> Raft:
        raft = self.nodes[node_id].raft
        assert raft is not None, f"node {node_id} is down"
        return raft

    # --- nodes -------------------------------------------------------------------------------------------------------

    def add(self, node: ScenarioNode) -> None:
        self.nodes[node.id] = node
        self.start(node)

    def start(self, node: ScenarioNode) -> None:
        settings = RaftSettings(node.id, node.incarnation, **self.settings)
        recovered = replace(node.disk.recover(), quarantine=node.record)
        node.raft = Raft(settings, recovered, node.bootstrap, node.disk.read, fixed_bits, self.now)
        node.applied = node.raft.commit_index
        for peer, incarnation in node.knows.items():
            node.raft.peer_incarnation(peer, incarnation, self.now)

    def crash(self, node: ScenarioNode) -> None:
        node.raft = None
        node.offered = None
        node.disk.crash()
        self.queue = [item for item in self.queue if node.id not in item[:2]]

    def turn(self, node: ScenarioNode) -> None:
        """All that the node does by itself."""
        while node.raft is not None:
            effects = node.raft.effects(self.now)
            if not node.manual_record:
                self.keep_record(node)
            if not effects:
                return
            self._perform(node, node.raft, effects)

    def keep_record(self, node: ScenarioNode) -> None:
        """What the disk says of a quarantine is what holds."""
        record = None if node.raft is None else node.raft.isolation.record
        if node.raft is None or record == node.record:
            return
        node.record = record
        if record is None:
            self.say(f"{node.id} is whole")
        else:
            wants = "waits for a snapshot, then " if record.needs_snapshot else ""
            self.say(f"{node.id} is in quarantine, {wants}up to {record.held_index}")
            node.raft.isolation.saved(record)

    def _perform(self, node: ScenarioNode, raft: Raft, effects: Effects) -> None:
        if effects.leader_state is not None:
            self.say(f"{node.id} {leader_words(effects.leader_state)}")
        if effects.persist is not None:
            self.say(f"{node.id} writes {persist_words(effects.persist)}")
            node.disk.append(effects.persist)
        for to, message in effects.sends:
            self._send(node.id, to, message)
        if effects.install is not None:
            node.offered = effects.install.snapshot
            self.say(f"{node.id} wants snapshot {node.offered.index} of {effects.install.sender}")
        if effects.read_ready is not None:
            self.say(
                f"{node.id} may read batch {effects.read_ready.batch} at {effects.read_ready.read_index}"
            )
        if effects.commit_index is not None:
            self.say(f"{node.id} commits {effects.commit_index}")
        if not node.manual_apply and not raft.isolation.stands_still:
            self.apply(node, raft.commit_index)
        if not node.manual_disk:
            self.persist(node)

    def _send(self, sender: NodeId, to: NodeId, message: RaftMessage) -> None:
        words = f"{sender} -> {to} {message_words(message)}"
        target = self.nodes.get(to)
        if target is None or target.raft is None or (sender, to) in self.cuts:
            self.say(f"{words} (lost)")
        else:
            self.say(words)
            self.queue.append((sender, to, message))

    def apply(self, node: ScenarioNode, index: int) -> None:
        assert node.raft is not None
        while node.applied < index:
            for entry in node.raft.entries(node.applied + 1, 1 << 20):
                if entry.index <= index:
                    node.applied = entry.index
        node.raft.applied(node.applied, self.now)

    def persist(self, node: ScenarioNode) -> None:
        seq = None
        while (done := node.disk.complete_next()) is not None:
            seq = done
        if seq is not None and node.raft is not None:
            node.raft.persisted(seq, self.now)

    # --- messages ----------------------------------------------------------------------------------------------------

    def deliver(self, sender: NodeId, to: NodeId, message: RaftMessage) -> None:
        node = self.nodes[to]
        if node.raft is not None and (sender, to) not in self.cuts:
            node.raft.step(sender, message, self.now)
            self.turn(node)

    def settle(self) -> None:
        """Deliver everything, in order, until nobody has anything to say."""
        for _ in range(10_000):
            if not self.queue:
                return
            self.deliver(*self.queue.pop(0))
        raise AssertionError("the nodes never stop talking")
