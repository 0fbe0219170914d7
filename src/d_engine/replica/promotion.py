"""When a learner becomes a voter, and which changes of voters a leader advises against (Raft dissertation, 4.2.1).

Any change that `d_engine.raft.membership` lets through is *safe*. What is judged here is whether it is *wise*: a new
voter that lacks half the log, or does not answer, makes the cluster slower to commit and quicker to stop.

*Catching up* is measured in rounds. A round ends when the learner has durably what the leader's log held when the round
began; then the next one begins. A learner has caught up when its last round, and the one under way, are shorter than a
minimum election time-out: were the leader to fall, it would delay the others by no more than an election does.

*By itself* the leader promotes learners that have caught up and have answered within two heartbeats, only so many that
the number of voters becomes odd (an even number tolerates no more failures than one voter less, and needs one more to
answer), all of them in one joint step, those with the lowest ids first. Never: read-only learners, and voters that
somebody made learners.

*Asked for*, the same holds, but for two things. Who was demoted may be promoted. And a voter that does not answer may
be replaced by one that still has everything to learn: that takes nothing from the cluster. Beyond promotions, no step
may leave voters of whom no majority answers now. `force` overrides all of this.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from d_engine.format.ids import LogIndex, Nanoseconds, NodeId, Term
from d_engine.raft.core import Raft
from d_engine.raft.membership import Change, Demote, Promote, Remove, words_of
from d_engine.raft.view import PeerStatus, RaftStatus
from d_engine.replica.settings import ReplicaSettings

ANSWER_HEARTBEATS = 2


@dataclass(slots=True)
class _Round:
    """The round under way, and whether the last one was short."""

    target: LogIndex
    began: Nanoseconds
    was_short: bool = False


class CatchUp:
    """Measures the learners of one leader in its term."""

    def __init__(self, limit: Nanoseconds) -> None:
        self._limit = limit
        self._term: Term = 0
        self._rounds: dict[NodeId, _Round] = {}

    def observe(
        self, term: Term, last_index: LogIndex, matches: Mapping[NodeId, LogIndex], now: Nanoseconds
    ) -> None:
        """How far each learner's log agrees with the leader's, which ends at `last_index`."""
        known = self._rounds if term == self._term else {}
        self._term, self._rounds = term, {}
        for node_id, match_index in matches.items():
            measured = self._rounds[node_id] = known.get(node_id) or _Round(last_index, now)
            if match_index >= measured.target:
                measured.was_short = now - measured.began < self._limit
                measured.target, measured.began = last_index, now

    def has_caught_up(self, node_id: NodeId, now: Nanoseconds) -> bool:
        """See the module's text."""
        measured = self._rounds.get(node_id)
        return measured is not None and measured.was_short and now - measured.began < self._limit


def choose(voters: int, ready: Sequence[NodeId]) -> tuple[NodeId, ...]:
    """As many of the learners that are ready as make the number of voters odd."""
    count = len(ready) if (voters + len(ready)) % 2 else len(ready) - 1
    return tuple(sorted(ready)[: max(0, count)])


class Promotion:
    """The leader's judgement. It looks at the core and proposes to it."""

    def __init__(self, raft: Raft, settings: ReplicaSettings) -> None:
        self._raft = raft
        self._settings = settings
        self._catch_up = CatchUp(settings.election_min_ns)

    # --- by itself ---------------------------------------------------------------------------------------------------

    def drive(self, log_time: Nanoseconds, now: Nanoseconds) -> None:
        """Now and then on a leader: measure, and promote whoever is to be promoted."""
        raft, configuration = self._raft, self._raft.configuration
        if not configuration.learners or not raft.ready:
            return
        status = self._measure(now)
        if not self._settings.auto_promote or status.pending_change or not raft.accepts_proposals:
            return
        chosen = choose(len(configuration.voters), self._ready(status.peers, now))
        if chosen:
            raft.propose_change([Promote(node_id) for node_id in chosen], log_time, now)

    def _measure(self, now: Nanoseconds) -> RaftStatus:
        raft, status = self._raft, self._raft.status()
        # A leader that was demoted is a learner, leads until that is committed, and is no peer of its own.
        peers = {node: status.peers.get(node) for node in raft.configuration.learners}
        matches = {node: peer.match_index for node, peer in peers.items() if peer is not None}
        self._catch_up.observe(raft.term, raft.last_index, matches, now)
        return status

    def _ready(self, peers: Mapping[NodeId, PeerStatus], now: Nanoseconds) -> list[NodeId]:
        configuration = self._raft.configuration
        return [
            node_id
            for node_id in configuration.learners
            if node_id not in configuration.demoted and not self._unfit(node_id, peers, now)
        ]

    def _unfit(self, node_id: NodeId, peers: Mapping[NodeId, PeerStatus], now: Nanoseconds) -> str:
        """Why the node would make a bad voter; empty if it would not."""
        configuration = self._raft.configuration
        member, peer = configuration.member(node_id), peers.get(node_id)
        if node_id in configuration.read_only:
            return "it is read-only and is never promoted"
        if member is None or peer is None:
            return "it is no member yet: start it with --join and let it catch up"
        if not member.incarnation:
            return "it has not connected yet"
        if peer.quarantined:
            return "it is in quarantine, its data is being repaired"
        if now - peer.last_contact > ANSWER_HEARTBEATS * self._settings.heartbeat_ns:
            return f"it has not answered for {ANSWER_HEARTBEATS} heartbeats"
        if not self._catch_up.has_caught_up(node_id, now):
            return f"it is catching up, {peer.lag} entries are missing"
        return ""

    def waiting(self, now: Nanoseconds) -> dict[NodeId, str]:
        """On a leader: each learner, and why it is no voter yet."""
        raft, configuration = self._raft, self._raft.configuration
        status = raft.status()
        ready = self._ready(status.peers, now)
        reasons = {}
        for node_id in configuration.learners:
            reason = self._unfit(node_id, status.peers, now)
            if not reason and node_id in configuration.demoted:
                reason = "it was demoted: it is promoted only when somebody asks for it"
            elif not reason and not self._settings.auto_promote:
                reason = "automatic promotion is off"
            elif not reason and status.pending_change:
                reason = f"another change is not finished: {status.pending_change}"
            elif not reason and node_id not in choose(len(configuration.voters), ready):
                reason = "it is ready and waits for one more learner, so that the number of voters stays odd"
            reasons[node_id] = reason or "it is about to be promoted"
        return reasons

    # --- asked for ---------------------------------------------------------------------------------------------------

    def objection(self, changes: Sequence[Change], now: Nanoseconds) -> str:
        """What speaks against this step; empty if nothing does."""
        raft = self._raft
        before, peers = raft.configuration.voters, self._measure(now).peers
        gone = [change.node_id for change in changes if isinstance(change, Remove | Demote)]
        coming = [change.node_id for change in changes if isinstance(change, Promote)]
        after = sorted({*before, *coming} - {*gone})
        if after == list(before):
            return ""
        if coming and len(after) > len(before) and not len(after) % 2:
            return (
                f"{len(after)} voters would tolerate no more failures than {len(after) - 1}, and need more of them to "
                "answer; promote two at once, or wait for another learner"
            )
        answering = self._answering(peers, now)
        silent = [node_id for node_id in gone if node_id in before and node_id not in answering]
        unfit = {node_id: self._unfit(node_id, peers, now) for node_id in coming}
        late = [node_id for node_id in coming if unfit[node_id]]
        if len(late) > len(silent):
            return f"node {late[0]} should not be a voter now: {unfit[late[0]]}"
        sure = [node_id for node_id in after if node_id in answering and node_id not in late]
        if 2 * len(sure) <= len(after):
            return f"of {words_of(after)} only {len(sure)} would answer, no majority: the cluster would stand still"
        return ""

    def _answering(self, peers: Mapping[NodeId, PeerStatus], now: Nanoseconds) -> dict[NodeId, bool]:
        """Members that count and have answered within a minimum election time-out, this leader among them."""
        limit = self._settings.election_min_ns
        found = {self._raft.node_id: True}
        for member in self._raft.configuration.members:
            peer = peers.get(member.id)
            if peer is None or peer.quarantined:
                continue
            if member.incarnation and now - peer.last_contact < limit:
                found[member.id] = True
        return found
