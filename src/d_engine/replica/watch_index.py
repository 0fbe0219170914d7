"""Whom a written key concerns: found without looking at every watcher.

Single keys are looked up in a dict. Ranges, which prefixes are too, are kept in order of their starts, in blocks that
know how far their longest range reaches; what began lately waits in a short list until it is worth sorting in.

Most writes concern nobody. `candidates` finds that out for a whole batch, with one look-up and one bisection for each
key: `_cover` holds the bounds of all ranges together, where a key between an odd and an even bound is covered. Ranges
that have gone are only taken out of it when many have: until then some keys are looked up in vain.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import repeat
from typing import Generic, Protocol, TypeVar

from d_engine.kv.events import Write
from d_engine.kv.watching import Selection

_BLOCK = 32
_RECENT = 64
_BEYOND = b"\xff" * 65536
"""Greater than every key: their lengths have two bytes."""


class Selecting(Protocol):
    """What the index holds. `closed` ones are not found any more."""

    @property
    def selection(self) -> Selection: ...

    @property
    def closed(self) -> bool: ...


_W = TypeVar("_W", bound=Selecting)


class WatchIndex(Generic[_W]):
    """Watchers by what they select. What is removed must be `closed` before."""

    __slots__ = ("_cover", "_gone", "_keys", "_ranges", "_reach", "_recent", "_starts")

    def __init__(self) -> None:
        self._keys: dict[bytes, dict[_W, None]] = {}
        self._recent: list[_W] = []
        self._ranges: list[_W] = []
        self._starts: list[bytes] = []
        self._reach: list[bytes] = []
        self._cover: list[bytes] = []
        self._gone = 0

    def add(self, watcher: _W) -> None:
        """From now on it is found."""
        selection = watcher.selection
        if selection.is_one_key:
            self._keys.setdefault(selection.start, {})[watcher] = None
            return
        self._recent.append(watcher)
        if len(self._recent) > _RECENT:
            self._sort_in()
        else:
            _extend(self._cover, selection)

    def remove(self, watcher: _W) -> None:
        """It is closed."""
        selection = watcher.selection
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
        keys, cover = self._keys, self._cover
        if not cover:
            return [write for write in writes if write[0].key in keys]
        written = [write[0].key for write in writes]
        # Between the least and the greatest key there are few bounds, if what is watched is not what is written.
        low, high = bisect_right(cover, min(written)), bisect_right(cover, max(written))
        if low == high and not low & 1:
            return [write for write, key in zip(writes, written, strict=True) if key in keys] if keys else []
        places = map(bisect_right, repeat(cover), written, repeat(low), repeat(high))
        if not keys:
            return [write for write, place in zip(writes, places, strict=True) if place & 1]
        found = zip(writes, written, places, strict=True)
        return [write for write, key, place in found if place & 1 or key in keys]

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
        cover: list[bytes] = []
        for watcher in ranges:
            if not cover or (not len(cover) % 2 and watcher.selection.start > cover[-1]):
                _extend(cover, watcher.selection)
            elif not len(cover) % 2:
                # It begins within the last one: by their order that is the only one that it can prolong.
                if watcher.selection.end is None:
                    cover.pop()
                elif watcher.selection.end > cover[-1]:
                    cover[-1] = watcher.selection.end
        self._cover = cover


def _start(watcher: Selecting) -> bytes:
    return watcher.selection.start


def _extend(cover: list[bytes], selection: Selection) -> None:
    """Let the bounds cover this range too."""
    start, end = selection.start, selection.end
    low = bisect_left(cover, start)
    high = len(cover) if end is None else bisect_right(cover, end)
    bounds = [] if low % 2 else [start]
    if end is not None and not high % 2:
        bounds.append(end)
    cover[low:high] = bounds
