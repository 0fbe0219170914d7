"""A data directory as the system knows it: opening, locking and reading it. Nothing here changes anything."""

import errno
import fcntl
import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from d_engine.format.errors import (
    DataDirectoryError,
    DataDirectoryLockedError,
    DEngineError,
    DiskError,
    DiskFullError,
)

LOCK_NAME = "lock"
NOT_OURS = (LOCK_NAME, "lost+found")
"""What may stand in a data directory and is no file of the storage."""
_FULL = (errno.ENOSPC, errno.EDQUOT)

OnRead: TypeAlias = Callable[[str, int, int], None]
"""Told of each read: the file, the offset, and the file's size."""


class DirectoryReader:
    """The reading half of a `Disk`, over an open directory. Any thread may use it."""

    def __init__(self, directory: int) -> None:
        self.on_read: OnRead | None = None
        self._directory = directory

    def files(self) -> list[str]:
        """All names but those that are not ours."""
        return [name for name in os.listdir(self._directory) if name not in NOT_OURS]

    def size(self, name: str) -> int:
        """Bytes."""
        try:
            return os.stat(name, dir_fd=self._directory).st_size
        except OSError as error:
            raise disk_error(f"looking at {name}", error) from error

    def read(self, name: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer only where the file ends."""
        if self.on_read is not None:
            self.on_read(name, offset, self.size(name))
        try:
            # A descriptor of its own: others of the file may be closed on another thread at any time.
            descriptor = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)
            try:
                return _read_all(descriptor, offset, size)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise disk_error(f"reading {name}", error) from error


def open_directory(path: Path) -> int:
    """A descriptor of the directory. Raises `DataDirectoryError`."""
    try:
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DataDirectoryError(
            f"the data directory {path} cannot be opened: {describe(error)}. Create it, or configure another one"
        ) from error


def lock(descriptor: int, path: Path, kind: int) -> None:
    """Take the lock of the directory `path`, whose lock file this is: `fcntl.LOCK_EX` or `fcntl.LOCK_SH`. The kernel
    releases it with the process, however that ends. Raises `DataDirectoryLockedError`, `DataDirectoryError`."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
        raise DataDirectoryLockedError(
            f"the data directory {path} is in use by the process with the id {owner}: stop that one, or configure"
            " another directory"
        ) from None
    except OSError as error:
        raise DataDirectoryError(f"the data directory {path} cannot be locked: {describe(error)}") from error


def describe(error: OSError) -> str:
    """The error's number, name and text."""
    name = errno.errorcode.get(error.errno or 0, "no number")
    return f"[errno {error.errno} {name}] {error.strerror}"


def disk_error(action: str, error: OSError) -> DEngineError:
    """What the storage is told: `DiskFullError` if there was no room, else `DiskError`."""
    kind = DiskFullError if error.errno in _FULL else DiskError
    return kind(f"{action.rstrip()} failed: {describe(error)}")


def _read_all(descriptor: int, offset: int, size: int) -> bytes:
    parts = []
    while size > 0 and (part := os.pread(descriptor, size, offset)):
        parts.append(part)
        offset += len(part)
        size -= len(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)
