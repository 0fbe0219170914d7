"""Watches: on any node, of keys, prefixes and ranges, that go on over the loss of their node (I10).

All of it is production code, on both sides. Here is what an application does: it opens watches, takes what they bring,
quickly or slowly, and begins anew where one ends.
"""

from collections.abc import Callable, Mapping, Sequence

from d_engine.client.feed import Feed, WatchBatch, WatchLine, WatchSink, WatchWish
from d_engine.format.errors import CompactedError, DEngineError, WatchLaggedError
from d_engine.format.ids import Nanoseconds
from d_engine.kv.events import Event
from d_engine.kv.watching import Selection
from d_engine.testing.sim.chronicle import WatchRecord
from d_engine.testing.sim.events import MILLISECOND, SECOND
from d_engine.testing.sim.judged_watches import must_be_written
from d_engine.testing.sim.violations import InvariantBroken
from d_engine.testing.sim.work.kind import FinalRead, Hand, Line, Operation, no_final_read

_PREFIXES = (b"r/", b"s/", b"b/", b"t/", b"e/")
_MAX_OPEN = 4
_MAX_RECORDS = 60
_PAUSE: Nanoseconds = 100 * MILLISECOND
"""Before an application begins anew."""


class Watches:
    """One client's part in it."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._open: list[SimWatch] = []

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"watch": self._watch}

    def final_read(self) -> FinalRead:
        return no_final_read()

    def _watch(self, line: Line) -> None:
        """Open one more, or close one."""
        hand = self._hand
        if len(self._open) >= _MAX_OPEN:
            self._open.pop(hand.rng.randrange(_MAX_OPEN)).close()
        elif len(hand.histories.watch_records) < _MAX_RECORDS:
            watch = SimWatch(hand, self._select())
            self._open.append(watch)
            hand.histories.watches.append(watch)
            newest = hand.histories.chronicle.newest
            watch.begin(hand.rng.randint(max(0, newest - 50), newest) if hand.rng.random() < 0.5 else None)
        hand.done(line)

    def _select(self) -> Selection:
        rng, writes = self._hand.rng, self._hand.histories.chronicle.writes
        chance, start, end = rng.random(), b"", None
        if chance < 0.3 and writes:
            start = rng.choice(writes)[0].key
            end = start + b"\x00"
        elif chance < 0.6:
            start = rng.choice(_PREFIXES)
            end = start[:-1] + b"0"
        elif chance < 0.8:
            start, end = b"c", b"s/z"
        kinds = rng.choice(((True, True), (True, True), (True, False), (False, True)))
        return Selection(start, end, *kinds, rng.random() < 0.6)


class SimWatch:
    """A watch of a client, over and over: a `WatchTransport` that looks on."""

    def __init__(self, hand: Hand, selection: Selection) -> None:
        self.hand = hand
        self.closed = False
        self.selection = selection
        self._transport = hand.path.watches
        self._record = WatchRecord(selection, None)
        self._marks = hand.rng.random() < 0.7
        self._slow = hand.rng.random() < 0.3
        self._drains = False
        self._feed: Feed | None = None

    @property
    def _over(self) -> bool:
        return self.closed or self.hand.asker.closed

    @property
    def told(self) -> int | None:
        """Up to where it knows everything; None if it is over with its client, or closed."""
        if self._over:
            return None
        return -1 if self._feed is None or self._feed.told is None else self._feed.told

    def begin(self, since: int | None) -> None:
        """A watch as the application knows it."""
        if not self._over:
            self._record = WatchRecord(self.selection, since)
            self.hand.histories.watch_records.append(self._record)
            self._open(since)

    def close(self) -> None:
        """It is not wanted any more."""
        self._drain()
        self.finish()
        self.closed = True
        if self._feed is not None:
            self._feed.stop()

    def finish(self) -> None:
        """Take what came; what it believes to know must be so."""
        if not self.closed and self._feed is not None:
            self._take_all(self._feed)
            if self._feed.told is not None and self._record.after is not None:
                self._record.told.append(WatchBatch(self._feed.told, ()))

    # --- the transport ---

    def check(self) -> None:
        """See `WatchTransport`."""
        self._transport.check()

    def can_resume(self, error: DEngineError, served: bool) -> bool:
        """See `WatchTransport`."""
        return self._transport.can_resume(error, served)

    def open(
        self, selection: Selection, since: int | None, timeout: float | None, sink: WatchSink
    ) -> Callable[[], None]:
        """See `WatchTransport`."""
        return self._transport.open(selection, since, timeout, _Witness(self, sink))

    # --- what lines bring ---

    def began(self, revision: int) -> None:
        """A node tells everything behind this revision."""
        record = self._record
        if record.after is None:
            record.after = revision
            self.hand.trace.count("watch: opened")
        else:
            known = -1 if self._feed is None or self._feed.told is None else self._feed.told
            if revision != known:
                raise InvariantBroken(
                    "I10", f"a watch was to go on behind {known}, and does behind {revision}"
                )
            self.hand.trace.count("watch: resumed" if record.told else "watch: opened")

    def heard(self) -> None:
        """Something came."""
        feed = self._feed
        if feed is None or self._over:
            return
        if feed.error is not None:
            self._failed(feed, feed.error)
        elif not self._slow or self.hand.over():
            self._drain()
        elif not self._drains:
            self._drains = True
            self.hand.events.after(int(self.hand.rng.random() * 4 * SECOND), self._drain)

    def _failed(self, feed: Feed, error: DEngineError) -> None:
        hand, since = self.hand, feed.told
        self.finish()
        if isinstance(error, CompactedError | WatchLaggedError):
            hand.trace.count(f"watch: {error.code}")
            hand.events.after(_PAUSE, self.begin, None)
        else:
            hand.events.after(_PAUSE, self._open, since)

    def _open(self, since: int | None) -> None:
        if not self._over:
            self._feed = Feed(self, WatchWish(self.selection, self._marks, None), since)
            self._feed.open()

    def _drain(self) -> None:
        self._drains = False
        if self._feed is not None and not self._over:
            self._take_all(self._feed)

    def _take_all(self, feed: Feed) -> None:
        while feed.batches:
            batch = feed.take()
            self.hand.trace.counters["watch: batches" if batch.events else "watch: progress"] += 1
            self._record.told.append(batch)


class _Witness:
    """Between a line and its feed."""

    def __init__(self, watch: SimWatch, sink: WatchSink) -> None:
        self._watch = watch
        self._sink = sink
        self._chronicle = watch.hand.histories.chronicle

    def started(self, line: WatchLine, revision: int, window: int) -> None:
        must_be_written(self._chronicle, revision)
        self._watch.began(revision)
        self._sink.started(line, revision, window)
        self._watch.heard()

    def events(self, revision: int, events: Sequence[Event]) -> None:
        must_be_written(self._chronicle, revision)
        self._sink.events(revision, events)
        self._watch.heard()

    def progress(self, revision: int) -> None:
        must_be_written(self._chronicle, revision)
        self._sink.progress(revision)
        self._watch.heard()

    def ended(self, error: DEngineError) -> None:
        self._sink.ended(error)
        self._watch.heard()
