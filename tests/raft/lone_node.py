"""One core alone, whose peers are the test: what it sends comes back as a list, its disk works when told."""

from collections.abc import Sequence

from d_engine.format.configuration import Configuration, Member, encode_configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.ids import NodeId, Term
from d_engine.format.messages import (
    AppendRequest,
    AppendResponse,
    HeartbeatResponse,
    RaftMessage,
    VoteRequest,
    VoteResponse,
)
from d_engine.format.state import HardState
from d_engine.raft.core import Raft
from d_engine.raft.effects import Effects, Persist
from d_engine.raft.settings import RaftSettings
from d_engine.raft.state import _GOLDEN_RATIO
from tests.raft.model_disk import ModelDisk

MS = 1_000_000
START = 1_000_000 * MS

Sends = list[tuple[NodeId, RaftMessage]]


def configuration_of(
    voters: Sequence[NodeId],
    learners: Sequence[NodeId] = (),
    lease_reads: bool = False,
    unbound: Sequence[NodeId] = (),
) -> Configuration:
    """A born cluster; node n has data directory 100 + n."""
    members = tuple(Member(n, "", 0 if n in unbound else 100 + n) for n in sorted((*voters, *learners)))
    return Configuration(7, members, tuple(voters), learners=tuple(learners), lease_reads=lease_reads)


def command(index: int, term: Term, payload: bytes = b"x") -> Entry:
    return Entry.create(EntryKind.COMMANDS, term, index, 0, [payload], 1)


def commands(first: int, terms: Sequence[Term]) -> tuple[Entry, ...]:
    return tuple(command(first + place, term) for place, term in enumerate(terms))


def shortest_time_out(bits: int) -> int:
    """What node 1 must draw to campaign as early as it may (its id shifts what it draws); 0 for everything else."""
    return -_GOLDEN_RATIO % (1 << 32) if bits == 32 else 0


class LoneNode:
    """Node 1 of a cluster. Its log begins with the configuration, followed by entries of the terms given."""

    def __init__(
        self,
        terms: Sequence[Term] = (1,),
        voters: Sequence[NodeId] = (1, 2, 3),
        hard_state: HardState | None = None,
        configuration: Configuration | None = None,
        settings: RaftSettings | None = None,
    ) -> None:
        self.now = START
        self.auto_persist = True
        self.auto_apply = True
        self.disk = ModelDisk()
        self.settings = settings or RaftSettings(1, 101)
        self.gathered = Effects()
        configuration = configuration or configuration_of(voters)
        if terms:
            payload = [encode_configuration(configuration)]
            birth = Entry.create(EntryKind.CONFIGURATION, terms[0], 1, 0, payload)
            state = hard_state or HardState(terms[-1], 0)
            self.disk.append(Persist(0, state, (birth, *commands(2, terms[1:]))))
            self.disk.complete_next()
        self.raft = self.start()

    def start(self) -> Raft:
        recovered = self.disk.recover()
        self.raft = Raft(self.settings, recovered, None, self.disk.read, shortest_time_out, self.now)
        return self.raft

    def turn(self) -> Sends:
        """Take effects until there are none; returns what was sent."""
        sends: Sends = []
        while effects := self.raft.effects(self.now):
            self.gathered = effects
            if effects.persist is not None:
                self.disk.append(effects.persist)
                if self.auto_persist:
                    self.persist_only()
            sends += effects.sends
            if effects.commit_index is not None and self.auto_apply:
                self.raft.applied(effects.commit_index, self.now)
        return sends

    def persist_only(self) -> None:
        while (seq := self.disk.complete_next()) is not None:
            self.raft.persisted(seq, self.now)

    def persist(self) -> Sends:
        self.persist_only()
        return self.turn()

    def receive(self, sender: NodeId, message: RaftMessage) -> Sends:
        self.raft.step(sender, message, self.now)
        return self.turn()

    def wait(self, milliseconds: float) -> Sends:
        """Time passes, and is noticed at its end."""
        self.now += int(milliseconds * MS)
        self.raft.tick(self.now)
        return self.turn()

    def campaign(self) -> Sends:
        """Until the node asks for real votes."""
        self.now = max(self.now, self.raft.deadline)
        self.raft.tick(self.now)
        sends = self.turn()
        for to, message in sends:
            if isinstance(message, VoteRequest) and message.pre:
                self.raft.step(to, VoteResponse(message.term, True, True), self.now)
        return self.turn()

    def lead(self, ready: bool = True) -> Sends:
        """Until the node leads and, unless told otherwise, has applied its term's first entry."""
        for to, message in self.campaign():
            if isinstance(message, VoteRequest):
                self.raft.step(to, VoteResponse(self.raft.term, True, False), self.now)
        sends = self.turn()
        if ready:
            for to in self.raft.status().peers:
                self.accept(to)
                self.receive(to, HeartbeatResponse(self.raft.term, self.raft._state.leading.rounds.number))  # type: ignore[union-attr]
        return sends

    def accept(self, peer: NodeId, index: int | None = None) -> Sends:
        """The peer acknowledges everything, or up to `index`."""
        match_index = self.raft.last_index if index is None else index
        return self.receive(peer, AppendResponse(self.raft.term, match_index))

    def follow(self, leader: NodeId = 2, term: Term | None = None) -> Sends:
        """An empty append of a leader that agrees with the whole log."""
        log = self.raft._state.log
        request = AppendRequest(
            term or max(1, self.raft.term), log.last_index, log.last_term, log.commit_index
        )
        return self.receive(leader, request)

    @property
    def terms(self) -> list[Term | None]:
        log = self.raft._state.log
        return [log.term_at(index) for index in range(log.first_index, log.last_index + 1)]


def only(sends: Sends, kind: type[RaftMessage]) -> Sends:
    """The messages of one kind."""
    return [(to, message) for to, message in sends if isinstance(message, kind)]
