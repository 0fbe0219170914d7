"""The sending side of replication, and commitment (Raft, 5.3 and 5.4.2; dissertation, 3.5, 3.6, 10.2).

The leader sends entries before its own disk has them and counts itself only after (10.2.1: it writes in parallel with
its followers); its own mark is `durable_index`, theirs is what they acknowledged.

*Commitment.* The commit index moves to an index that a majority has durably, and only if the entry there is of this
leader's own term: an older entry on a majority can still be replaced (figure 8); it is committed by one of this term
behind it.

*Flow.* Appends are pipelined per peer up to a limit of bytes and messages. A peer whose appends got lost notices
nothing by itself if nothing follows, so when a heartbeat's echo finds a peer behind and silent for a while, the leader
asks with an empty append at the point up to which it has sent: the answer either confirms (the peer's disk is slow,
nothing was lost) or is a rejection that leads back to probing.

*Finding where logs part.* See `d_engine.raft.following` for the follower's half. A rejection carries the last place
`(hint_index, hint_term)` that might agree. The leader looks for its own last index, up to there, whose term is not
above `hint_term`: each round leaves at least one term of one log behind.

*Quarantine.* Of a peer that says that it may have lost something nothing is known any more: it is asked anew, from the
end of this log on. If it rejects what it had acknowledged, it has lost it. One whose state is wrong is sent nothing but
a snapshot that is new enough.

*News.* Followers learn the commit index with appends and heartbeats; when it moves and nothing else goes out, a
heartbeat of round 0 takes it along. It is never more than what this node has applied and, but for appends, never more
than what the follower is known to have.
"""

from d_engine.format.entry import Entry
from d_engine.format.errors import InvariantViolation, check
from d_engine.format.ids import LogIndex, Nanoseconds, NodeId
from d_engine.format.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
)
from d_engine.raft.progress import Progress, ProgressState
from d_engine.raft.state import Leading, RaftState


class Replication:
    """What a leader does for its followers' logs."""

    def __init__(self, state: RaftState) -> None:
        self._state = state

    # --- who ---------------------------------------------------------------------------------------------------------

    def follow_configuration(self, leading: Leading, now: Nanoseconds) -> None:
        """Everybody in the configuration in force gets the log, nobody else."""
        state, known = self._state, leading.progress
        peers = [member.id for member in state.configuration.members if member.id != state.node_id]
        if peers != list(known):
            # A peer's first append begins at the newest entry: most peers have all the others.
            leading.progress = {
                peer: known[peer] if peer in known else Progress(state.log.last_index, now) for peer in peers
            }

    def restart(self, peer: NodeId, forget: bool, now: Nanoseconds) -> None:
        """What was sent may be lost (`forget`: and what was acknowledged too, the peer has another disk)."""
        leading = self._state.leading
        if leading is None or peer not in leading.progress:
            return
        if forget:
            leading.progress[peer] = Progress(self._state.log.last_index, now)
        else:
            leading.progress[peer].disconnected()
            # If it comes back in quarantine, that is news.
            self._note_quarantine(leading.progress[peer], False, 0)

    # --- answers -----------------------------------------------------------------------------------------------------

    def on_append_response(self, progress: Progress, response: AppendResponse, now: Nanoseconds) -> None:
        """The peer's log agrees up to somewhere, or does not agree where we thought."""
        log = self._state.log
        if response.rejected_index:
            if progress.quarantined and response.rejected_index <= progress.match_index:
                progress.forget()
            if not progress.is_stale_rejection(response.rejected_index):
                last = log.last_not_above(response.hint_term, response.hint_index)
                progress.probe(last + 1)
            return
        if response.match_index > log.last_index:
            raise InvariantViolation(
                f"a peer acknowledged index {response.match_index}; the leader's log ends at {log.last_index}"
            )
        if progress.acknowledged(response.match_index, now) and progress.state is ProgressState.SNAPSHOT:
            if self._can_send_from(progress.match_index + 1):
                progress.snapshot_done()

    def on_echo(self, peer: NodeId, progress: Progress, echo: HeartbeatResponse, now: Nanoseconds) -> None:
        """The peer lives. If it is behind and nothing moves, something may have been lost."""
        progress.round_acked = max(progress.round_acked, echo.round)
        self._note_quarantine(progress, echo.quarantined, echo.wanted_index)
        settings, silent = self._state.settings, now - progress.sent_at
        if progress.state is ProgressState.SNAPSHOT:
            if silent >= settings.election_max_ns:
                progress.probe_sent = False
        elif silent >= settings.heartbeat_ns and (progress.probe_sent or progress.in_flight_messages):
            self._ask(peer, progress, now)

    def _note_quarantine(self, progress: Progress, quarantined: bool, wanted_index: LogIndex) -> None:
        leading, last_index = self._state.leading, self._state.log.last_index
        if wanted_index and not progress.wanted_index:
            progress.forget()
            progress.snapshot()
        elif not wanted_index and progress.wanted_index and progress.state is ProgressState.SNAPSHOT:
            # It has one, or its state was sound again after a restart. There may be none to be sent.
            progress.probe(last_index)
        elif quarantined and not progress.quarantined:
            # Nothing is known of it any more. It must hear how far this log goes before it can be whole again.
            progress.forget()
            progress.probe(last_index)
        progress.quarantined, progress.wanted_index = quarantined, wanted_index
        if leading is not None and wanted_index > leading.wanted_index:
            leading.wanted_index = wanted_index

    def _ask(self, peer: NodeId, progress: Progress, now: Nanoseconds) -> None:
        prev_index = progress.next_index - 1
        prev_term = self._state.log.term_at(prev_index)
        if prev_term is None or not self._can_send_from(progress.next_index):
            # Gone from the log meanwhile. A window that is full of what got lost would never find out by itself.
            self._send_snapshot(peer, progress, now)
            return
        progress.sent_at = now
        commit_index = self._state.told_commit
        self._state.send(peer, AppendRequest(self._state.term, prev_index, prev_term, commit_index))

    # --- commitment --------------------------------------------------------------------------------------------------

    def advance_commit(self, leading: Leading) -> None:
        """Commit what a majority has, if it is of this term."""
        state, log = self._state, self._state.log
        if log.commit_index == log.last_index:
            return
        matches = {state.settings.node_id: log.durable_index}
        for peer, progress in leading.progress.items():
            matches[peer] = progress.match_index
        index = state.electorate.reached(matches)
        if index > log.commit_index and log.term_at(index) == state.hard_state.term:
            log.commit_index = index

    # --- sending -----------------------------------------------------------------------------------------------------

    def send_heartbeats(self, leading: Leading, number: int, now: Nanoseconds) -> None:
        """A round, to everybody."""
        leading.next_heartbeat = now + self._state.settings.heartbeat_ns
        for peer, progress in leading.progress.items():
            self._send_heartbeat(peer, progress, number)

    def _send_heartbeat(self, peer: NodeId, progress: Progress, number: int) -> None:
        state = self._state
        commit_index = min(progress.match_index, state.told_commit)
        progress.commit_sent = max(progress.commit_sent, commit_index)
        state.send(peer, Heartbeat(state.hard_state.term, number, commit_index, state.log_time))

    def send_appends(self, leading: Leading, now: Nanoseconds) -> None:
        """Everything that flow control lets through, and the commit index to those who got nothing else."""
        told, last_index = self._state.told_commit, self._state.log.last_index
        built: dict[LogIndex, AppendRequest] = {}
        for peer, progress in leading.progress.items():
            # Most often a peer has been sent everything, and there is nothing to ask.
            behind = progress.next_index <= last_index or progress.state is not ProgressState.REPLICATE
            sent = behind and self._send_to(peer, progress, built, now)
            if not sent and progress.commit_sent < told and progress.commit_sent < progress.match_index:
                self._send_heartbeat(peer, progress, 0)

    def _send_to(
        self, peer: NodeId, progress: Progress, built: dict[LogIndex, AppendRequest], now: Nanoseconds
    ) -> bool:
        state, limit = self._state, self._state.settings.max_in_flight_bytes
        sent = False
        while self._may_send(progress):
            if not self._can_send_from(progress.next_index):
                self._send_snapshot(peer, progress, now)
                return True
            request = built.get(progress.next_index)
            if request is None:
                request = built[progress.next_index] = self._append_from(progress.next_index)
            size = 0
            for entry in request.entries:
                size += len(entry.data)
            if progress.in_flight_bytes and progress.in_flight_bytes + size > limit:
                break
            last = request.prev_index + len(request.entries)
            if progress.state is ProgressState.REPLICATE:
                progress.commit_sent = max(progress.commit_sent, min(request.commit_index, last))
            progress.sent(last, size, now)
            state.send(peer, request)
            sent = True
        if progress.state is ProgressState.SNAPSHOT and not progress.probe_sent:
            self._send_snapshot(peer, progress, now)
            sent = True
        return sent

    def _may_send(self, progress: Progress) -> bool:
        last_index, settings = self._state.log.last_index, self._state.settings
        if progress.state is ProgressState.REPLICATE:
            return (
                progress.next_index <= last_index
                and progress.in_flight_messages < settings.max_in_flight_messages
                and progress.in_flight_bytes < settings.max_in_flight_bytes
            )
        if progress.state is ProgressState.PROBE:
            return not progress.probe_sent and progress.match_index < last_index
        return False

    def _can_send_from(self, index: LogIndex) -> bool:
        log = self._state.log
        return index >= log.first_index and log.term_at(index - 1) is not None

    def _append_from(self, first: LogIndex) -> AppendRequest:
        state, log = self._state, self._state.log
        prev_term = log.term_at(first - 1)
        if prev_term is None:
            raise InvariantViolation(f"the term before index {first} is not known")
        entries: tuple[Entry, ...] = ()
        if first <= log.last_index:
            entries = log.slice(first, log.last_index, state.settings.max_append_bytes)
        return AppendRequest(state.term, first - 1, prev_term, state.told_commit, entries)

    def _send_snapshot(self, peer: NodeId, progress: Progress, now: Nanoseconds) -> None:
        """What the peer needs is gone from the log: offer the snapshot that stands for it."""
        snapshot = self._state.log.snapshot
        if progress.wanted_index > (0 if snapshot is None else snapshot.index):
            # One is being made (`Isolation.snapshot_wanted`).
            return
        if snapshot is None:
            check(
                False, f"the log begins at {self._state.log.first_index} and no snapshot stands for the rest"
            )
            return
        if progress.state is not ProgressState.SNAPSHOT:
            progress.snapshot()
        progress.sent(snapshot.index, 0, now)
        self._state.send(peer, InstallSnapshot(self._state.term, snapshot))
