"""Linearizable reads without a log entry, and leases (Raft dissertation, 6.4 and 6.4.1).

Reads that join within one turn share a *batch*. On the leader, a round is sent after they joined (see
`d_engine.raft.rounds`); its read index is the commit index of that moment. When a majority has echoed, no newer leader
could have committed anything before the reads began, so every state that has applied the read index may answer them.
A leader starts rounds for reads only once its term's first entry is applied: before that its commit index may be
behind what an earlier leader had acknowledged.

A follower asks the leader, which lets the request join its next round, and waits until it has itself applied the read
index before it answers. The answer counts only in the term in which it was asked and given. Batches are numbered from
a random start, so that an answer meant for this node before it restarted is never taken for one to a newer question.
Reads that find no leader stay; whoever waits for them has a time-out of his own.

*Leases.* A majority that echoed a round is loyal to this leader for a minimum election time-out from when it received
the round, so nobody else is elected before `lease_ns` have passed since it was *sent*. That holds only if the
configuration allows leases, and not after a transfer was started (see `d_engine.raft.transfer`). `now` must be read
from the clock at that moment, and it must count the time for which the machine was suspended.
"""

from d_engine.format.ids import MAX_U63, NOBODY, Nanoseconds, NodeId, Term
from d_engine.format.messages import ReadRequest, ReadResponse
from d_engine.raft.effects import ReadReady
from d_engine.raft.replication import Replication
from d_engine.raft.state import Leading, RaftState

BATCH_START_BITS = 61
"""Leaves room for 2**61 batches below the limit of the format."""
NO_END: Nanoseconds = MAX_U63
"""The lease of a sole voter: nobody else can be elected."""


class Reads:
    """This node's reads, and those that followers ask for."""

    def __init__(self, state: RaftState, replication: Replication) -> None:
        self._state = state
        self._replication = replication
        self._batch = self._answered = state.random_bits(BATCH_START_BITS)
        self._open = False
        self._asked_batch = 0
        self._asked_in: tuple[Term, NodeId] = (0, NOBODY)
        self._asked_at: Nanoseconds = 0
        self._ready: ReadReady | None = None
        self._lease_ns = state.settings.lease_ns

    @property
    def waiting(self) -> bool:
        """True while reads of this node wait for a confirmation."""
        return self._batch > self._answered

    def join(self) -> int:
        """One read more; returns its batch."""
        if not self._open:
            self._open = True
            self._batch += 1
        return self._batch

    def take_ready(self) -> ReadReady | None:
        """What may be answered, if that is news."""
        ready, self._ready = self._ready, None
        return ready

    def _answer(self, batch: int, read_index: int) -> None:
        self._answered = batch
        self._ready = ReadReady(batch, read_index)

    # --- on the leader -----------------------------------------------------------------------------------------------

    def run_round(self, leading: Leading, now: Nanoseconds) -> None:
        """Once a turn: confirm what was echoed, send a round if reads have joined or a heartbeat is due."""
        due = now >= leading.next_heartbeat
        if due or self._batch > self._answered or leading.remote_reads:
            self._start_round(leading, due, now)
        if leading.rounds.under_way or leading.answers:
            self._confirm(leading)

    def _start_round(self, leading: Leading, due: bool, now: Nanoseconds) -> None:
        state, rounds = self._state, leading.rounds
        wanted = state.is_ready and not rounds.is_full
        batch = self._batch if wanted and self._batch > max(self._answered, leading.batch_joined) else 0
        remote = leading.remote_reads if wanted else {}
        if batch or remote or due:
            started = rounds.start(now, state.log.commit_index, batch, remote)
            if batch:
                leading.batch_joined, self._open = batch, False
            if remote:
                leading.remote_reads = {}
            if due or not state.electorate.is_sole(state.node_id):
                self._replication.send_heartbeats(leading, started.number, now)

    def _confirm(self, leading: Leading) -> None:
        state = self._state
        echoed = {state.node_id: leading.rounds.number}
        for peer, progress in leading.progress.items():
            echoed[peer] = progress.round_acked
        for confirmed in leading.rounds.confirm(state.electorate.reached(echoed)):
            if confirmed.batch:
                self._answer(confirmed.batch, confirmed.read_index)
            for peer, batch in confirmed.remote.items():
                leading.answers.append((confirmed.read_index, peer, batch))
        applied = state.log.applied_index
        while leading.answers and leading.answers[0][0] <= applied:
            read_index, peer, batch = leading.answers.pop(0)
            state.send(peer, ReadResponse(state.term, batch, read_index))

    def on_read_request(self, sender: NodeId, request: ReadRequest) -> None:
        """A follower asks."""
        leading = self._state.leading
        if leading is not None and sender in leading.progress:
            leading.remote_reads[sender] = max(request.batch, leading.remote_reads.get(sender, 0))

    @property
    def lease_deadline(self) -> Nanoseconds:
        """Until when this leader may answer reads on its own; 0 if it may not."""
        state, leading = self._state, self._state.leading
        log = state.log
        if leading is None or leading.transferred or not log.configuration.lease_reads:
            return 0
        if log.applied_index < leading.first_index:
            return 0
        if len(log.configuration.voters) == 1 and state.electorate.is_sole(state.settings.node_id):
            return NO_END
        confirmed_at = leading.rounds.confirmed_at
        return 0 if confirmed_at is None else confirmed_at + self._lease_ns

    # --- on a follower -----------------------------------------------------------------------------------------------

    def ask(self, now: Nanoseconds) -> None:
        """Once a turn: ask the leader for what has joined, or again if it has not answered."""
        state = self._state
        if self._batch <= self._answered or not state.leader:
            return
        asked_in = (state.term, state.leader)
        again = now >= self._asked_at + state.settings.heartbeat_ns
        if again or asked_in != self._asked_in or self._asked_batch < self._batch:
            self._asked_batch, self._asked_in, self._asked_at = self._batch, asked_in, now
            self._open = False
            state.send(state.leader, ReadRequest(state.term, self._batch))

    @property
    def deadline(self) -> Nanoseconds | None:
        """When to ask again."""
        if self._batch <= self._answered or not self._state.leader or self._state.leading is not None:
            return None
        return self._asked_at + self._state.settings.heartbeat_ns

    def on_read_response(self, sender: NodeId, response: ReadResponse) -> None:
        """The leader's answer, given in this node's present term."""
        asked = self._asked_in == (self._state.term, sender)
        if asked and self._answered < response.batch <= self._asked_batch:
            self._answer(response.batch, response.read_index)
