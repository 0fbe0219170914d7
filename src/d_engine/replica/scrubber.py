"""Looking whether a kept snapshot is still good, when a part of it could not be served.

The part may be damaged; or the peer asked for a place where no chunk begins, because what it has is of another file.
Only the whole file tells, and that is read in slices, as it was when it was written.
"""

from d_engine.format.errors import CorruptionError, UnknownFormatError
from d_engine.format.ids import Nanoseconds
from d_engine.replica.settings import SnapshotSettings
from d_engine.storage.snapshots import SnapshotFile, SnapshotFiles, Verification


class Scrubber:
    """One file at a time."""

    def __init__(self, settings: SnapshotSettings, files: SnapshotFiles) -> None:
        self._settings = settings
        self._files = files
        self._doubtful: SnapshotFile | None = None
        self._verification: Verification | None = None
        self._resume_at: Nanoseconds = 0

    @property
    def deadline(self) -> Nanoseconds | None:
        """When the next slice is due."""
        return None if self._doubtful is None else self._resume_at

    def doubt(self, file: SnapshotFile) -> None:
        """Something about it was not as expected."""
        if self._doubtful is None:
            self._doubtful, self._verification = file, None

    def run(self, now: Nanoseconds) -> bool:
        """A slice. True if the file is damaged: it is kept no more."""
        file = self._doubtful
        if file is None or now < self._resume_at:
            return False
        self._resume_at = now + self._settings.pause_ns
        if file not in self._files.kept:
            self._doubtful = None
            return False
        try:
            if self._verification is None:
                self._verification = Verification(self._files.disk, file.name)
            if self._verification.step(self._settings.slice_bytes) is not None:
                self._doubtful = None
        except (CorruptionError, UnknownFormatError) as error:
            self._doubtful = None
            self._files.refuse(file, error)
            return True
        return False
