"""The newest entries, in memory, within a budget of bytes.

What peers miss is nearly always new, and what is applied is always new, so a short tail serves both without touching
the disk. The tail is contiguous and ends where the log ends. An entry leaves the front only once storage has it:
whoever needs it later reads it from there.
"""

from d_engine.format.entry import Entry
from d_engine.format.errors import InvariantViolation
from d_engine.format.ids import LogIndex

_TRIM = 1024
"""Dropped slots are given back in pieces of at least this many, so that dropping costs O(1) an entry."""


class EntryCache:
    """Entries `first_index`..`next_index - 1`."""

    __slots__ = ("_entries", "_head", "_limit", "_size", "first_index")

    def __init__(self, next_index: LogIndex, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self.clear(next_index)

    def clear(self, next_index: LogIndex) -> None:
        """Forget everything; the next entry has this index."""
        self._entries: list[Entry | None] = []
        self._head = 0
        self._size = 0
        self.first_index = next_index

    @property
    def next_index(self) -> LogIndex:
        """The index of the entry that may be appended next."""
        return self.first_index + len(self._entries) - self._head

    @property
    def size(self) -> int:
        """Bytes held."""
        return self._size

    def append(self, entry: Entry) -> None:
        """One more entry."""
        if entry.index != self.first_index + len(self._entries) - self._head:
            raise InvariantViolation(f"entry {entry.index} is not the next after {self.next_index - 1}")
        self._entries.append(entry)
        self._size += len(entry.data)

    def truncate(self, first: LogIndex) -> None:
        """Everything from `first` on goes."""
        if first <= self.first_index:
            self.clear(first)
            return
        while self.next_index > first:
            entry = self._entries.pop()
            if entry is not None:
                self._size -= len(entry.data)

    def shrink(self, stored_index: LogIndex) -> None:
        """Drop the oldest entries until the budget is kept. Only entries up to `stored_index` may go."""
        if self._size > self._limit:
            while self._size > self._limit and self.first_index <= stored_index:
                self._drop_first()
            self._trim()

    def drop_before(self, index: LogIndex) -> None:
        """Drop all entries before `index`."""
        while self.first_index < index and self._head < len(self._entries):
            self._drop_first()
        self._trim()

    def _drop_first(self) -> None:
        entry = self._entries[self._head]
        if entry is None:
            raise InvariantViolation("the cache has lost its first entry")
        self._size -= len(entry.data)
        self._entries[self._head] = None
        self._head += 1
        self.first_index += 1

    def _trim(self) -> None:
        if self._head >= _TRIM and self._head * 2 >= len(self._entries):
            del self._entries[: self._head]
            self._head = 0

    def slice(self, first: LogIndex, last: LogIndex, max_bytes: int) -> tuple[Entry, ...]:
        """Entries from `first` up to `last`, at least one, up to about `max_bytes`."""
        place = self._head + first - self.first_index
        stop = self._head + last - self.first_index + 1
        found: list[Entry] = []
        for slot in range(place, stop):
            entry = self._entries[slot]
            if entry is None:
                raise InvariantViolation("the cache has lost an entry")
            if found and len(entry.data) > max_bytes:
                break
            max_bytes -= len(entry.data)
            found.append(entry)
        return tuple(found)
