"""Every message's term, before anything else of it (Raft, 5.1).

* A newer term is adopted, whatever the message says, with two exceptions: a granted pre-vote carries the term that
  *would* be, and a request for votes is answered by the rules of `d_engine.raft.election`, which may ignore it.
* An older term is not processed. A leader that still lives in one is told of the newer, or it would go on for ever if
  its followers no longer listen; so is a candidate, by the election's rules.
* Only the leader of a term appends, beats, or offers snapshots in it. A second one must not exist: the node stops.

Whoever answers a leader is alive: that is noted for check-quorum.
"""

from d_engine.format.errors import InvariantViolation
from d_engine.format.ids import NOBODY, Nanoseconds, NodeId
from d_engine.format.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    RaftMessage,
    ReadRequest,
    ReadResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from d_engine.raft.election import Election
from d_engine.raft.following import FollowerLog
from d_engine.raft.reads import Reads
from d_engine.raft.replication import Replication
from d_engine.raft.state import Leading, RaftState

_FROM_LEADER = (AppendRequest, Heartbeat, InstallSnapshot, TimeoutNow, ReadResponse)
_FROM_ONE_LEADER = (AppendRequest, Heartbeat, InstallSnapshot)
"""What no other node of the term may send."""


class Inbox:
    """Gives each message to the concern that it is for."""

    def __init__(
        self,
        state: RaftState,
        election: Election,
        follower_log: FollowerLog,
        replication: Replication,
        reads: Reads,
    ) -> None:
        self._state = state
        self._election = election
        self._follower_log = follower_log
        self._replication = replication
        self._reads = reads

    def step(self, sender: NodeId, message: RaftMessage, now: Nanoseconds) -> None:
        """A peer said this."""
        state = self._state
        if isinstance(message, VoteRequest):
            self._election.on_vote_request(sender, message, now)
            return
        term = state.hard_state.term
        if message.term < term:
            self._refuse_old_term(sender, message)
            return
        if message.term > term:
            speaks_of_future = isinstance(message, VoteResponse) and message.pre and message.granted
            if not speaks_of_future:
                leader = sender if isinstance(message, _FROM_LEADER) else NOBODY
                state.become_follower(message.term, leader, now)
        if state.leading is not None:
            self._lead_on(state.leading, sender, message, now)
        else:
            self._follow_on(sender, message, now)

    def _refuse_old_term(self, sender: NodeId, message: RaftMessage) -> None:
        term = self._state.term
        if isinstance(message, AppendRequest | InstallSnapshot):
            self._state.send(sender, AppendResponse(term, 0))
        elif isinstance(message, Heartbeat):
            self._state.send(sender, HeartbeatResponse(term, 0))

    def _lead_on(self, leading: Leading, sender: NodeId, message: RaftMessage, now: Nanoseconds) -> None:
        if isinstance(message, _FROM_ONE_LEADER):
            raise InvariantViolation(
                f"nodes {self._state.node_id} and {sender} both lead in term {message.term}"
            )
        progress = leading.progress.get(sender)
        if progress is None:
            return
        progress.contact = now
        if isinstance(message, AppendResponse):
            self._replication.on_append_response(progress, message, now)
        elif isinstance(message, HeartbeatResponse):
            self._replication.on_echo(sender, progress, message, now)
        elif isinstance(message, ReadRequest):
            self._reads.on_read_request(sender, message)

    def _follow_on(self, sender: NodeId, message: RaftMessage, now: Nanoseconds) -> None:
        if isinstance(message, AppendRequest):
            self._follower_log.on_append(sender, message, now)
        elif isinstance(message, Heartbeat):
            self._follower_log.on_heartbeat(sender, message, now)
        elif isinstance(message, InstallSnapshot):
            self._follower_log.on_install_snapshot(sender, message, now)
        elif isinstance(message, VoteResponse):
            self._election.on_vote_response(sender, message, now)
        elif isinstance(message, ReadResponse):
            self._reads.on_read_response(sender, message)
        elif isinstance(message, TimeoutNow):
            self._election.on_timeout_now(sender, now)
