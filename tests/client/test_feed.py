"""What a feed lets a node send (docs/design/watches.md, "Clients")."""

import asyncio
from collections.abc import Callable

from d_engine.client.feed import RESUME_SECONDS, Feed, WatchSink, WatchWish
from d_engine.format.errors import DEngineError, UnavailableError
from d_engine.format.state_machine import ApplyContext
from d_engine.kv.commands import encode_put
from d_engine.kv.events import Event
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.watching import Selection, weigh
from d_engine.replica.settings import WatchSettings
from d_engine.replica.watches import Watches
from tests.client.virtual_time import in_virtual_time

WINDOW = 1000
PARTS = 5


class _Node:
    """A transport and its line. `in_flight` is counted as a node does it."""

    def __init__(self) -> None:
        self.in_flight = 0

    def check(self) -> None: ...

    def open(
        self, selection: Selection, since: int | None, timeout: float | None, sink: WatchSink
    ) -> Callable[[], None]:
        sink.started(self, 0, WINDOW)
        return self.stop

    def can_resume(self, error: DEngineError, served: bool) -> bool:
        return False

    def take(self, size: int) -> None:
        # Nothing is taken twice.
        assert size <= self.in_flight
        self.in_flight -= size

    def ask_progress(self) -> None: ...

    def stop(self) -> None: ...


def _send(node: _Node, feed: Feed, revision: int, part: int) -> None:
    """A part of a revision: of a window's size, but for the last one, which is small."""
    last = part == PARTS - 1
    event = Event(b"%d" % part, bytes(1 if last else WINDOW), "put", revision)
    node.in_flight += weigh(event)
    feed.events(revision if last else revision - 1, [event])


async def test_an_application_that_takes_nothing_is_not_sent_one_large_revision_after_the_other() -> None:
    node = _Node()
    feed = Feed(node, WatchWish(Selection(b"", None), False, None), 0)
    feed.open()
    sent = 0
    while node.in_flight < WINDOW:
        assert sent < 2 * PARTS, "one revision is complete, so there is something to take"
        _send(node, feed, 1 + sent // PARTS, sent % PARTS)
        sent += 1
    assert len(feed.batches) == 1
    # As soon as the application takes something there is room again, though a revision is larger than the window.
    taken: list[int] = []
    while len(taken) < 20:
        while feed.batches:
            taken.append(feed.take().revision)
        assert node.in_flight < WINDOW
        _send(node, feed, 1 + sent // PARTS, sent % PARTS)
        sent += 1
    assert taken == list(range(1, 21))


class _Line:
    """Between one watch on a real node and its feed."""

    def __init__(self, owner: "_Owner", number: int) -> None:
        self._owner = owner
        self._number = number

    def take(self, size: int) -> None:
        self._owner.watches.take(self._owner, self._number, size)

    def ask_progress(self) -> None: ...

    def stop(self) -> None: ...


class _Owner:
    """One client with several watches of everything."""

    def __init__(self, watches: Watches, count: int) -> None:
        self.watches = watches
        self.feeds: list[Feed] = []
        everything = Selection(b"", None)
        for number in range(count):
            feed = Feed(_Node(), WatchWish(everything, False, None), None)
            self.feeds.append(feed)
            revision = watches.open(self, number, everything, None)
            feed.started(_Line(self, number), revision, watches.settings.told_window_bytes)

    def events(self, number: int, revision: int, events: list[Event]) -> None:
        self.feeds[number].events(revision, events)

    def progress(self, numbers: list[int], revision: int) -> None:
        for number in numbers:
            self.feeds[number].progress(revision)

    def ended(self, number: int, error: DEngineError) -> None:
        raise error


async def test_many_watches_of_one_client_do_not_wait_for_each_other() -> None:
    """What each has taken and not said yet leaves room for all of them together."""
    settings = WatchSettings(max_per_owner=20, window_bytes=8000, owner_bytes=16_000)
    machine = KvStateMachine()
    owner = _Owner(Watches(settings, machine, lambda: 0, lambda: None), settings.max_per_owner)
    taken = 0
    for index in range(1, 101):
        machine.apply([encode_put(b"key", bytes(500))], ApplyContext(index, 1, 0))
        for _ in range(settings.max_per_owner):
            owner.watches.run(index)
            for feed in owner.feeds:
                while feed.batches:
                    feed.take()
                    taken += 1
    assert taken == 100 * settings.max_per_owner


class _FlakyNode(_Node):
    """Lets each line begin as long as `serves`, and notes when it was asked for one."""

    def __init__(self) -> None:
        super().__init__()
        self.serves = True
        self.asked: list[float] = []

    def open(
        self, selection: Selection, since: int | None, timeout: float | None, sink: WatchSink
    ) -> Callable[[], None]:
        loop = asyncio.get_running_loop()
        self.asked.append(loop.time())
        if self.serves:
            return super().open(selection, since, timeout, sink)
        loop.call_soon(sink.ended, UnavailableError("nobody is there"))
        return self.stop

    def can_resume(self, error: DEngineError, served: bool) -> bool:
        return True


@in_virtual_time
async def test_a_line_that_had_begun_is_followed_by_another_at_once() -> None:
    """A client that moves to the leader must not keep its events for a tenth of a second."""
    node = _FlakyNode()
    feed = Feed(node, WatchWish(Selection(b"", None), False, None), 0)
    feed.open()
    node.serves = False
    feed.ended(UnavailableError("the client goes to another node"))
    await asyncio.sleep(2.5 * RESUME_SECONDS)
    assert node.asked == [0.0, 0.0, RESUME_SECONDS, 2 * RESUME_SECONDS]
    feed.stop()
