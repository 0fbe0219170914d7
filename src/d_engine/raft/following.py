"""The receiving side of replication (Raft, 5.3 and figure 2, "AppendEntries RPC, receiver implementation").

An append is accepted if the log holds `(prev_index, prev_term)`. Then only what *conflicts* is cut off: an append that
is shorter than what came before it, or a duplicate, cuts off nothing (cutting there could lose entries that were
acknowledged). Everything up to the commit index agrees with every later leader's log (leader completeness, 5.4), so an
append that begins before it, or before the snapshot, is no conflict; its first part is skipped.

An acknowledgement says "durably equal to yours up to here". It is therefore the lower of two marks: how far this
term's leader and this log are known to agree (`matched_index`), and how far the log is durable. It is sent when it
moves; an append that brings nothing new is answered at once, with whatever the marks say: it is how a leader asks
whether something got lost.

A rejection names the last place at which the logs *could* agree: the last index, not behind `prev_index`, whose term
is not above `prev_term`. Every index between has a term that the leader cannot have there. With the leader's own
bisection of the answer (see `d_engine.raft.replication`), two logs find each other in one round per term.

The commit index follows the leader's, but not beyond what is known to agree with the leader's log: an append shows how
far that is, and a heartbeat names no index beyond what this node has acknowledged in this term. A late snapshot, of
what is already known to be committed, is ignored; one that this log already agrees with commits everything up to it;
any other replaces the log.
"""

from d_engine.format.entry import Entry
from d_engine.format.errors import check
from d_engine.format.ids import LogIndex, Nanoseconds, NodeId
from d_engine.format.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    SnapshotMeta,
)
from d_engine.raft.effects import Install
from d_engine.raft.isolation import admits_append, end_if_whole, replaced_by_snapshot
from d_engine.raft.state import Following, RaftState


class FollowerLog:
    """Takes what the leader sends."""

    def __init__(self, state: RaftState) -> None:
        self._state = state

    def on_append(self, sender: NodeId, request: AppendRequest, now: Nanoseconds) -> None:
        """Entries, or a question whether `(prev_index, prev_term)` is there."""
        state, log = self._state, self._state.log
        state.hear_leader(sender, now)
        prev_index, entries = request.prev_index, request.entries
        last_new = prev_index + len(entries)
        if prev_index < log.commit_index:
            # Equal by leader completeness; the terms before a snapshot may not even be known any more.
            entries = entries[log.commit_index - prev_index :]
            last_new = max(last_new, log.commit_index)
        elif log.term_at(prev_index) != request.prev_term:
            if admits_append(state, last_new, agrees=False):
                self._reject(sender, request)
            return
        if not admits_append(state, last_new, agrees=True):
            return
        if entries:
            self._take(entries)
        following = state.following
        if entries and following.matched_index < prev_index:
            # The leader hears of the part before these entries together with them, unless it asks.
            following.acknowledged_index = max(
                following.acknowledged_index, min(prev_index, log.durable_index)
            )
        if not request.entries or last_new <= min(log.durable_index, following.matched_index):
            following.answer_due = True
        following.matched_index = max(following.matched_index, last_new)
        self._commit(min(request.commit_index, last_new))

    def _take(self, entries: tuple[Entry, ...]) -> None:
        state, log = self._state, self._state.log
        new = 0
        cut = 0
        if entries[0].index <= log.last_index:
            while new < len(entries) and log.term_at(entries[new].index) == entries[new].term:
                new += 1
            if new < len(entries) and entries[new].index <= log.last_index:
                cut = entries[new].index
                log.truncate(cut)
                state.durability.cap(cut - 1)
        for entry in entries[new:]:
            # What was heard in another term, or with a suffix that is cut off now, says nothing about this log.
            if cut or entry.term != log.last_term:
                state.log_time, cut = entry.log_time, 0
            elif entry.log_time > state.log_time:
                state.log_time = entry.log_time
            log.append(entry)

    def _reject(self, sender: NodeId, request: AppendRequest) -> None:
        state, log = self._state, self._state.log
        hint = max(log.last_not_above(request.prev_term, request.prev_index), log.commit_index)
        hint_term = log.term_at(hint)
        check(hint_term is not None, f"the term at index {hint}, not before the commit index, is not known")
        response = AppendResponse(state.term, 0, request.prev_index, hint, hint_term or 0)
        state.send(sender, response)

    def _commit(self, index: LogIndex) -> None:
        log = self._state.log
        if index > log.commit_index:
            check(
                index <= log.last_index, f"index {index} is committed, but the log ends at {log.last_index}"
            )
            log.commit_index = index

    def on_heartbeat(self, sender: NodeId, heartbeat: Heartbeat, now: Nanoseconds) -> None:
        """The leader lives. Round 0 is news of the commit index, which nobody waits to be echoed."""
        state = self._state
        state.hear_leader(sender, now)
        if state.log.last_term == heartbeat.term:
            state.log_time = max(state.log_time, heartbeat.log_time)
        record, log = state.log.quarantine, state.log
        if record is None:
            self._commit(heartbeat.commit_index)
        elif not record.needs_snapshot:
            # The leader may still believe what this node had acknowledged before it lost it.
            self._commit(min(heartbeat.commit_index, state.following.matched_index))
        if not heartbeat.round:
            return
        if record is None:
            state.send(sender, HeartbeatResponse(state.term, heartbeat.round))
        else:
            wanted = max(log.commit_index, 1) if record.needs_snapshot else 0
            state.send(sender, HeartbeatResponse(state.term, 0, True, wanted))

    def acknowledge(self) -> None:
        """Once a turn: tell the leader how far the log is durably equal to its own, if that is news or was asked."""
        state, following = self._state, self._state.following
        if not state.leader or state.leading is not None:
            return
        index = min(following.matched_index, state.log.durable_index)
        if state.log.quarantine is not None:
            if state.log.quarantine.needs_snapshot:
                return
            end_if_whole(state, index)
        if following.answer_due or index > following.acknowledged_index:
            following.answer_due = False
            following.acknowledged_index = max(following.acknowledged_index, index)
            state.send(state.leader, AppendResponse(state.term, index))

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def on_install_snapshot(self, sender: NodeId, message: InstallSnapshot, now: Nanoseconds) -> None:
        """The leader no longer has the entries that this node needs."""
        state, log, meta = self._state, self._state.log, message.snapshot
        state.hear_leader(sender, now)
        if state.log.quarantine is not None and state.log.quarantine.needs_snapshot:
            if meta.index >= log.commit_index and state.log.quarantine_saved:
                state.install = Install(sender, meta)
            return
        known = meta.index <= log.commit_index
        if not known and log.term_at(meta.index) == meta.term:
            log.commit_index = meta.index
            known = True
        if known:
            state.following.matched_index = max(state.following.matched_index, log.commit_index)
            state.following.answer_due = True
        else:
            state.install = Install(sender, meta)

    def snapshot_installed(self, meta: SnapshotMeta) -> bool:
        """The snapshot is durable here. True if the log starts anew behind it, False if it came too late."""
        state, log = self._state, self._state.log
        rebuilds = state.log.quarantine is not None and state.log.quarantine.needs_snapshot
        if meta.index < log.commit_index or (meta.index == log.commit_index and not rebuilds):
            return False
        if rebuilds:
            replaced_by_snapshot(state)
        elif log.term_at(meta.index) == meta.term:
            log.commit_index = meta.index
            return False
        check(
            state.leading is None,
            f"snapshot {meta.index}@{meta.term} contradicts the log of this term's leader",
        )
        state.durability.cap(0)
        log.reset(meta)
        state.log_time = 0
        # The acknowledgement waits for a write behind the log's own reset: that one being durable, so is the reset.
        state.durability.rewrite = True
        # Nothing behind it is there any more, whatever the leader was known to agree with.
        # At a start no leader is known to agree with anything.
        state.following = Following(meta.index if state.leader else 0)
        return True
