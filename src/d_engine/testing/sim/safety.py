"""The invariants that every event and every message is held to.

What is kept is for the whole cluster and all time: who led which term, what stands at each place of any log, what was
committed, what each state machine had applied. Each map is written once; a second, different value breaks an invariant.
Everything here is derived from what goes through the ports (messages, entries handed to storage, applied commands) and
from what the disks hold, not from what a node believes of itself; where a node's own state is looked at, it is the
suspect.
"""

from d_engine.format.configuration import Configuration, decode_configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.ids import LogIndex, NodeId, Term
from d_engine.format.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    NodeMessage,
    PeerMessage,
    RaftMessage,
    VoteRequest,
    VoteResponse,
)
from d_engine.raft.effects import Role
from d_engine.testing.sim.durable import DiskOracle, LogState
from d_engine.testing.sim.majorities import Majorities
from d_engine.testing.sim.roster import Roster
from d_engine.testing.sim.sightings import Sightings
from d_engine.testing.sim.violations import InvariantBroken


class NodeRecord:
    """What is known of one node over all its lives. `log` is what storage was handed, `oracle` what is durable."""

    def __init__(self, node: NodeId) -> None:
        self.node = node
        self.oracle = DiskOracle(node)
        self.log = LogState()
        self.spoken_term: Term = 0
        self.votes: dict[Term, NodeId] = {}
        self.configurations: list[tuple[LogIndex, Configuration]] = []
        """Those in `log`, by rising index."""
        self.commit_index: LogIndex = 0
        self.applied_index: LogIndex = 0
        self.term: Term = 0
        self.leads: Term = 0
        self.led: Term = 0
        """The last term that it led."""
        self.refused = 0
        """Appends that did not fit to its log."""
        self.in_force: Configuration | None = None
        """What the node said last."""

    def restarted(self) -> None:
        """A new process; what was only in memory is gone."""
        self.commit_index = self.applied_index = 0
        self.term = 0
        self.leads = 0
        self.in_force = None

    def wiped(self) -> None:
        """Another disk: this is a new node under an old number."""
        self.restarted()
        self.oracle.wiped()
        self.log = LogState()
        self.configurations.clear()
        self.spoken_term = 0
        self.votes.clear()

    @property
    def configuration(self) -> Configuration | None:
        """The newest in its log."""
        return self.configurations[-1][1] if self.configurations else None

    @property
    def knows_all_disks(self) -> bool:
        """On its disk is a configuration that binds all members."""
        durable = self.oracle.durable
        return any(
            index <= durable.last_index and all(member.incarnation for member in configuration.members)
            for index, configuration in self.configurations
        )

    def voted_for(self, other: NodeId, term: Term) -> bool:
        """Its vote in this term was given to `other`, and is on its disk."""
        durable = self.oracle.durable
        return self.votes.get(term) == other or (durable.term == term and durable.vote == other)


class Safety:
    """All nodes' records, and what holds for all of them. The cluster begins with the configuration `first`."""

    def __init__(self, first: Configuration, sightings: Sightings) -> None:
        self.sightings = sightings
        self.records: dict[NodeId, NodeRecord] = {}
        self.leaders: dict[Term, NodeId] = {}
        self.committed: list[tuple[Term, int]] = []
        self.roster = Roster(lambda: [record.configurations for record in self.records.values()])
        self.majorities = Majorities(first, self.records)
        self.largest_entry = 0
        """Of all logs, in bytes."""
        self._committed_in: dict[Term, LogIndex] = {}
        self._entries: dict[tuple[LogIndex, Term], tuple[int, Term]] = {}

    def add(self, node: NodeId) -> NodeRecord:
        """One more node."""
        record = self.records[node] = NodeRecord(node)
        return record

    # --- messages: persist before promise -------------------------------------------------------------------

    def sending(self, record: NodeRecord, to: NodeId, message: PeerMessage, applied: LogIndex) -> None:
        """The node, which has applied so much, lets this message leave."""
        if isinstance(message, NodeMessage):
            return
        match message:
            case AppendRequest() | Heartbeat():
                self._speak(record, message.term, message)
                self._lead(record, message.term)
                if message.commit_index > applied:
                    raise InvariantBroken(
                        "I6", f"node {record.node} sends {message}, but has itself applied only {applied}"
                    )
            case AppendResponse():
                self._append_response(record, message)
            case VoteRequest():
                self._vote_request(record, message)
            case VoteResponse():
                self._vote_response(record, to, message)
            case _:
                self._speak(record, message.term, message)

    def _speak(self, record: NodeRecord, term: Term, message: RaftMessage) -> None:
        if record.oracle.durable.term < term:
            raise InvariantBroken(
                "I7", f"node {record.node} sends {message}, but on its disk is {record.oracle.durable}"
            )
        if term < record.spoken_term:
            raise InvariantBroken(
                "I8", f"node {record.node} sends {message} after it spoke in {record.spoken_term}"
            )
        record.spoken_term = term

    def _vote(self, record: NodeRecord, term: Term, vote: NodeId, message: RaftMessage) -> None:
        durable = record.oracle.durable
        if durable.term == term and durable.vote != vote:
            raise InvariantBroken("I7", f"node {record.node} sends {message}, but on its disk is {durable}")
        if record.votes.setdefault(term, vote) != vote:
            raise InvariantBroken(
                "I8",
                f"node {record.node} votes for {vote} in term {term}, as it did for {record.votes[term]}",
            )

    def _vote_request(self, record: NodeRecord, message: VoteRequest) -> None:
        if message.pre:
            self._speak(record, message.term - 1, message)
        else:
            self._speak(record, message.term, message)
            self._vote(record, message.term, record.node, message)

    def _vote_response(self, record: NodeRecord, to: NodeId, message: VoteResponse) -> None:
        if message.pre and message.granted:
            return
        self._speak(record, message.term, message)
        if message.granted:
            self._vote(record, message.term, to, message)
            self.sightings.voted(record.configuration or self.majorities.first, record.node)

    def _append_response(self, record: NodeRecord, message: AppendResponse) -> None:
        self._speak(record, message.term, message)
        if message.rejected_index:
            record.refused += 1
            return
        durable, index = record.oracle.durable, message.match_index
        leader = self.records.get(self.leaders.get(message.term, 0))
        wrong = index > durable.last_index
        if not wrong and leader is not None and leader.leads == message.term:
            expected = leader.log.term_at(index)
            wrong = None not in (expected, durable.term_at(index)) and durable.term_at(index) != expected
        if wrong:
            raise InvariantBroken("I7", f"node {record.node} sends {message}, but on its disk is {durable}")

    # --- leaders --------------------------------------------------------------------------------------------

    def _lead(self, record: NodeRecord, term: Term) -> None:
        if self.leaders.setdefault(term, record.node) != record.node:
            raise InvariantBroken(
                "I1", f"node {record.node} leads in term {term}, and so does node {self.leaders[term]}"
            )

    def elected(self, record: NodeRecord, term: Term) -> None:
        """The node says that it leads now."""
        self._lead(record, term)
        if record.leads != term:
            self.majorities.check_election(record, term)
        record.leads = record.led = term
        for committed_in, last in self._committed_in.items():
            if committed_in < term:
                self._check_complete(record, term, last)

    def _check_complete(self, record: NodeRecord, term: Term, index: LogIndex) -> None:
        """The leader of this term has what was committed at `index` in an earlier one."""
        log, committed = record.log, self.committed[index - 1]
        if log.last_index < index or (index > log.base and log.term_at(index) != committed[0]):
            raise InvariantBroken(
                "I3",
                f"node {record.node} leads in term {term} with {log}, and has {log.term_at(index)} at {index}; "
                f"committed was {committed}",
            )

    def deposed(self, record: NodeRecord) -> None:
        """It leads no more."""
        record.leads = 0

    # --- logs -----------------------------------------------------------------------------------------------

    def handed_over(self, record: NodeRecord, entries: tuple[Entry, ...]) -> None:
        """Storage is given these entries."""
        log, configurations = record.log, record.configurations
        if entries and entries[0].index <= log.last_index:
            self._see_replacement(record, entries[0].index)
        while entries and configurations and configurations[-1][0] >= entries[0].index:
            configurations.pop()
        for entry in entries:
            index, term, checksum = entry.index, entry.term, entry.checksum
            before = log.term_at(index - 1) if index > 1 else 0
            log.put(index, term, checksum)
            value = (checksum, 0 if before is None else before)
            known = self._entries.get((index, term))
            if known is None:  # then it is the leader of that term that has made it
                fresh = True
                self.largest_entry = max(self.largest_entry, len(entry.data))
                self._entries[index, term] = value
                self.sightings.entry_made(entry)
            elif known == value:
                fresh = False
            else:
                raise InvariantBroken(
                    "I2",
                    f"node {record.node} has {entry!r} behind term {before}, {checksum:#x}; known is {known}",
                )
            if entry.kind is EntryKind.CONFIGURATION:
                configuration = decode_configuration(entry.payload)
                self.roster.appended(index, term, configuration)
                self._configured(record, index, fresh, configuration)
        if log.last_index < record.commit_index:
            raise InvariantBroken(
                "I8", f"node {record.node} cuts its log to {log}, committed {record.commit_index}"
            )

    def _see_replacement(self, record: NodeRecord, index: LogIndex) -> None:
        voters = (record.configuration or self.majorities.first).voters
        term = record.log.term_at(index)
        having = self.majorities.having(voters, index, term)
        self.sightings.replaced(record, index, len(having), len(voters))

    def _configured(
        self, record: NodeRecord, index: LogIndex, fresh: bool, configuration: Configuration
    ) -> None:
        known = record.configurations
        if known:
            self.majorities.check_succession(known[-1][1], configuration)
            if fresh:
                self.majorities.check_change(record, index)
            if fresh and known[-1][1].outgoing and not configuration.outgoing:
                if record.log.term_at(known[-1][0]) != record.log.term_at(index):
                    self.sightings.saw("a joint configuration that another leader leaves")
        known.append((index, configuration))
        self.sightings.configured(configuration)

    # --- after every turn -----------------------------------------------------------------------------------

    def observe(
        self,
        record: NodeRecord,
        term: Term,
        commit: LogIndex,
        applied: LogIndex,
        role: Role,
        voters: Configuration,
    ) -> None:
        """The node's state after a turn."""
        if (
            term < record.term
            or commit < record.commit_index
            or applied < record.applied_index
            or applied > commit
        ):
            raise InvariantBroken(
                "I8",
                f"node {record.node} goes from term {record.term}, commit {record.commit_index}, applied "
                f"{record.applied_index} to term {term}, commit {commit}, applied {applied}",
            )
        record.term, record.applied_index = term, applied
        if voters is not record.in_force:
            self.majorities.check_in_force(record, voters)
        if commit != record.commit_index:
            self._commit(record, commit, voters if role is Role.LEADER else None)
            record.commit_index = commit

    def _commit(self, record: NodeRecord, commit: LogIndex, configuration: Configuration | None) -> None:
        log, committed = record.log, self.committed
        if log.last_index < commit:
            raise InvariantBroken("I3", f"node {record.node} commits {commit} with {log}")
        for index in range(max(len(committed), log.base) + 1, commit + 1):
            term, checksum = log.term_at(index), log.checksum_at(index)
            if term is None or checksum is None or len(committed) != index - 1:
                raise InvariantBroken(
                    "I4", f"node {record.node} commits {index} with {log}; others {len(committed)}"
                )
            committed.append((term, checksum))
            self.roster.committed(index, term)
            self._committed_in[record.term] = index
        if commit > log.base:
            own = (log.term_at(commit), log.checksum_at(commit))
            known = committed[commit - 1]
            if own[0] != known[0] or own[1] not in (known[1], None):
                raise InvariantBroken(
                    "I4", f"node {record.node} commits {own} at {commit}, others {committed[commit - 1]}"
                )
        if configuration is not None:
            self.sightings.committed(log.term_at(record.commit_index + 1) or record.term, record.term)
            for other in self.records.values():
                if other.leads > record.term:
                    self._check_complete(other, other.leads, commit)
            self.majorities.check_commit(record, commit, configuration)
