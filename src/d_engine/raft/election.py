"""Elections (Raft, 5.2 and 5.4.1; pre-vote: dissertation, 9.6; check-quorum and loyalty: 4.2.3, 6.2).

    follower --time-out--> pre-candidate --majority would vote--> candidate --majority votes--> leader
        ^                       |                                     |                            |
        +------ leader heard, higher term, lost -----------------------+------ higher term, no majority heard

*Pre-vote.* Before a node enters a new term it asks whether it could win one. A node that was cut off therefore comes
back in the term in which it left, and disturbs nobody. A granted pre-vote promises nothing and changes nothing.

*Loyalty.* Within a minimum election time-out of hearing its leader, a node takes no notice of requests for votes: not
of the request, nor of its term. The leader's leases rest on it, so it is measured from the last contact alone and
survives a change of term. A leader is loyal to itself. Requests that a leader asked for itself (transfer) are exempt.
`now` must not be older than the moment at which the message was taken from the wire.

*Start.* A node that restarts has forgotten whom it heard. If leases may be in use it grants no vote for one minimum
election time-out, the longest that a lease of the forgotten leader can last. A sole voter is exempt: it has no other
leader to be loyal to.

*One vote a term, to an up-to-date log.* The vote is durable before the answer leaves, and a candidate's own vote
counts once it is durable. Whoever asks gets an answer even if this node does not know that it is a voter: its log may
be the one that lacks the entry that made it one (4.2.1). It does not campaign before it knows. A node that was removed
still campaigns until it knows that its removal is committed, without counting itself: its log may be the only one that
holds the entry, and longer than that of everybody whose vote the others need (4.2.2).

*Check-quorum.* A leader that has not heard from a majority for a maximum election time-out stops leading, so that its
clients look elsewhere and it does not hold loyal followers of a minority for ever.

*Quarantine.* A node that has lost entries grants nothing and does not campaign (`d_engine.raft.isolation`).

*Stalled disk.* A leader whose disk has not completed anything for a minimum election time-out while something is
pending gives its leadership away or up; nobody campaigns before a write has completed.
"""

from d_engine.format.ids import NOBODY, Nanoseconds, NodeId
from d_engine.format.messages import VoteRequest, VoteResponse
from d_engine.raft.changes import Changes
from d_engine.raft.quorum import Ballot, Electorate
from d_engine.raft.state import Leading, RaftState
from d_engine.raft.transfer import Transfer


class Election:
    """When to campaign, whom to vote for, when to stop leading."""

    def __init__(self, state: RaftState, changes: Changes, transfer: Transfer, now: Nanoseconds) -> None:
        self._state = state
        self._changes = changes
        self._transfer = transfer
        self._quiet_until = now + state.settings.election_min_ns
        if self._is_sole_voter:
            state.election_deadline = now

    @property
    def _is_sole_voter(self) -> bool:
        return self._state.electorate.is_sole(self._state.node_id)

    # --- time --------------------------------------------------------------------------------------------------------

    def tick(self, now: Nanoseconds) -> None:
        """Time has passed."""
        state = self._state
        if state.leading is not None:
            self._tick_leader(state.leading, now)
        elif now >= state.election_deadline:
            state.delay_election(now)
            if self._can_campaign(now):
                self._campaign(pre=True, transfer=False, now=now)

    def _tick_leader(self, leading: Leading, now: Nanoseconds) -> None:
        state, settings = self._state, self._state.settings
        contacts = {
            peer: progress.contact for peer, progress in leading.progress.items() if not progress.quarantined
        }
        contacts[state.node_id] = now
        if now - state.electorate.reached(contacts) >= settings.election_max_ns:
            state.become_follower(state.term, NOBODY, now)
        elif state.durability.is_stalled(now, settings.election_min_ns) and not self._is_sole_voter:
            self._transfer.yield_stalled(leading, now)
        else:
            self._changes.settle(now)

    def _can_campaign(self, now: Nanoseconds) -> bool:
        state, log = self._state, self._state.log
        if state.log.quarantine is not None:
            return False
        if state.leading is not None or state.durability.is_stalled(now, state.settings.election_min_ns):
            return False
        committed = log.committed_configuration
        if state.node_id in state.electorate.bound:
            return True
        return state.node_id in Electorate(committed, state.incarnations).bound

    # --- asking ------------------------------------------------------------------------------------------------------

    def on_timeout_now(self, sender: NodeId, now: Nanoseconds) -> None:
        """The leader wants this node to take over."""
        state = self._state
        if self._can_campaign(now) and not self._is_quiet(now) and state.leader in (NOBODY, sender):
            state.delay_election(now)
            self._campaign(pre=False, transfer=True, now=now)

    def _campaign(self, pre: bool, transfer: bool, now: Nanoseconds) -> None:
        state = self._state
        state.become_candidate(pre)
        term = state.term + 1 if pre else state.term
        request = VoteRequest(term, state.log.last_index, state.log.last_term, pre, transfer)
        for voter in state.configuration.all_voters:
            if voter != state.node_id:
                state.send(voter, request, promises_vote=not pre)
        if pre:
            self._count(state.node_id, True, now)

    def vote_persisted(self, now: Nanoseconds) -> None:
        """A write has completed: if it was a candidate's vote for itself, that counts now."""
        state, candidacy = self._state, self._state.candidacy
        if candidacy is not None and not candidacy.pre and state.durability.durable == state.hard_state:
            self._count(state.node_id, True, now)

    def on_vote_response(self, sender: NodeId, response: VoteResponse, now: Nanoseconds) -> None:
        """An answer, of this term or, for a granted pre-vote, the next."""
        state, candidacy = self._state, self._state.candidacy
        if candidacy is None or response.pre != candidacy.pre:
            return
        if response.granted and response.term != state.term + (1 if response.pre else 0):
            return
        self._count(sender, response.granted, now)

    def _count(self, voter: NodeId, granted: bool, now: Nanoseconds) -> None:
        state, candidacy = self._state, self._state.candidacy
        if candidacy is None:
            return
        candidacy.votes.setdefault(voter, granted)
        ballot = state.electorate.tally(candidacy.votes)
        if ballot is Ballot.LOST:
            state.become_follower(state.term, NOBODY, now)
        elif ballot is Ballot.WON and candidacy.pre:
            self._campaign(pre=False, transfer=False, now=now)
        elif ballot is Ballot.WON:
            self._changes.begin_term(state.become_leader(now), now)

    # --- answering ---------------------------------------------------------------------------------------------------

    def on_vote_request(self, sender: NodeId, request: VoteRequest, now: Nanoseconds) -> None:
        """Somebody asks for a vote, in whatever term."""
        state = self._state
        if self._is_quiet(now) or (not request.transfer and self._is_loyal(now)):
            return
        if request.term > state.term and not request.pre:
            state.become_follower(request.term, NOBODY, now)
        granted = (
            state.log.quarantine is None
            and request.term >= state.term
            and state.log.is_up_to_date(request.last_index, request.last_term)
        )
        if not request.last_index and not state.configuration.members:
            granted = False  # who was started to join helps nobody to found another cluster
        if request.pre:
            granted = granted and request.term > state.term
            term = request.term if granted else state.term
            state.send(sender, VoteResponse(term, granted, True))
            return
        granted = granted and state.leading is None and state.hard_state.vote in (NOBODY, sender)
        if granted:
            state.vote(sender)
            state.delay_election(now)
        state.send(sender, VoteResponse(state.term, granted, False), promises_vote=granted)

    def _is_quiet(self, now: Nanoseconds) -> bool:
        """True while a leader that this node heard before it restarted may count on it."""
        configuration = self._state.configuration
        leases = configuration.lease_reads or not configuration.voters
        return now < self._quiet_until and leases and not self._is_sole_voter

    def _is_loyal(self, now: Nanoseconds) -> bool:
        state = self._state
        if state.leading is not None:
            return True
        return state.contact_at is not None and now - state.contact_at < state.settings.election_min_ns
