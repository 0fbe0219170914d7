"""A data directory to look at: nothing in it is changed, not even its lock file.

While it is open no node can start on the directory, and it cannot be opened while one runs: so what is read is of one
moment. Several may look at once. A copy without a lock file belongs to nobody and is not locked.
"""

import fcntl
import os
from collections.abc import Sequence
from pathlib import Path

from d_engine.format.errors import DataDirectoryError, InvariantViolation
from d_engine.runtime.directory import LOCK_NAME, DirectoryReader, describe, lock, open_directory
from d_engine.storage.disk import DiskDone, DiskOperation, Lane


class ReadOnlyDisk(DirectoryReader):
    """`Disk`, of which the reading half works. A context manager. Raises `DataDirectoryError` if the directory cannot
    be read, `DataDirectoryLockedError` if a node runs on it."""

    def __init__(self, directory: str | Path) -> None:
        path = Path(directory)
        self._descriptor = open_directory(path)
        super().__init__(self._descriptor)
        self._lock = -1
        try:
            self._take_lock(path)
        except BaseException:
            self.close()
            raise

    def run(self, operations: Sequence[DiskOperation]) -> None:
        """Raises `InvariantViolation`."""
        raise InvariantViolation("a data directory that is only to be looked at would have been changed")

    def submit(self, lane: Lane, operations: Sequence[DiskOperation], done: DiskDone) -> None:
        """Raises `InvariantViolation`."""
        self.run(operations)

    def close(self) -> None:
        """Let others use the directory."""
        for descriptor in (self._lock, self._descriptor):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self._descriptor = -1

    def __enter__(self) -> "ReadOnlyDisk":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _take_lock(self, path: Path) -> None:
        try:
            self._lock = os.open(LOCK_NAME, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._descriptor)
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataDirectoryError(
                f"the lock of the data directory {path} cannot be opened: {describe(error)}"
            ) from error
        lock(self._lock, path, fcntl.LOCK_SH)
