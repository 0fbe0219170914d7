"""Quarantine: how a node whose data is doubted takes part without harming anybody (architecture, section 11).

A node whose log was damaged has lost entries that it had acknowledged; one whose state turned out wrong is about to
throw both away. A leader may have counted the acknowledgements, so until the node has everything again

* it grants no vote or pre-vote and does not campaign, or stops leading: else it could help to elect, or become, a
  leader that lacks a committed entry (leader completeness, Raft 5.4.3, rests on voters that keep what they have);
* it confirms no round: it counts for no read, no lease, and not for check-quorum;
* it acknowledges what its log has without a gap from the beginning on, and nothing else. Those promises are true, and
  a leader counts them.

So a majority that is in quarantine makes the cluster unavailable, never forgetful.

*Whole again* it is when its log agrees with the leader's, durably, up to the highest index that it once held. Damage
may have taken the end of the log too, and with it the knowledge of that index. But a leader sends its first append from
where it believes this log to be, or from the end of its own, never from before what this node has acknowledged. So an
append that is rejected raises the index to where it ends, and it is not answered before that is on the disk: a second
crash must not make the node forget it again. (Who had acknowledged nothing behind the damage accepts that append.)

The leader, told by the echoes, takes a rejection at or below what the node had acknowledged for what it is, and forgets
that (`d_engine.raft.replication`).

*A wrong state* cannot be repaired by a log. The node stands still: it takes no entries and commits nothing, but asks in
its echoes for a snapshot at or behind its commit index, so that no index goes back. The snapshot replaces state and
log, and then the node is one with a damaged log. That it is one must be on the disk before, with the index.
"""

from msgspec.structs import replace

from d_engine.format.ids import NOBODY, LogIndex, Nanoseconds
from d_engine.format.state import Quarantine
from d_engine.raft.state import RaftState
from d_engine.raft.transfer import Transfer


class Isolation:
    """One node's quarantine, if it is in one. The record is to be on stable storage as long as it holds."""

    def __init__(self, state: RaftState, transfer: Transfer) -> None:
        self._state = state
        self._transfer = transfer

    @property
    def record(self) -> Quarantine | None:
        """Why and until when; None for a node whose data is not doubted."""
        return self._state.log.quarantine

    @property
    def stands_still(self) -> bool:
        """The state is wrong: nothing is to be applied to it, and nobody may see it."""
        record = self._state.log.quarantine
        return record is not None and record.needs_snapshot

    @property
    def snapshot_wanted(self) -> LogIndex:
        """On a leader: some peer needs a snapshot at or behind this index, and this node has none; else 0."""
        state = self._state
        if state.leading is None or not state.leading.wanted_index:
            return 0
        snapshot = state.log.snapshot
        wanted = max(progress.wanted_index for progress in state.leading.progress.values())
        return wanted if snapshot is None or snapshot.index < wanted else 0

    def begin(self, reason: str, now: Nanoseconds) -> None:
        """This node's state is wrong. If it leads, it asks another one to."""
        state = self._state
        held = state.log.last_index
        if state.log.quarantine is not None:
            held = max(held, state.log.quarantine.held_index)
        state.log.quarantine = Quarantine(reason, held, True)
        state.log.quarantine_saved = False
        state.install = None
        if state.leading is not None:
            self._transfer.abdicate(now)
        elif state.candidacy is not None:
            state.become_follower(state.term, NOBODY, now)

    def saved(self, record: Quarantine) -> None:
        """This record is on stable storage."""
        if record == self._state.log.quarantine:
            self._state.log.quarantine_saved = True


def admits_append(state: RaftState, last_new: LogIndex, agrees: bool) -> bool:
    """Whether a follower may look at an append that ends at `last_new`, and answer it. `agrees`: it fits this log."""
    record = state.log.quarantine
    if record is None:
        return True
    if record.needs_snapshot:
        return False
    if not agrees and last_new > record.held_index:
        state.log.quarantine = replace(record, held_index=last_new)
        state.log.quarantine_saved = False
    return state.log.quarantine_saved


def end_if_whole(state: RaftState, matched: LogIndex) -> None:
    """The log agrees durably with this term's leader's up to `matched`."""
    record = state.log.quarantine
    if (
        record is not None
        and not record.needs_snapshot
        and state.log.quarantine_saved
        and matched >= max(record.held_index, 1)
    ):
        state.log.quarantine = None


def replaced_by_snapshot(state: RaftState) -> None:
    """State and log are about to become those of a peer's snapshot."""
    record = state.log.quarantine
    if record is not None:
        held = max(record.held_index, state.log.last_index)
        state.log.quarantine = replace(record, held_index=held, needs_snapshot=False)
        state.log.quarantine_saved = False
