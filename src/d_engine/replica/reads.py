"""Reads that wait (dissertation, section 6.4; architecture, section 6).

A read passes two gates. *Confirmation*: the core says that up to some batch, reads may be answered from any state that
has applied `read_index`. *Application*: this node has applied that far. All reads that joined within a turn share a
batch, and one request here is itself the batch of a client's turn, so the work is per batch at every step.
"""

from collections import deque
from collections.abc import Callable
from heapq import heapify, heappop, heappush

from msgspec import Struct

from d_engine.format.errors import DEngineError, NotAppliedTimeoutError
from d_engine.format.ids import LogIndex, Nanoseconds
from d_engine.replica.outcome import ReadDone

_SLACK = 64
"""So many finished reads may stay in memory besides as many as still wait."""


class WaitingRead(Struct):
    """One request: `count` reads that are answered together."""

    done: ReadDone
    count: int
    deadline: Nanoseconds
    min_revision: int
    finished: bool = False

    def finish(self, error: DEngineError | None) -> int:
        """Answer, once. Returns how many reads left."""
        if self.finished:
            return 0
        self.finished = True
        self.done(error)
        return self.count


class ReadQueue:
    """The reads of one node that wait for confirmation, for an index, or for a revision."""

    def __init__(self) -> None:
        self.waiting = 0
        self.joining: list[WaitingRead] = []
        """Reads that wait to be given a batch."""
        self._confirming: deque[tuple[int, list[WaitingRead]]] = deque()
        self._applying: list[tuple[LogIndex, int, list[WaitingRead]]] = []
        self._revisions: list[tuple[int, int, WaitingRead]] = []
        self._deadlines: list[tuple[Nanoseconds, int, WaitingRead]] = []
        self._order = 0
        self._expired = 0

    @property
    def deadline(self) -> Nanoseconds | None:
        """When the first read gives up."""
        return self._deadlines[0][0] if self._deadlines else None

    def _enter(self, read: WaitingRead) -> int:
        self._order += 1
        self.waiting += read.count
        heappush(self._deadlines, (read.deadline, self._order, read))
        return self._order

    def join(self, read: WaitingRead) -> None:
        """A linearizable read: takes part in the next batch."""
        self._enter(read)
        self.joining.append(read)

    def await_revision(self, read: WaitingRead) -> None:
        """A read that needs no confirmation, only a revision."""
        order = self._enter(read)
        heappush(self._revisions, (read.min_revision, order, read))

    def assign(self, batch: int) -> None:
        """All that joined belong to this batch of the core."""
        if self._confirming and not self._confirming[-1][1]:
            self._confirming.pop()
        self._confirming.append((batch, self.joining))
        self.joining = []

    def confirmed(self, batch: int, read_index: LogIndex) -> None:
        """Batches up to this one may be answered once `read_index` is applied."""
        confirming = self._confirming
        while confirming and confirming[0][0] <= batch:
            _, reads = confirming.popleft()
            self._order += 1
            heappush(self._applying, (read_index, self._order, reads))

    def applied(self, index: LogIndex, revision: int) -> None:
        """Answer everything that this state is good for."""
        while self._applying and self._applying[0][0] <= index:
            for read in heappop(self._applying)[2]:
                if read.min_revision > revision and not read.finished:
                    self._order += 1
                    heappush(self._revisions, (read.min_revision, self._order, read))
                else:
                    self.waiting -= read.finish(None)
        while self._revisions and self._revisions[0][0] <= revision:
            self.waiting -= heappop(self._revisions)[2].finish(None)
        self._forget_finished()

    def _forget_finished(self) -> None:
        """Finished reads leave the heap of deadlines: those in front at once, the others when they are the most."""
        deadlines = self._deadlines
        while deadlines and deadlines[0][2].finished:
            heappop(deadlines)
        if len(deadlines) > 2 * self.waiting + _SLACK:
            self._deadlines = [entry for entry in deadlines if not entry[2].finished]
            heapify(self._deadlines)

    def _forget_expired(self) -> None:
        """The same for those that gave up while they waited for a confirmation, an index or a revision."""
        self._expired = 0
        self._revisions = [entry for entry in self._revisions if not entry[2].finished]
        heapify(self._revisions)
        for _, reads in self._confirming:
            reads[:] = [read for read in reads if not read.finished]
        self._confirming = deque(entry for entry in self._confirming if entry[1])
        for _, _, reads in self._applying:
            reads[:] = [read for read in reads if not read.finished]
        self.joining = [read for read in self.joining if not read.finished]

    def expire(self, now: Nanoseconds, reachable: Callable[[], str]) -> None:
        """Tell those whose time has passed; `reachable` describes the peers."""
        deadlines = self._deadlines
        while deadlines and (deadlines[0][0] <= now or deadlines[0][2].finished):
            read = heappop(deadlines)[2]
            if not read.finished:
                self._expired += 1
                text = f"the read waited in vain for a leader's confirmation or a revision; {reachable()}"
                self.waiting -= read.finish(NotAppliedTimeoutError(text))

        if self._expired > self.waiting + _SLACK:
            self._forget_expired()

    def fail(self, error: DEngineError) -> None:
        """The node stops: everybody gets this error."""
        reads = [entry[2] for entry in self._deadlines]
        for waiting in (self.joining, self._confirming, self._applying, self._revisions, self._deadlines):
            waiting.clear()
        for read in reads:
            self.waiting -= read.finish(error)
