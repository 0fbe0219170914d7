"""The event history: the last writes of the store, from which watchers read.

The store records every write as two references, the entry now and the entry before, and nothing else; what a watcher
gets is made from that when one wants it. (A pair for each write would be one more object to make, for the garbage
collector to look at, and to let go of: a quarter of what applying a put costs.) The writes of one `apply` form a *run*.
Runs are weighed when they are sealed, and the oldest go when all weigh more than the limit; the newest stays whatever
it weighs.

Writes are numbered from 0, without gaps, as long as the history lives. A reader that keeps the number of the next write
that it wants goes on exactly there, or learns that it is gone. Revisions may have many writes; a run ends with a
complete one.

What a node holds depends on its limit and on when it started: no result and no digest may depend on it. A state that
was restored says nothing about how it came about, so the history begins anew there: at the snapshot's revision.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import NamedTuple, Protocol, cast, runtime_checkable

from d_engine.format.ids import Nanoseconds
from d_engine.kv.events import Removed, Write
from d_engine.kv.key_value import KeyValue

HISTORY_BYTES = 64 * 1024 * 1024
WRITE_BYTES = 160
"""What a write weighs besides its key and its values: the objects that hold them."""
RUN_BYTES = 200

_value = attrgetter("value")
_revision = attrgetter("mod_revision")
_last = attrgetter("last")
_number = attrgetter("number")


class Run(NamedTuple):
    """Writes that were applied together: what the keys became, and in step with it what they were before. `last` is
    the last revision, `number` the first write's number."""

    last: int
    number: int
    size: int
    log_time: Nanoseconds
    entries: Sequence[KeyValue | Removed]
    before: Sequence[KeyValue | None]


class Part(NamedTuple):
    """What `History.read` found. `number` is that of the next write; `revision` the last one that is complete with
    these; `complete`: no write of the last one's revision is missing."""

    writes: Sequence[Write]
    number: int
    revision: int
    complete: bool


class Span(NamedTuple):
    """From behind `oldest` to `newest`, in revisions; how much it weighs, and how long it took in log time."""

    oldest: int
    newest: int
    size_bytes: int
    seconds: float


@runtime_checkable
class Watchable(Protocol):
    """A state machine that can be watched."""

    @property
    def history(self) -> "History": ...


class History:
    """The writes behind revision `oldest`. Used by the thread that applies the log, and by no other."""

    __slots__ = (
        "_head",
        "_pending",
        "_runs",
        "began",
        "limit_bytes",
        "newest",
        "number",
        "oldest",
        "record",
        "size_bytes",
    )

    def __init__(self, limit_bytes: int = HISTORY_BYTES) -> None:
        self.limit_bytes = limit_bytes
        self.oldest = 0
        """All writes of higher revisions are here."""
        self.newest = 0
        """The revision up to which writes are sealed."""
        self.number = 0
        """Of the next write."""
        self.began = 0
        """Numbers below are of another past than that of the present state."""
        self.size_bytes = 0
        self._runs: list[Run] = []
        self._head = 0
        self._pending: list[KeyValue | Removed | None] = []
        self.record: Callable[[Write], None] = self._pending.extend
        """Note a write. The list's own method: this is all that a put pays."""

    def seal(self, revision: int, log_time: Nanoseconds, weight: int) -> None:
        """What was recorded is complete, up to this revision. `weight`: the bytes of keys and values that were written;
        what they replaced is weighed here."""
        pending = self._pending
        if not pending:
            return
        # Tuples of what the garbage collector does not know: it looks at them once, and never again.
        entries = cast(Sequence[KeyValue | Removed], tuple(pending[::2]))
        before = cast(Sequence[KeyValue | None], tuple(pending[1::2]))
        pending.clear()
        replaced = sum(map(len, map(_value, filter(None, before))))
        size = RUN_BYTES + len(entries) * WRITE_BYTES + weight + replaced
        self._runs.append(Run(revision, self.number, size, log_time, entries, before))
        self.number += len(entries)
        self.newest = revision
        self.size_bytes += size
        if self.size_bytes > self.limit_bytes:
            self._trim()

    def reset(self, revision: int) -> None:
        """The state is another one now, of this revision. Numbers go on, so that no reader mistakes what comes for what
        it has missed."""
        self._pending.clear()
        self._runs.clear()
        self._head = self.size_bytes = 0
        self.number += 1
        self.began = self.number
        self.oldest = self.newest = revision

    @property
    def first_number(self) -> int:
        """Of the oldest write that is here; that of the next one if there is none."""
        return self._runs[self._head].number if self._head < len(self._runs) else self.number

    @property
    def span(self) -> Span:
        """How far back it reaches."""
        runs, seconds = self._runs, 0.0
        if self._head < len(runs):
            seconds = (runs[-1].log_time - runs[self._head].log_time) / 1e9
        return Span(self.oldest, self.newest, self.size_bytes, seconds)

    def number_after(self, revision: int) -> int:
        """The number of the first write behind this revision, which lies between `oldest` and `newest`."""
        runs = self._runs
        at = bisect_right(runs, revision, self._head, key=_last)
        if at == len(runs):
            return self.number
        run = runs[at]
        return run.number + bisect_right(run.entries, revision, key=_revision)

    def read(self, number: int, limit: int) -> Part:
        """At most `limit` writes from this number on, which is not below `first_number`; none if there are none yet."""
        runs = self._runs
        at = bisect_right(runs, number, self._head, key=_number) - 1
        if at < self._head or number >= self.number:
            return Part((), number, self.newest, True)
        run = runs[at]
        start = number - run.number
        end = min(start + limit, len(run.entries))
        writes = tuple(zip(run.entries[start:end], run.before[start:end], strict=True))
        if end == len(run.entries):
            return Part(writes, number + len(writes), run.last, True)
        last = run.entries[end - 1].mod_revision
        complete = run.entries[end].mod_revision > last
        return Part(writes, number + len(writes), last if complete else last - 1, complete)

    def _trim(self) -> None:
        runs, head = self._runs, self._head
        while self.size_bytes > self.limit_bytes and head < len(runs) - 1:
            run = runs[head]
            self.size_bytes -= run.size
            self.oldest = run.last
            head += 1
        self._head = head
        # The list is cut now and then, so that letting go of a run costs the same however many there are.
        if head > 64 and head > len(runs) // 2:
            del runs[:head]
            self._head = 0
