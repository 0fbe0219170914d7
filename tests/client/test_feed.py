"""What a feed lets a node send (docs/design/watches.md, "Clients")."""

from collections.abc import Callable

from d_engine.client.feed import Feed, WatchSink, WatchWish
from d_engine.format.errors import DEngineError
from d_engine.kv.events import Event
from d_engine.kv.watching import Selection, weigh

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
