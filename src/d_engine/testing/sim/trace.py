"""What happened, in order: a hash of all of it, and the last part of it in plain words.

An event is noted as plain numbers and, for the words, a reference to whatever tells more. The words are only made when
somebody wants to read them, because nearly nobody ever does.
"""

from collections import Counter, deque
from collections.abc import Callable, Iterator
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple

from d_engine.format.ids import Nanoseconds

KEPT_EVENTS = 400
_PACKED = Struct("<qHHq")
_KINDS: dict[str, int] = {}


class TraceEvent(NamedTuple):
    """`lane` is the node's number, 0 for the world; `number` is what the hash saw of it (of a message, who sent it).
    `detail` says more in its `str`."""

    time: Nanoseconds
    lane: int
    kind: str
    number: int
    detail: object


def kind_number(kind: str) -> int:
    """A number for a kind of event, stable within and across processes."""
    number = _KINDS.get(kind)
    if number is None:
        number = _KINDS[kind] = int.from_bytes(blake2b(kind.encode(), digest_size=2).digest(), "little")
    return number


class Trace:
    """The events of one run, and how often each kind of thing happened."""

    def __init__(self, sink: Callable[[TraceEvent], None] | None = None) -> None:
        """`sink` gets every event; without one only the last events are kept."""
        self.counters: Counter[str] = Counter()
        self._hash = blake2b(digest_size=16)
        self._last: deque[TraceEvent] = deque(maxlen=KEPT_EVENTS)
        self._sink = sink

    def note(self, time: Nanoseconds, lane: int, kind: str, number: int = 0, detail: object = "") -> None:
        """Something happened. `number` goes into the hash, `detail` into the words only."""
        self._hash.update(_PACKED.pack(time, _KINDS.get(kind) or kind_number(kind), lane, number))
        event = TraceEvent(time, lane, kind, number, detail)
        self._last.append(event)
        if self._sink is not None:
            self._sink(event)

    def count(self, what: str, times: int = 1) -> None:
        """Something that a batch of runs must not lack has happened."""
        self.counters[what] += times

    def add_to_hash(self, data: bytes) -> None:
        """More that two runs of one seed must have in common."""
        self._hash.update(data)

    @property
    def hash(self) -> str:
        """Equal for two runs that did the same."""
        return self._hash.hexdigest()

    def last(self) -> Iterator[TraceEvent]:
        """The newest events, oldest first."""
        yield from self._last
