"""Giving leadership away (Raft dissertation, 3.10).

The leader stops taking proposals, lets the target catch up, then asks it to campaign at once (`TimeoutNow`). The target
skips the pre-vote, and its requests say that the leader itself wanted the election, so that loyal followers answer. If
nothing has come of it within one maximum election time-out, the leader takes proposals again.

From the first attempt on this leader serves no lease read for the rest of its term: a `TimeoutNow` that was given up
may still arrive, and then another node can be elected although followers are loyal.

A leader gives leadership away by itself in two cases: it is no voter any more once the configuration that says so is
committed (4.2.2), or its disk has stalled, so that it can promise nothing while its heartbeats would keep everybody
loyal.
"""

from d_engine.format.errors import ChangePendingError, MembershipError
from d_engine.format.ids import NOBODY, Nanoseconds, NodeId
from d_engine.format.messages import TimeoutNow
from d_engine.raft.errors import NotLeader
from d_engine.raft.state import Leading, RaftState, TransferAttempt


class Transfer:
    """Attempts to give leadership away."""

    def __init__(self, state: RaftState) -> None:
        self._state = state

    def start(self, to: NodeId, now: Nanoseconds) -> None:
        """Begin. Raises `NotLeader`, `MembershipError` (a target that cannot lead), `ChangePendingError`."""
        state, leading = self._state, self._state.leading
        if leading is None:
            raise NotLeader(f"node {state.node_id} does not lead and has nothing to give away")
        if to == state.node_id:
            raise MembershipError(f"node {to} leads already")
        if to not in state.configuration.voters or to not in state.electorate.bound:
            raise MembershipError(f"node {to} is no voter of the configuration in force; it cannot lead")
        if to in leading.progress and leading.progress[to].quarantined:
            raise MembershipError(f"node {to} is in quarantine, its data is being repaired; it cannot lead")
        if leading.transfer is not None and leading.transfer.to != to:
            raise ChangePendingError(f"leadership is being given to node {leading.transfer.to}")
        if leading.transfer is None:
            leading.transfer = TransferAttempt(to, now + state.settings.election_max_ns)
            leading.transferred = True

    def drive(self, leading: Leading, now: Nanoseconds) -> None:
        """Once a turn: ask the target to campaign when it has everything, give up when the time is over."""
        attempt = leading.transfer
        if attempt is None:
            return
        progress = leading.progress.get(attempt.to)
        if now >= attempt.deadline or progress is None or attempt.to not in self._state.configuration.voters:
            leading.transfer = None
        elif not attempt.told and progress.match_index == self._state.log.last_index:
            attempt.told = True
            self._state.send(attempt.to, TimeoutNow(self._state.term))

    def best(self, now: Nanoseconds) -> NodeId:
        """The voter that is alive and furthest, the lowest id of several; `NOBODY` if there is none."""
        state, leading = self._state, self._state.leading
        if leading is None:
            return NOBODY
        best, furthest = NOBODY, -1
        for peer, progress in leading.progress.items():
            alive = now - progress.contact < state.settings.election_min_ns
            able = peer in state.electorate.bound and not progress.quarantined
            able = able and peer in state.configuration.voters
            if alive and able and progress.match_index > furthest:
                best, furthest = peer, progress.match_index
        return best

    def abdicate(self, now: Nanoseconds) -> None:
        """Stop leading at once; the best peer is asked to take over."""
        state, successor = self._state, self.best(now)
        if successor:
            state.send(successor, TimeoutNow(state.term))
        state.become_follower(state.term, NOBODY, now)

    def yield_stalled(self, leading: Leading, now: Nanoseconds) -> None:
        """This leader's disk is stalled: give leadership away, or up if nobody took it."""
        if leading.transfer is not None:
            return
        successor = NOBODY if leading.transferred else self.best(now)
        if successor:
            self.start(successor, now)
        else:
            state = self._state
            state.become_follower(state.term, NOBODY, now)
