"""The spare segment: the next one, filled with zeros before the present one is full.

Syncing into a zero-filled file costs about two thirds of syncing a growing one, and a disk that fills up is noticed
while there is still room for votes and configuration changes.
"""

from collections.abc import Callable

from d_engine.format.errors import DEngineError, DiskFullError
from d_engine.storage.disk import Disk, Lane
from d_engine.storage.segment import HEADER_BYTES, Segment, creation, segment_salt

FIRST_SEGMENT_BYTES = 1024 * 1024
GROWTH_BITS = 2
"""A log begins with a small segment, so that a new node starts at once, and grows fourfold to the usual size."""


class Spare:
    """Makes one segment at a time. `made(error)` is called when an attempt has ended, successful or not."""

    def __init__(self, disk: Disk, seed: int, segment_bytes: int) -> None:
        self._disk = disk
        self._seed = seed
        self._segment_bytes = segment_bytes
        self._busy = False
        self.segment: Segment | None = None
        """Ready for use."""
        self.full = False
        """The last attempt found no room."""

    def make(self, number: int, least: int, made: Callable[[DEngineError | None], None]) -> None:
        """See that there is a spare segment of that number with room for `least` bytes of records."""
        if self._busy or self._fits(number, least):
            return
        segment = self._new(number, least)
        self._busy = True

        def done(error: DEngineError | None) -> None:
            self._busy = False
            self.full = isinstance(error, DiskFullError)
            if error is None:
                self.segment = segment
            made(error)

        self._disk.submit(Lane.BACKGROUND, creation(segment), done)

    def make_first(self) -> Segment:
        """The first segment of all, at start-up."""
        segment = self._new(1, 0)
        self._disk.run(creation(segment))
        return segment

    def take(self, number: int, least: int) -> Segment | None:
        """The spare segment, for use, if there is one of that number with room for `least` bytes of records."""
        if self._busy or not self._fits(number, least):
            return None
        segment, self.segment = self.segment, None
        return segment

    def _fits(self, number: int, least: int) -> bool:
        segment = self.segment
        return segment is not None and segment.number == number and segment.size - HEADER_BYTES >= least

    def _new(self, number: int, least: int) -> Segment:
        pages = -(-least // HEADER_BYTES) + 1
        usual = min(self._segment_bytes, FIRST_SEGMENT_BYTES << GROWTH_BITS * min(number - 1, 32))
        size = max(usual, pages * HEADER_BYTES)
        return Segment(number, segment_salt(self._seed, number), size)
