"""Persist before promise: what waits for the disk (Raft, figure 2, "updated on stable storage before responding").

A message may leave only after what it promises is on stable storage:

* Every message carries a term. It leaves once that term is durable: a node that spoke in a term must not fall back
  behind it.
* A vote, and a candidate's own request for votes (which implies its vote for itself), leave once the vote is durable.
* An acknowledgement names an index; it is made only from `RaftLog.durable_index` (see `d_engine.raft.following`).
* A heartbeat's echo promises a term and nothing else: it never waits for a sync of the log.

Storage works in the order of the sequence numbers, so a completion covers everything before it. It counts only as far
as the log still holds what was written: when a suffix is cut off, the writes under way are capped at the cut. Without
the cap, an entry that was cut off and came back (same index, same term) could be reported as durable by the *first*
write of it, while the second is still behind the one that replaces it on the disk.

Messages of a term that has passed are dropped: they could only be late.

A disk is *stalled* when a write is under way and no write has ended for a given time.
"""

from collections import deque

from msgspec import Struct

from d_engine.format.ids import LogIndex, Nanoseconds, NodeId, Term
from d_engine.format.messages import RaftMessage
from d_engine.format.state import HardState
from d_engine.raft.effects import Persist
from d_engine.raft.log import RaftLog


class _Write(Struct):
    """What is durable once storage has reported `seq`: the hard state, and the log up to `(index, term)`."""

    seq: int
    hard_state: HardState
    index: LogIndex
    term: Term


class Durability:
    """What was handed to storage, what came back, and which messages wait for it."""

    __slots__ = ("_held", "_ready", "_seq", "_waiting_since", "_writes", "durable", "handed", "rewrite")

    def __init__(self, recovered: HardState) -> None:
        self.durable = recovered
        self.handed = recovered
        self.rewrite = False
        """Hand the hard state over again, although it did not change, to learn when what came before is durable."""
        self._seq = 0
        self._writes: deque[_Write] = deque()
        self._waiting_since: Nanoseconds = 0
        self._ready: list[tuple[NodeId, RaftMessage]] = []
        self._held: list[tuple[NodeId, RaftMessage, HardState]] = []

    # --- messages ----------------------------------------------------------------------------------------------------

    def send(
        self, to: NodeId, message: RaftMessage, hard_state: HardState, promises_vote: bool = False
    ) -> None:
        """Let the message leave as soon as `hard_state`'s term, or the vote too, is durable."""
        durable = self.durable
        if durable.term >= hard_state.term and (not promises_vote or durable == hard_state):
            self._ready.append((to, message))
        else:
            needed = hard_state if promises_vote else HardState(hard_state.term)
            self._held.append((to, message, needed))

    def forget_messages(self) -> None:
        """The term has passed."""
        self._held.clear()
        self._ready.clear()

    def take_messages(self) -> list[tuple[NodeId, RaftMessage]]:
        """What may leave now."""
        ready, self._ready = self._ready, []
        return ready

    def _release(self) -> None:
        durable, held = self.durable, self._held
        self._held = []
        for to, message, needed in held:
            if durable.term >= needed.term and needed.vote in (0, durable.vote):
                self._ready.append((to, message))
            else:
                self._held.append((to, message, needed))

    # --- writes ------------------------------------------------------------------------------------------------------

    def take_persist(self, hard_state: HardState, log: RaftLog, now: Nanoseconds) -> Persist | None:
        """Everything that storage was not given yet."""
        changed = self.rewrite or (hard_state is not self.handed and hard_state != self.handed)
        if not changed and log.handed_index == log.last_index:
            return None
        entries = log.take_unsaved()
        if not self._writes:
            self._waiting_since = now
        self._seq += 1
        self.rewrite = False
        self.handed = hard_state
        self._writes.append(_Write(self._seq, hard_state, log.last_index, log.last_term))
        return Persist(self._seq, hard_state if changed else None, entries)

    def cap(self, index: LogIndex) -> None:
        """The log was cut off behind `index`: no write under way makes anything behind it durable."""
        for write in self._writes:
            if write.index > index:
                write.index, write.term = index, 0

    def persisted(self, seq: int, log: RaftLog, now: Nanoseconds) -> bool:
        """Storage has everything up to `seq`. False if that is not news."""
        done: _Write | None = None
        while self._writes and self._writes[0].seq <= seq:
            done = self._writes.popleft()
        if done is None:
            return False
        self._waiting_since = now
        if done.index > log.durable_index and done.term in (0, log.term_at(done.index)):
            log.durable_index = done.index
        if done.hard_state is not self.durable and done.hard_state != self.durable:
            self.durable = done.hard_state
            self._release()
        return True

    def is_stalled(self, now: Nanoseconds, limit: Nanoseconds) -> bool:
        """True if a write is under way and none has ended for `limit`."""
        return bool(self._writes) and now - self._waiting_since >= limit
