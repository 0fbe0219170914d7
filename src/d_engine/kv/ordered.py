"""The keys in order: sorted chunks of bounded size, and a small set of changes not yet sorted in.

A put of a new key, or a delete, only notes the key; every `PENDING_LIMIT` changes, or before a scan or a view, the
notes are sorted and worked into the chunks. That costs a new key about a microsecond, later; overwriting a key costs
nothing. A scan finds its first chunk by bisection and then walks: nothing ever sorts all keys.

Chunk `i` holds the keys from `starts[i]` up to `starts[i + 1]`; `starts[0]` is the empty key, the smallest there is.
Chunks are shared with views like the shards are: the first change to a shared chunk replaces it by a copy.
"""

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator

CHUNK_LIMIT = 512
"""Keys. A chunk that grows beyond is split; two neighbours that fit into half of it are joined."""

_FILLED = CHUNK_LIMIT * 3 // 4
_FEW = 16
"""Keys that are faster inserted one by one than by sorting the whole chunk, which has to look at every key."""

PENDING_LIMIT = 512
"""Changes noted before they are sorted in: about half a millisecond of work."""


class FrozenKeys:
    """The keys in order, as they were when `OrderedKeys.freeze` was called."""

    __slots__ = ("_chunks", "_starts", "count")

    def __init__(self, chunks: list[list[bytes]], starts: list[bytes], count: int) -> None:
        self._chunks = chunks
        self._starts = starts
        self.count = count

    def from_key(self, start: bytes) -> Iterator[bytes]:
        """All keys that are not smaller than `start`, in order."""
        return _walk(self._chunks, self._starts, start)

    def release(self) -> Iterator[None]:
        """Let go of one chunk after the other."""
        while self._chunks:
            self._chunks.pop()
            yield


class OrderedKeys:
    """The keys in order, now. The caller knows which exist: it adds none twice and discards none that is absent."""

    __slots__ = ("_added", "_chunks", "_discarded", "_settled_count", "_shared", "_starts")

    def __init__(self, keys: Iterable[bytes] = ()) -> None:
        """`keys` are distinct and in order."""
        ordered = list(keys)
        self._chunks = _cut(ordered) or [[]]
        self._starts = [b"", *(chunk[0] for chunk in self._chunks[1:])]
        self._shared = bytearray(len(self._chunks))
        self._settled_count = len(ordered)
        self._added: set[bytes] = set()
        self._discarded: set[bytes] = set()

    def extend(self, keys: list[bytes]) -> None:
        """Keys that stand behind all that there are, in order. For keys of which nothing was frozen or changed yet."""
        last = self._chunks[-1]
        room = max(0, _FILLED - len(last))
        last += keys[:room]
        parts = _cut(keys[room:])
        self._chunks += parts
        self._starts += [part[0] for part in parts]
        self._shared += bytes(len(parts))
        self._settled_count += len(keys)

    @property
    def count(self) -> int:
        """How many keys there are."""
        return self._settled_count + len(self._added) - len(self._discarded)

    def add(self, key: bytes) -> None:
        """A key came into being."""
        if key in self._discarded:
            self._discarded.remove(key)
        else:
            self._added.add(key)
            if len(self._added) >= PENDING_LIMIT:
                self.settle()

    def discard(self, key: bytes) -> None:
        """A key ceased to exist."""
        if key in self._added:
            self._added.remove(key)
        else:
            self._discarded.add(key)
            if len(self._discarded) >= PENDING_LIMIT:
                self.settle()

    def discard_range(self, start: bytes, end: bytes | None) -> list[bytes]:
        """All keys from `start` up to but without `end` (None: to the last) ceased to exist. Returns them, in order.
        Whole chunks go at once: one by one, a million keys would take seconds."""
        self.settle()
        removed: list[bytes] = []
        chunks: list[list[bytes]] = []
        starts: list[bytes] = []
        shared = bytearray()
        first = bisect_right(self._starts, start) - 1
        behind = len(self._starts) if end is None else max(first + 1, bisect_left(self._starts, end))
        for at in range(first, behind):
            chunk, is_shared = self._chunks[at], self._shared[at]
            low = bisect_left(chunk, start)
            high = len(chunk) if end is None else bisect_left(chunk, end)
            if low < high:
                removed += chunk[low:high]
                chunk, is_shared = chunk[:low] + chunk[high:], 0
            if chunk:
                chunks.append(chunk)
                starts.append(self._starts[at])
                shared.append(is_shared)
        if not chunks and behind - first == len(self._chunks):
            chunks, starts, shared = [[]], [b""], bytearray(1)
        self._chunks[first:behind] = chunks
        self._starts[first:behind] = starts
        self._shared[first:behind] = shared
        self._starts[0] = b""
        self._settled_count -= len(removed)
        # What is left of the first and of the last chunk may be small, and so may be their neighbours.
        for at in (first + 1, first, first):
            self._join(min(at, len(self._chunks) - 1))
        return removed

    def from_key(self, start: bytes) -> Iterator[bytes]:
        """All keys that are not smaller than `start`, in order. No key may come or go before the walk ends."""
        self.settle()
        return _walk(self._chunks, self._starts, start)

    def before_key(self, end: bytes | None) -> Iterator[bytes]:
        """All keys that are smaller than `end` (None: all), the last one first. As with `from_key`, no key may come or
        go before the walk ends."""
        self.settle()
        return _walk_back(self._chunks, self._starts, end)

    def count_range(self, start: bytes, end: bytes | None) -> int:
        """How many keys lie from `start` up to but without `end`. Looks at chunks, not at keys."""
        self.settle()
        last = self._settled_count if end is None else _count_before(self._chunks, self._starts, end)
        return max(0, last - _count_before(self._chunks, self._starts, start))

    def freeze(self) -> FrozenKeys:
        """The keys as they are now, for ever."""
        self.settle()
        self._shared = bytearray(b"\x01" * len(self._chunks))
        return FrozenKeys(self._chunks.copy(), self._starts.copy(), self._settled_count)

    def settle(self) -> None:
        """Sort the noted changes in."""
        self._settled_count = self.count
        for key in sorted(self._discarded):
            self._take_out(key)
        added = sorted(self._added)
        position = 0
        while position < len(added):
            at = bisect_right(self._starts, added[position]) - 1
            last = at + 1 == len(self._starts)
            end = len(added) if last else bisect_left(added, self._starts[at + 1], position)
            self._sort_in(at, added[position:end])
            position = end
        self._discarded.clear()
        self._added.clear()

    def _writable(self, at: int) -> list[bytes]:
        if self._shared[at]:
            self._chunks[at] = self._chunks[at].copy()
            self._shared[at] = 0
        return self._chunks[at]

    def _sort_in(self, at: int, keys: list[bytes]) -> None:
        """Add to one chunk, all of whose keys these belong to; then cut it if it has become too long."""
        chunk = self._writable(at)
        if len(keys) < _FEW:
            for key in keys:
                insort(chunk, key)
        else:
            chunk += keys
            chunk.sort()
        if len(chunk) > CHUNK_LIMIT:
            parts = _cut(chunk)
            self._chunks[at : at + 1] = parts
            self._starts[at + 1 : at + 1] = [part[0] for part in parts[1:]]
            self._shared[at : at + 1] = bytes(len(parts))

    def _take_out(self, key: bytes) -> None:
        at = bisect_right(self._starts, key) - 1
        chunk = self._writable(at)
        del chunk[bisect_left(chunk, key)]
        if len(chunk) <= CHUNK_LIMIT // 4:
            self._join(at)

    def _join(self, at: int) -> None:
        """Join the chunk with a neighbour if both are small, so that of any two one is at least a quarter full."""
        for left in (at - 1, at):
            if left < 0 or left + 1 == len(self._chunks):
                continue
            joined = self._chunks[left] + self._chunks[left + 1]
            if len(joined) <= CHUNK_LIMIT // 2:
                self._chunks[left : left + 2] = [joined]
                self._shared[left : left + 2] = b"\x00"
                del self._starts[left + 1]
                return


def _cut(keys: list[bytes]) -> list[list[bytes]]:
    """Chunks with room to grow."""
    return [keys[at : at + _FILLED] for at in range(0, len(keys), _FILLED)]


def _walk(chunks: list[list[bytes]], starts: list[bytes], start: bytes) -> Iterator[bytes]:
    at = bisect_right(starts, start) - 1
    yield from chunks[at][bisect_left(chunks[at], start) :]
    for index in range(at + 1, len(chunks)):
        yield from chunks[index]


def _walk_back(chunks: list[list[bytes]], starts: list[bytes], end: bytes | None) -> Iterator[bytes]:
    at = len(starts) - 1 if end is None else bisect_right(starts, end) - 1
    below = len(chunks[at]) if end is None else bisect_left(chunks[at], end)
    yield from reversed(chunks[at][:below])
    for index in range(at - 1, -1, -1):
        yield from reversed(chunks[index])


def _count_before(chunks: list[list[bytes]], starts: list[bytes], key: bytes) -> int:
    at = bisect_right(starts, key) - 1
    return sum(map(len, chunks[:at])) + bisect_left(chunks[at], key)
