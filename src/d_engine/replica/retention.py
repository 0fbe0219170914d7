"""How much of the log stays when a snapshot stands for it.

Three wishes, in this order: the log reaches back to the older of the two kept snapshots, always, or a bad newest one
could not be made up for. It is not larger than a limit. Within that it stays for a while, and as long as followers that
keep up need it: sending a few entries is cheaper than a snapshot.

Time and size are known at marks, a few of which are made in the time that the log is to stay.
"""

from collections import deque
from dataclasses import dataclass

from d_engine.format.ids import LogIndex, Nanoseconds
from d_engine.replica.settings import SnapshotSettings

_MARKS_PER_TIME = 6
_MAX_MARKS = 512


@dataclass(frozen=True, slots=True)
class Mark:
    """At this time, everything up to `index` was applied, `size` bytes of it since the start."""

    time: Nanoseconds
    index: LogIndex
    size: int


class Retention:
    """Where the log may be cut."""

    def __init__(self, settings: SnapshotSettings) -> None:
        self._settings = settings
        self._marks: deque[Mark] = deque()
        self._size = 0

    def applied(self, size: int) -> None:
        """So much more log was applied."""
        self._size += size

    def mark(self, now: Nanoseconds, index: LogIndex) -> bool:
        """Note how far the log is, if it is time to: then True."""
        marks = self._marks
        if marks and now - marks[-1].time < self._settings.keep_log_ns // _MARKS_PER_TIME:
            return False
        marks.append(Mark(now, index, self._size))
        if len(marks) > _MAX_MARKS:
            # Of the older half every second one goes: the further back, the less it matters where exactly.
            half = list(marks)[: _MAX_MARKS // 2]
            kept = [*half[::2], *list(marks)[_MAX_MARKS // 2 :]]
            self._marks = deque(kept)
        return True

    def floor(self, now: Nanoseconds, boundary: LogIndex, needed: LogIndex) -> LogIndex:
        """Up to where the log may go, given what the older snapshot stands for and what followers have."""
        old = [mark.index for mark in self._marks if now - mark.time >= self._settings.keep_log_ns]
        wish = min(max(old, default=0), needed)
        large = [
            mark.index for mark in self._marks if self._size - mark.size >= self._settings.keep_log_bytes
        ]
        return min(boundary, max(wish, max(large, default=0)))

    def cut(self, index: LogIndex) -> None:
        """The log begins behind `index` now."""
        while len(self._marks) > 1 and self._marks[1].index <= index:
            self._marks.popleft()
