"""What the concerns of the core share: one node's Raft state (Raft, figure 2), and the three ways to change role.

The state is split by how long it lives, so that a role's state cannot outlive the role:

* `hard_state` and `log` survive restarts; nothing that depends on them leaves before they are durable.
* `leading` exists exactly while this node leads, `candidacy` exactly while it campaigns, `following` as long as a term.
* `contact_at` deliberately survives changes of term: it is when this node last heard a leader that it followed, and
  loyalty to that leader (4.2.3) must last as long as the leader may count on it, whatever other messages say meanwhile.

The rules themselves are in the modules named after them: election, replication, following, reads, changes, transfer.
"""

from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from d_engine.format.configuration import Configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.errors import InvariantViolation, check
from d_engine.format.ids import NOBODY, Incarnation, LogIndex, Nanoseconds, NodeId, Term
from d_engine.format.messages import RaftMessage
from d_engine.format.state import HardState
from d_engine.raft.durability import Durability
from d_engine.raft.effects import Install, Role
from d_engine.raft.log import RaftLog
from d_engine.raft.membership import describe_step
from d_engine.raft.progress import Progress
from d_engine.raft.quorum import Electorate
from d_engine.raft.rounds import Rounds
from d_engine.raft.settings import RaftSettings

RandomBits: TypeAlias = Callable[[int], int]

_GOLDEN_RATIO = 0x9E3779B1
"""Of 2**32: its multiples lie far apart from each other, however many are taken."""


@dataclass(slots=True)
class TransferAttempt:
    """Leadership is being given to `to`, until `deadline`. `told` once it was asked to campaign."""

    to: NodeId
    deadline: Nanoseconds
    told: bool = False


@dataclass(slots=True)
class Leading:
    """A leader's volatile state. `first_index` is its term's first entry; once applied, the leader is ready."""

    first_index: LogIndex
    next_heartbeat: Nanoseconds
    progress: dict[NodeId, Progress] = field(default_factory=dict)
    """By rising id; everybody but this node."""
    rounds: Rounds = field(default_factory=Rounds)
    remote_reads: dict[NodeId, int] = field(default_factory=dict)
    """The newest batch of each follower that waits for a round."""
    answers: list[tuple[LogIndex, NodeId, int]] = field(default_factory=list)
    """Confirmed reads of followers that wait until this node has applied the read index."""
    batch_joined: int = 0
    """The newest batch of this node's own reads that takes part in a round."""
    transfer: TransferAttempt | None = None
    wanted_index: LogIndex = 0
    """Peers whose state is wrong have asked for snapshots, up to this index."""
    transferred: bool = False
    """A transfer was started in this term: another node may have been elected at once, so no lease holds any more."""


@dataclass(slots=True)
class Candidacy:
    """A campaign. `pre` asks only whether a vote would be given."""

    pre: bool
    votes: dict[NodeId, bool] = field(default_factory=dict)


@dataclass(slots=True)
class Following:
    """What a follower knows of its log's agreement with this term's leader, and what it has told about it."""

    matched_index: LogIndex = 0
    acknowledged_index: LogIndex = 0
    answer_due: bool = False


class RaftState:
    """One node's state."""

    __slots__ = (
        "_electorate",
        "candidacy",
        "contact_at",
        "durability",
        "election_deadline",
        "following",
        "hard_state",
        "incarnations",
        "install",
        "leader",
        "leading",
        "log",
        "log_time",
        "random_bits",
        "settings",
    )

    def __init__(
        self,
        settings: RaftSettings,
        log: RaftLog,
        hard_state: HardState,
        random_bits: RandomBits,
        now: Nanoseconds,
    ) -> None:
        self.settings = settings
        self.log = log
        self.durability = Durability(hard_state)
        self.hard_state = hard_state
        self.random_bits = random_bits
        self.leader: NodeId = NOBODY
        self.leading: Leading | None = None
        self.candidacy: Candidacy | None = None
        self.following = Following()
        self.contact_at: Nanoseconds | None = None
        self.election_deadline: Nanoseconds = 0
        self.incarnations: dict[NodeId, Incarnation] = {settings.node_id: settings.incarnation}
        self.install: Install | None = None
        self.log_time: Nanoseconds = 0
        self._electorate = Electorate(log.configuration, self.incarnations)
        self.delay_election(now)

    @property
    def node_id(self) -> NodeId:
        return self.settings.node_id

    @property
    def term(self) -> Term:
        return self.hard_state.term

    @property
    def role(self) -> Role:
        if self.leading is not None:
            return Role.LEADER
        if self.candidacy is not None:
            return Role.PRE_CANDIDATE if self.candidacy.pre else Role.CANDIDATE
        return Role.FOLLOWER

    @property
    def configuration(self) -> Configuration:
        return self.log.configuration

    @property
    def electorate(self) -> Electorate:
        """Who decides under the configuration in force."""
        if self._electorate.configuration is not self.log.configuration:
            self._electorate = Electorate(self.log.configuration, self.incarnations)
        return self._electorate

    def show_incarnation(self, peer: NodeId, incarnation: Incarnation) -> Incarnation | None:
        """The peer has presented its data directory. Returns which one it presented before."""
        before = self.incarnations.get(peer)
        if before != incarnation:
            self.incarnations[peer] = incarnation
            self._electorate = Electorate(self.log.configuration, self.incarnations)
            if before is not None and self.candidacy is not None:
                self.candidacy.votes.pop(peer, None)  # another's, under the same number
        return before

    def forget_incarnations(self, kept: Container[NodeId]) -> None:
        """Nobody but these can speak to this node any more.

        Not when a configuration drops a member: that may be rolled back, and whoever spoke under its number still does.
        """
        known = self.incarnations
        gone = [peer for peer in known if peer not in kept and peer != self.node_id]
        for peer in gone:
            del known[peer]
        if gone:
            self._electorate = Electorate(self.log.configuration, known)

    @property
    def is_ready(self) -> bool:
        """A leader that has applied its term's first entry: it knows everything that was ever committed."""
        return self.leading is not None and self.log.applied_index >= self.leading.first_index

    @property
    def pending_change(self) -> str:
        """The step of members that is under way, in words; empty if there is none."""
        log, index = self.log, self.log.configuration_index
        if not log.configuration.joint and index <= self.told_commit:
            return ""
        before = log.configuration_at(index - 1)
        return f"{describe_step(before, log.configuration)} (log index {index})"

    @property
    def told_commit(self) -> LogIndex:
        """The commit index that a leader may tell: one that it has itself applied, so that nobody serves a state that
        the leader, asked next, would not show yet."""
        log = self.log
        return log.applied_index if log.applied_index < log.commit_index else log.commit_index

    # --- roles -------------------------------------------------------------------------------------------------------

    def become_follower(self, term: Term, leader: NodeId, now: Nanoseconds) -> None:
        """Follow `leader` (or nobody yet) in `term`, which is not before this node's own."""
        check(term >= self.term, f"term {term} is behind this node's own, {self.term}")
        if term > self.term:
            self.hard_state = HardState(term)
            self.following = Following()
            self.durability.forget_messages()
        if self.leading is not None:
            self.delay_election(now)
        self.leading = None
        self.candidacy = None
        self.leader = leader

    def become_candidate(self, pre: bool) -> None:
        """Ask whether this node could be elected or, unless `pre`, enter the next term and vote for itself."""
        self.leader = NOBODY
        self.candidacy = Candidacy(pre)
        if not pre:
            self.hard_state = HardState(self.term + 1, self.node_id)
            self.following = Following()
            self.durability.forget_messages()

    def become_leader(self, now: Nanoseconds) -> Leading:
        """Lead in this term."""
        self.candidacy = None
        self.leader = self.node_id
        self.leading = Leading(self.log.last_index + 1, now)
        return self.leading

    def hear_leader(self, leader: NodeId, now: Nanoseconds) -> None:
        """A message of this term that only its leader sends."""
        if self.leading is not None or self.leader not in (NOBODY, leader):
            raise InvariantViolation(f"nodes {self.leader} and {leader} both lead in term {self.term}")
        self.candidacy = None
        self.leader = leader
        self.contact_at = now
        self.delay_election(now)

    def vote(self, candidate: NodeId) -> None:
        """Give this term's vote. A candidate of this term has given it to itself."""
        check(self.hard_state.vote in (NOBODY, candidate), f"a second vote in term {self.term}")
        self.hard_state = HardState(self.term, candidate)

    # --- means -------------------------------------------------------------------------------------------------------

    def delay_election(self, now: Nanoseconds) -> None:
        """Wait a random time before the next campaign (Raft, 5.2). The node's own id shifts what it draws, so that
        nodes whose generators agree (clones of one machine image, say) do not split the vote for ever."""
        shortest, longest = self.settings.election_min_ns, self.settings.election_max_ns
        drawn = (self.random_bits(32) + self.node_id * _GOLDEN_RATIO) % (1 << 32)
        self.election_deadline = now + shortest + ((longest - shortest) * drawn >> 32)

    def send(self, to: NodeId, message: RaftMessage, promises_vote: bool = False) -> None:
        """Send as soon as what the message promises is durable."""
        self.durability.send(to, message, self.hard_state, promises_vote)

    def append(self, kind: EntryKind, payload: Sequence[bytes], count: int, log_time: Nanoseconds) -> Entry:
        """A leader's next entry."""
        if self.leading is None:
            raise InvariantViolation("only a leader makes entries")
        self.log_time = max(self.log_time, log_time)
        entry = Entry.create(kind, self.term, self.log.last_index + 1, self.log_time, payload, count)
        self.log.append(entry)
        return entry
