"""Watches: on any node, of keys, prefixes and ranges, that go on over the loss of their node (I10).

The nodes' side is the replica's own, and what comes is put together by the production `Feed`. The way between them,
and when another node is asked, are the simulator's: a line is in order, and ends as a whole when it loses something.
"""

from collections.abc import Callable, Mapping, Sequence

from d_engine.client.feed import Feed, WatchBatch, WatchSink, WatchWish
from d_engine.format.errors import CompactedError, DEngineError, UnavailableError, WatchLaggedError
from d_engine.format.ids import Nanoseconds
from d_engine.kv.events import Event
from d_engine.kv.watching import Selection
from d_engine.replica.watches import Watches as NodeWatches
from d_engine.testing.sim.chronicle import WatchRecord
from d_engine.testing.sim.events import MILLISECOND, SECOND
from d_engine.testing.sim.node import Process, SimNode
from d_engine.testing.sim.violations import InvariantBroken
from d_engine.testing.sim.work.kind import FinalRead, Hand, Line, Operation, no_final_read

_PREFIXES = (b"r/", b"s/", b"b/", b"t/", b"e/")
_MAX_OPEN = 4
_MAX_RECORDS = 60
_BEAT: Nanoseconds = 300 * MILLISECOND
_NUMBER = 1


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
    """A watch of a client. It is a `WatchTransport` that has one line at a time and never resumes by itself: which
    node comes next, and from where on, is said here."""

    def __init__(self, hand: Hand, selection: Selection) -> None:
        self.hand = hand
        self.closed = False
        self.selection = selection
        self._record = WatchRecord(selection, None)
        self._marks = hand.rng.random() < 0.7
        self._slow = hand.rng.random() < 0.3
        self._drains = False
        self._feed: Feed | None = None

    @property
    def told(self) -> int | None:
        """Up to where it knows everything; None if it is over with its client, or closed."""
        if self.closed or self.hand.asker.closed:
            return None
        return -1 if self._feed is None or self._feed.told is None else self._feed.told

    def begin(self, since: int | None) -> None:
        """A watch as the application knows it."""
        self._record = WatchRecord(self.selection, since)
        self.hand.histories.watch_records.append(self._record)
        self._look_for_a_line(since)

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

    def can_resume(self, error: DEngineError, served: bool) -> bool:
        """See `WatchTransport`."""
        return False

    def open(
        self, selection: Selection, since: int | None, timeout: float | None, sink: WatchSink
    ) -> Callable[[], None]:
        """See `WatchTransport`."""
        path = self.hand.path
        line = _Line(self, path.nodes[path.target], sink)
        line.open(since)
        return line.stop

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
        if feed is None or self.closed:
            return
        if feed.error is not None:
            self._go_on(feed, feed.error)
        elif not self._slow or self.hand.over():
            self._drain()
        elif not self._drains:
            self._drains = True
            self.hand.path.later(int(self.hand.rng.random() * 4 * SECOND), self._drain)

    def _go_on(self, feed: Feed, error: DEngineError) -> None:
        hand, since = self.hand, feed.told
        self.finish()
        gone = isinstance(error, CompactedError | WatchLaggedError)
        if gone:
            hand.trace.count(f"watch: {error.code}")
        hand.path.turn_to_another()
        pause = 100 * MILLISECOND
        if gone and (hand.path.home is not None or hand.rng.random() < 0.5):
            hand.path.later(pause, self._begin_anew)
        else:
            hand.path.later(pause, self._look_for_a_line, since)

    def _begin_anew(self) -> None:
        if not self.closed:
            self.begin(None)

    def _look_for_a_line(self, since: int | None) -> None:
        if not self.closed:
            self._feed = Feed(self, WatchWish(self.selection, self._marks, None), since)
            self._feed.open()

    def _drain(self) -> None:
        self._drains = False
        if self._feed is not None and not self.closed:
            self._take_all(self._feed)

    def _take_all(self, feed: Feed) -> None:
        while feed.batches:
            batch = feed.take()
            self.hand.trace.counters["watch: batches" if batch.events else "watch: progress"] += 1
            self._record.told.append(batch)


class _Line:
    """One watch's way to one life of a node: a `WatchOwner` there, a `WatchLine` here."""

    def __init__(self, watch: SimWatch, machine: SimNode, sink: WatchSink) -> None:
        self._watch = watch
        self._hand = watch.hand
        self._path = watch.hand.path
        self._machine = machine
        self._life = machine.life
        self._sink = sink
        self._over = False
        self._arrival: Nanoseconds = 0

    def open(self, since: int | None) -> None:
        """Ask the node."""
        if self._path.home is None:
            self._path.later(_BEAT, self._beat)
        self._send(self._open, since)

    # --- from here to there ---

    def take(self, size: int) -> None:
        self._send(lambda: self._watches().take(self, _NUMBER, size))

    def ask_progress(self) -> None:
        self._send(lambda: self._watches().ask_progress(self, _NUMBER))

    def stop(self) -> None:
        self._over = True
        self._machine.enter(self._life, lambda: self._watches().close(self))

    def _send(self, function: Callable[..., object], *arguments: object) -> None:
        delay = self._path.delay() if self._path.home is None else 0
        if self._over:
            return
        if self._path.home is None and self._path.lost(self._machine.id):
            self._break()
            return
        self._hand.events.after(delay, self._machine.enter, self._life, function, *arguments)

    def _beat(self) -> None:
        """The connection is looked after: silence is its end."""
        if self._over:
            return
        if self._machine.life != self._life or self._path.cut_off.get(self._machine.id):
            self._break()
        else:
            self._path.later(_BEAT, self._beat)

    def _break(self) -> None:
        self.stop()
        self._path.later(self._path.attempt_time(), self._ended, UnavailableError("the connection is lost"))

    def _ended(self, error: DEngineError) -> None:
        self._sink.ended(error)
        self._watch.heard()

    # --- there ---

    def _process(self) -> Process:
        process = self._machine.process
        if process is None:
            raise InvariantBroken("simulator", "a process that is gone is asked")
        return process

    def _watches(self) -> NodeWatches:
        return self._process().replica.executor.watches

    def _open(self, since: int | None) -> None:
        watches = self._watches()
        try:
            after = watches.open(self, _NUMBER, self._watch.selection, since)
        except DEngineError as error:
            self.ended(_NUMBER, error)
            return
        _must_be_written(self._hand, after)
        self._tell(self._started, after, watches.settings.told_window_bytes)

    def events(self, number: int, revision: int, events: Sequence[Event]) -> None:
        """See `WatchOwner`."""
        _must_be_written(self._hand, revision)
        self._tell(self._sink.events, revision, tuple(events))

    def progress(self, numbers: list[int], revision: int) -> None:
        """See `WatchOwner`."""
        _must_be_written(self._hand, revision)
        self._tell(self._sink.progress, revision)

    def ended(self, number: int, error: DEngineError) -> None:
        """See `WatchOwner`."""
        known = self._watch.told
        if isinstance(error, CompactedError | WatchLaggedError) and known is not None:
            self._must_be_gone(max(known, 0), error)
        self._tell(self._sink.ended, error)

    def _must_be_gone(self, known: int, error: DEngineError) -> None:
        machine = self._process().machine
        weight = self._hand.histories.chronicle.weight_behind(known)
        limit = machine.history.limit_bytes
        if machine.history.oldest <= known or (machine.born <= known and weight <= limit):
            text = f"born at {machine.born}, {weight} bytes behind revision {known}, {limit} are kept"
            raise InvariantBroken(
                "I10", f"node {self._machine.id} ends a watch for no reason: {error} ({text})"
            )

    # --- from there to here ---

    def _tell(self, function: Callable[..., object], *arguments: object) -> None:
        if self._over:
            return
        path, now = self._path, self._hand.events.now
        delay = self._machine.skew
        if path.home is None:
            if path.lost(self._machine.id):
                self._over = True
                path.later(path.attempt_time(), self._broken_there)
                return
            delay += path.delay()
        self._arrival = max(self._arrival, now + delay)
        self._hand.events.at(self._arrival, self._deliver, function, arguments)

    def _broken_there(self) -> None:
        self._machine.enter(self._life, lambda: self._watches().close(self))
        self._ended(UnavailableError("the connection is lost"))

    def _deliver(self, function: Callable[..., object], arguments: tuple[object, ...]) -> None:
        if self._hand.asker.closed:
            self.stop()
        elif not self._over:
            self._over = function == self._sink.ended
            function(*arguments)
            self._watch.heard()

    def _started(self, after: int, window: int) -> None:
        self._watch.began(after)
        self._sink.started(self, after, window)


def _must_be_written(hand: Hand, revision: int) -> None:
    newest = hand.histories.chronicle.newest
    if revision > newest:
        raise InvariantBroken(
            "I10", f"a watch is true up to {revision}, and all that was written is {newest}"
        )
