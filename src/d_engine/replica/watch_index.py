"""Whom a written key concerns: found without looking at every watcher.

Single keys are looked up in a dict. Ranges, which prefixes are too, are kept in order of their starts, in blocks that
know how far their longest range reaches; what began lately waits in a short list until it is worth sorting in.

Most writes concern nobody, and `candidates` finds that out for a whole batch. Every key of a range begins with what the
range's ends have in common, its *head*. All ranges, those of single keys too, are filed under their heads, cut to one
length that hardly any head falls short of: a key that does not begin like one of them concerns nobody. A key that does
is bisected in the *cover* of that head, which has the bounds of its ranges together: between an odd and an even bound
it is in a range. Ranges with shorter heads have one cover for all. What has gone is taken out when much has: until then
some keys are looked up in vain.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Generic, Protocol, TypeAlias, TypeVar

from d_engine.kv.events import Write
from d_engine.kv.ranges import prefix_end
from d_engine.kv.watching import Selection

_BLOCK = 32
_RECENT = 64
_FEW = 8
_SHORT_PART = 64
"""One head in so many may be shorter than what they are cut to."""
_BEYOND = b"\xff" * 65536
"""Greater than every key: their lengths have two bytes."""

_Cover: TypeAlias = list[bytes]


class Selecting(Protocol):
    """What the index holds. `closed` ones are not found any more."""

    @property
    def selection(self) -> Selection: ...

    @property
    def closed(self) -> bool: ...


_W = TypeVar("_W", bound=Selecting)


class WatchIndex(Generic[_W]):
    """Watchers by what they select. What is removed must be `closed` before."""

    __slots__ = (
        "_count",
        "_cover",
        "_covers",
        "_cut",
        "_filed",
        "_gone",
        "_keys",
        "_learned",
        "_length",
        "_ranges",
        "_reach",
        "_recent",
        "_short",
        "_starts",
    )

    def __init__(self) -> None:
        self._count = 0
        self._keys: dict[bytes, dict[_W, None]] = {}
        self._recent: list[_W] = []
        self._ranges: list[_W] = []
        self._starts: list[bytes] = []
        self._reach: list[bytes] = []
        self._gone = 0
        self._length = 0
        """To what heads are cut."""
        self._cut: Callable[[bytes], bytes] = itemgetter(slice(0))
        self._covers: dict[bytes, _Cover] = {}
        """By heads."""
        self._cover: _Cover = []
        """Of ranges with shorter heads."""
        self._short = 0
        """How many of those there are that have a head."""
        self._filed = self._learned = 0
        """How many were filed since the length was chosen, and then."""

    def add(self, watcher: _W) -> None:
        """From now on it is found."""
        selection = watcher.selection
        self._count += 1
        self._file(selection)
        if selection.is_one_key:
            self._keys.setdefault(selection.start, {})[watcher] = None
        else:
            self._recent.append(watcher)
            if len(self._recent) > _RECENT:
                self._sort_in()
        stale, grown = self._filed > 2 * self._count, self._count > 2 * self._learned
        if (stale or grown or 8 * self._short > self._count) and self._filed > _FEW + self._learned:
            self._learn()

    def remove(self, watcher: _W) -> None:
        """It is closed."""
        selection = watcher.selection
        self._count -= 1
        if selection.is_one_key:
            same = self._keys[selection.start]
            del same[watcher]
            if not same:
                del self._keys[selection.start]
            return
        self._gone += 1
        if 2 * self._gone > len(self._ranges) + len(self._recent):
            self._sort_in()

    def candidates(self, writes: Sequence[Write]) -> Sequence[Write]:
        """The writes that may concern somebody."""
        written = [write[0].key for write in writes]
        if not self._concern(written):
            return ()
        return [write for write, key in zip(writes, written, strict=True) if self._concern((key,))]

    def _concern(self, written: Sequence[bytes]) -> bool:
        """Whether any of these keys may concern somebody."""
        cover = self._cover
        if cover:
            # Between the least and the greatest key there are few bounds, if what is watched is not what is written.
            low, high = bisect_right(cover, min(written)), bisect_right(cover, max(written))
            if low & 1 or high & 1:
                return True
            if low < high and any(True for key in written if bisect_right(cover, key, low, high) & 1):
                return True
        covers, heads = self._covers, [*map(self._cut, written)]
        if covers.keys().isdisjoint(heads):
            return False
        found = zip(map(covers.get, heads), written, strict=True)
        return any(True for cover, key in found if cover and bisect_right(cover, key) & 1)

    def find(self, key: bytes) -> list[_W]:
        """Whoever selects this key, in no particular order, but the same every time."""
        found = [*self._keys.get(key, ())]
        found += [watcher for watcher in self._recent if not watcher.closed and watcher.selection.has(key)]
        end = bisect_right(self._starts, key)
        blocks = self._reach[: -(-end // _BLOCK)]
        for block in [at for at, reach in enumerate(blocks) if reach > key]:
            for watcher in self._ranges[block * _BLOCK : min(end, (block + 1) * _BLOCK)]:
                if not watcher.closed and watcher.selection.has(key):
                    found.append(watcher)
        return found

    def _sort_in(self) -> None:
        ranges = [watcher for watcher in (*self._ranges, *self._recent) if not watcher.closed]
        ranges.sort(key=_start)
        self._ranges, self._recent, self._gone = ranges, [], 0
        self._starts = [*map(_start, ranges)]
        ends = [_BEYOND if watcher.selection.end is None else watcher.selection.end for watcher in ranges]
        self._reach = [max(ends[at : at + _BLOCK]) for at in range(0, len(ends), _BLOCK)]

    def _learn(self) -> None:
        """Choose the length to which heads are cut, and file anew what there is."""
        selections = [next(iter(same)).selection for same in self._keys.values()]
        selections += [watcher.selection for watcher in (*self._ranges, *self._recent) if not watcher.closed]
        lengths = sorted(filter(None, map(len, map(_head, selections))))
        self._length = lengths[len(lengths) // _SHORT_PART] if lengths else 0
        self._cut = itemgetter(slice(self._length))
        self._covers, self._cover, self._short, self._filed = {}, [], 0, 0
        for selection in selections:
            self._file(selection)
        self._learned = self._filed

    def _file(self, selection: Selection) -> None:
        self._filed += 1
        head = _head(selection)
        if len(head) < self._length:
            self._short += head != b""
            _extend(self._cover, selection)
        else:
            _extend(self._covers.setdefault(self._cut(head), []), selection)


def _start(watcher: Selecting) -> bytes:
    return watcher.selection.start


def _head(selection: Selection) -> bytes:
    """With what every key of the range begins."""
    start, end = selection.start, selection.end
    if end is None:
        return b""
    size = min(len(start), len(end))
    difference = int.from_bytes(start[:size], "big") ^ int.from_bytes(end[:size], "big")
    common = size - (difference.bit_length() + 7) // 8
    longer = start[: common + 1]
    return longer if end == prefix_end(longer) else start[:common]


def _extend(cover: _Cover, selection: Selection) -> None:
    """Let the bounds cover this range too."""
    start, end = selection.start, selection.end
    low = bisect_left(cover, start)
    high = len(cover) if end is None else bisect_right(cover, end)
    bounds = [] if low % 2 else [start]
    if end is not None and not high % 2:
        bounds.append(end)
    cover[low:high] = bounds
