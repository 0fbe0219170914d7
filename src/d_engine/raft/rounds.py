"""Rounds: how a leader learns that it still leads (Raft dissertation, 6.4; leases: 6.4.1).

A round is a heartbeat to everybody, under a number that rises within the leader's term. A node echoes the number. Once
a majority has echoed a number, no other leader had been elected by a majority *when the round was sent*: each of the
echoing nodes was in this leader's term after that moment, and some member of any majority that elected a later leader
would have been in a later term. Three things follow from the newest round that a majority has echoed:

* Reads that joined before it was sent may be answered from any state that has applied the commit index of that time.
* The lease runs from the moment it was sent: each of the echoing nodes is loyal for a minimum election time-out from
  when it received the round, which is later than that.
* Everybody who echoed is alive (check-quorum counts other answers too).
"""

from collections import deque
from dataclasses import dataclass, field

from d_engine.format.ids import LogIndex, Nanoseconds, NodeId

MAX_ROUNDS = 64
"""Rounds under way. Heartbeats beyond it are sent but not remembered: the echo of a later one covers earlier ones."""


@dataclass(slots=True)
class Round:
    """One round under way. `batch` (0: none) and `remote` are the reads that it confirms, here and at followers."""

    number: int
    sent_at: Nanoseconds
    read_index: LogIndex
    batch: int
    remote: dict[NodeId, int]


@dataclass(slots=True)
class Rounds:
    """The rounds of one leader in its term."""

    number: int = 0
    confirmed_at: Nanoseconds | None = None
    """When the newest confirmed round was sent."""
    under_way: deque[Round] = field(default_factory=deque)
    """Whose echoes are waited for, oldest first."""

    def start(
        self, now: Nanoseconds, read_index: LogIndex, batch: int = 0, remote: dict[NodeId, int] | None = None
    ) -> Round:
        """A new round. The caller sends it now. One with reads is started only while not `is_full`."""
        self.number += 1
        started = Round(self.number, now, read_index, batch, remote or {})
        if batch or remote or not self.is_full:
            self.under_way.append(started)
        return started

    @property
    def is_full(self) -> bool:
        """True while so many rounds are under way that further reads wait for one of them to end."""
        return len(self.under_way) >= MAX_ROUNDS

    def confirm(self, number: int) -> list[Round]:
        """A majority has echoed `number`: the rounds that are confirmed by that, oldest first."""
        confirmed: list[Round] = []
        while self.under_way and self.under_way[0].number <= number:
            confirmed.append(self.under_way.popleft())
        if confirmed:
            self.confirmed_at = confirmed[-1].sent_at
        return confirmed
