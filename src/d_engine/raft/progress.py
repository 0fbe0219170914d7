"""What a leader knows about one peer's log, and how fast it may send (Raft, figure 2, "volatile state on leaders").

Three states:

* *probe*: where the logs part is not known. One append at a time; `next_index` does not run ahead.
* *replicate*: the logs agree up to `match_index`. Appends are pipelined: `next_index` runs ahead of the
  acknowledgements, within a limit of bytes and messages in flight.
* *snapshot*: the entries that the peer needs are gone. Nothing is sent until it reports the snapshot's index.

                 acknowledged                      entries are gone
    probe  --------------------->  replicate   probe, replicate --->  snapshot
      ^                                |                                  |
      +---- rejected, unreachable -----+      match reaches the log ------+---> replicate

`match_index` only rises (what a peer reports is on its stable storage), unless its disk lost that and it says so. A
rejection that speaks of an index at or below it is old news and is ignored.
"""

from collections import deque
from enum import Enum

from d_engine.format.ids import LogIndex, Nanoseconds


class ProgressState(Enum):
    """See the module's text."""

    PROBE = "probe"
    REPLICATE = "replicate"
    SNAPSHOT = "snapshot"


class Progress:
    """One peer. `sent_at` is when something that wants an answer was sent last, or an answer last brought progress."""

    __slots__ = (
        "_in_flight",
        "commit_sent",
        "contact",
        "in_flight_bytes",
        "match_index",
        "next_index",
        "probe_sent",
        "quarantined",
        "round_acked",
        "sent_at",
        "state",
        "wanted_index",
    )

    def __init__(self, next_index: LogIndex, now: Nanoseconds) -> None:
        self.state = ProgressState.PROBE
        self.match_index: LogIndex = 0
        self.next_index = next_index
        self.commit_sent: LogIndex = 0
        self.contact = now
        self.round_acked = 0
        self.probe_sent = False
        self.sent_at = now
        self.quarantined = False
        """It says that it may have lost what it had acknowledged (`d_engine.raft.isolation`)."""
        self.wanted_index: LogIndex = 0
        """It wants a snapshot at or behind this index; 0 if the log will do."""
        self.in_flight_bytes = 0
        self._in_flight: deque[tuple[LogIndex, int]] = deque()

    @property
    def in_flight_messages(self) -> int:
        """Appends that were sent and not acknowledged."""
        return len(self._in_flight)

    def forget(self) -> None:
        """It has lost what it had acknowledged."""
        self.match_index = 0

    def probe(self, next_index: LogIndex) -> None:
        """Find out where the logs agree, beginning before `next_index`."""
        self._enter(ProgressState.PROBE, max(next_index, self.match_index + 1))

    def snapshot(self) -> None:
        """Wait until the peer has a snapshot."""
        self._enter(ProgressState.SNAPSHOT, self.match_index + 1)

    def disconnected(self) -> None:
        """What was sent may be lost. What was known stays known."""
        if self.state is ProgressState.REPLICATE:
            self.probe(self.match_index + 1)
        self.probe_sent = False

    def _enter(self, state: ProgressState, next_index: LogIndex) -> None:
        self.state = state
        self.next_index = next_index
        self.probe_sent = False
        self._in_flight.clear()
        self.in_flight_bytes = 0

    def sent(self, last_index: LogIndex, size: int, now: Nanoseconds) -> None:
        """An append with entries up to `last_index` leaves."""
        if self.state is ProgressState.REPLICATE:
            if not self._in_flight:
                self.sent_at = now
            self.next_index = last_index + 1
            self._in_flight.append((last_index, size))
            self.in_flight_bytes += size
        else:
            self.probe_sent = True
            self.sent_at = now

    def acknowledged(self, index: LogIndex, now: Nanoseconds) -> bool:
        """The peer's log matches, durably, up to `index`. True if that is news."""
        news = index > self.match_index
        if news:
            self.match_index = index
            self.sent_at = now
        if self.state is ProgressState.PROBE:
            self._enter(ProgressState.REPLICATE, self.match_index + 1)
        elif self.state is ProgressState.REPLICATE:
            in_flight = self._in_flight
            while in_flight and in_flight[0][0] <= index:
                self.in_flight_bytes -= in_flight.popleft()[1]
            self.next_index = max(self.next_index, index + 1)
        return news

    def snapshot_done(self) -> None:
        """The peer's log reaches what this log still holds."""
        self._enter(ProgressState.REPLICATE, self.match_index + 1)

    def is_stale_rejection(self, rejected_index: LogIndex) -> bool:
        """True if the rejection answers a question that has been settled since."""
        if self.state is ProgressState.PROBE:
            return rejected_index != self.next_index - 1
        return self.state is ProgressState.SNAPSHOT or rejected_index <= self.match_index
