"""Removing segments in which nothing lives any more.

One at a time, and the directory synced after each, so that no crash leaves a segment missing between two others: at
recovery that would mean that the log is damaged.
"""

from collections.abc import Callable

from d_engine.format.errors import DEngineError
from d_engine.storage.disk import Disk, Lane, RemoveFile, SyncDirectory
from d_engine.storage.segment import Segments


class Retirement:
    """Removes one segment at a time. `removed(error)` is called when an attempt has ended, successful or not."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._busy = False

    def begin(self, segments: Segments, removed: Callable[[DEngineError | None], None]) -> None:
        """Remove the oldest segment, if nothing lives in it."""
        oldest = segments.dispensable
        if self._busy or oldest is None:
            return
        self._busy = True

        def done(error: DEngineError | None) -> None:
            self._busy = False
            if error is None:
                segments.forget(oldest)
            removed(error)

        self._disk.submit(Lane.BACKGROUND, (RemoveFile(oldest.name), SyncDirectory()), done)
