"""The real disk: one data directory, locked against other processes, and a thread for each lane.

`submit` puts a list of operations on its lane's queue, the lane's thread performs it, and `done` is handed back through
`post` (the loop's `call_soon_threadsafe`), once per list. The threads share nothing with the loop but these two queues.

What the operating system says is told apart by table: no room is `DiskFullError`, everything else `DiskError`. A sync
is different. When it fails, the kernel may have thrown away what it could not write, and a second sync would report
success; so a file (or the directory) whose sync has failed is never written or synced again, by whatever name.
"""

import errno
import fcntl
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import TypeAlias

from d_engine.format.errors import (
    DataDirectoryError,
    DEngineError,
    DiskError,
)
from d_engine.runtime.directory import (
    LOCK_NAME,
    DirectoryReader,
    OnRead,
    describe,
    disk_error,
    lock,
    open_directory,
)
from d_engine.runtime.fork import ForkGuard, hold, release
from d_engine.storage.disk import (
    CreateFile,
    DiskDone,
    DiskOperation,
    Lane,
    RemoveFile,
    RenameFile,
    SyncDirectory,
    SyncFile,
    TruncateFile,
    WriteFile,
)

_SLICE = bytes(1 << 18)
"""A file is filled in pieces of this size, each synced. While 64 MiB are filled, a sync of the log takes 0.9 ms at the
99th percentile then, against 24 ms if the whole is synced at the end."""
_MAX_PARTS = os.sysconf("SC_IOV_MAX")
_FILE_MODE = 0o600

Post: TypeAlias = Callable[[Callable[[], None]], object]
OnRun: TypeAlias = Callable[[DiskOperation], None]
_Job: TypeAlias = tuple[Sequence[DiskOperation], DiskDone]


class FileDisk:
    """`Disk` over a directory, which must exist. Raises `DataDirectoryError` if it cannot be used,
    `DataDirectoryLockedError` if another process, or this one, uses it already."""

    def __init__(self, directory: str | Path, post: Post) -> None:
        self._guard = ForkGuard()
        self._files = _Files(open_directory(Path(directory)))
        self._reader = DirectoryReader(self._files.directory)
        self._on_run: OnRun | None = None
        try:
            self._lock = _lock_directory(self._files.directory, Path(directory))
        except BaseException:
            self._files.close()
            raise
        self._leaving = threading.Lock()
        self._present = 1 + len(Lane)
        self._lanes = {lane: _LaneThread(lane, self._files, post, self._leave) for lane in Lane}

    def files(self) -> list[str]:
        """All names but those that are not ours."""
        self._guard.check()
        return self._reader.files()

    def size(self, name: str) -> int:
        """Bytes."""
        self._guard.check()
        return self._reader.size(name)

    def read(self, name: str, offset: int, size: int) -> bytes:
        """`size` bytes from `offset`, fewer only where the file ends."""
        self._guard.check()
        return self._reader.read(name, offset, size)

    def watch(self, on_read: OnRead | None, on_run: OnRun | None) -> None:
        """Tell of each read, and of each operation that is performed at once; None: of none."""
        self._reader.on_read, self._on_run = on_read, on_run

    def run(self, operations: Sequence[DiskOperation]) -> None:
        """Perform now, on this thread. For start-up, while the lanes are idle."""
        self._guard.check()
        for operation in operations:
            if self._on_run is not None:
                self._on_run(operation)
            self._files.perform(operation)

    def submit(self, lane: Lane, operations: Sequence[DiskOperation], done: DiskDone) -> None:
        """Perform on the lane's thread; `done` comes back through `post`, unless the disk is closed before."""
        self._guard.check()
        self._lanes[lane].jobs.put((operations, done))

    def close(self, timeout: float) -> bool:
        """Drop what waits, wait for what is under way, at most `timeout` seconds, and unlock the directory. If an
        operation hangs longer, False: its thread unlocks the directory when it comes back. Nobody is told any more."""
        if self._guard.forked or self._files.closing:
            return True
        deadline = time.monotonic() + timeout
        self._files.closing = True
        for lane in self._lanes.values():
            lane.jobs.put(None)
        for lane in self._lanes.values():
            lane.thread.join(max(deadline - time.monotonic(), 0.0))
        self._leave()
        return self._present == 0

    def _leave(self) -> None:
        """Whoever leaves last puts out the light."""
        with self._leaving:
            self._present -= 1
            if self._present:
                return
        self._files.close()
        release(self._lock)
        os.close(self._lock)


class _LaneThread:
    """Performs one list of operations after the other. A daemon: a hung disk does not keep the process."""

    def __init__(self, lane: Lane, files: "_Files", post: Post, leave: Callable[[], None]) -> None:
        self.jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._files = files
        self._post = post
        self._leave = leave
        self.thread = threading.Thread(target=self._run, name=f"d-engine-{lane.value}", daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            while (job := self.jobs.get()) is not None and not self._files.closing:
                operations, done = job
                error = self._perform(operations)
                if self._files.closing:
                    break
                try:
                    self._post(partial(done, error))
                except RuntimeError:
                    break  # the loop is closed: there is nobody to work for
        finally:
            self._leave()

    def _perform(self, operations: Sequence[DiskOperation]) -> DEngineError | None:
        try:
            for operation in operations:
                self._files.perform(operation)
        except DEngineError as error:
            return error
        except Exception as error:
            # Whatever it is (memory, a bug): it is unknown what reached the disk.
            failure = DiskError(f"an operation of the disk's thread failed: {error!r}")
            failure.__cause__ = error
            return failure
        return None


class _Files:
    """The directory's open files, and the operations on them. Descriptors stay open until the file is removed, so that
    what a sync reports concerns what was written through the same descriptor."""

    def __init__(self, directory: int) -> None:
        hold(directory)
        self.directory = directory
        self.closing = False
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}
        self._poisoned: dict[str, str] = {}
        """Why a file, or the directory (""), is not written or synced any more."""

    def perform(self, operation: DiskOperation) -> None:
        """Raises `DiskError` or `DiskFullError`."""
        try:
            match operation:
                case WriteFile(name, offset, parts):
                    _write_all(self._descriptor(name), offset, parts)
                case SyncFile(name):
                    self._sync(name, self._descriptor(name))
                case CreateFile(name, size):
                    self._create(name, size)
                case TruncateFile(name, size):
                    os.ftruncate(self._descriptor(name), size)
                case RenameFile(old, new):
                    self._rename(old, new)
                case RemoveFile(name):
                    self._remove(name)
                case SyncDirectory():
                    self._sync("", self.directory)
        except OSError as error:
            raise disk_error(f"{type(operation).__name__} {getattr(operation, 'name', '')}", error) from error

    def close(self) -> None:
        """Close everything. Nothing may be under way."""
        for descriptor in (*self._open.values(), self.directory):
            release(descriptor)
            os.close(descriptor)
        self._open.clear()

    def _descriptor(self, name: str) -> int:
        self._check_sound(name)
        with self._lock:
            descriptor = self._open.get(name)
            if descriptor is None:
                descriptor = os.open(name, os.O_RDWR | os.O_CLOEXEC, dir_fd=self.directory)
                hold(descriptor)
                self._open[name] = descriptor
            return descriptor

    def _check_sound(self, name: str) -> None:
        if name in self._poisoned:
            raise DiskError(
                f"{name or 'the directory'} is not used after a failed sync: {self._poisoned[name]}"
            )

    def _sync(self, name: str, descriptor: int) -> None:
        self._check_sound(name)
        try:
            _sync_descriptor(descriptor, directory=not name)
        except OSError as error:
            # Also when it says that there is no room: what was written may be lost.
            failure = DiskError(f"syncing {name or 'the directory'} failed: {describe(error)}")
            self._poisoned[name] = str(failure)
            raise failure from error

    def _create(self, name: str, size: int) -> None:
        self._remove(name)
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(name, flags, _FILE_MODE, dir_fd=self.directory)
        try:
            self._fill(descriptor, size)
        except BaseException:
            # What was written so far would only take up room; the descriptor is no longer of use.
            os.close(descriptor)
            with suppress(OSError):
                os.unlink(name, dir_fd=self.directory)
            raise
        with self._lock:
            hold(descriptor)
            self._open[name] = descriptor

    def _fill(self, descriptor: int, size: int) -> None:
        """Zeros, in slices. Asking for the whole room first lets a full disk refuse at once."""
        if sys.platform == "linux" and size:
            os.posix_fallocate(descriptor, 0, size)
        for offset in range(0, max(size, 1), len(_SLICE)):
            if self.closing:
                raise DiskError("the disk was closed while a file was filled")
            _write_all(descriptor, offset, (_SLICE[: size - offset],))
            _sync_descriptor(descriptor, directory=False)

    def _rename(self, old: str, new: str) -> None:
        self._check_sound(old)
        os.rename(old, new, src_dir_fd=self.directory, dst_dir_fd=self.directory)
        self._forget(new)
        with self._lock:
            if old in self._open:
                self._open[new] = self._open.pop(old)

    def _remove(self, name: str) -> None:
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=self.directory)
        self._forget(name)

    def _forget(self, name: str) -> None:
        """The file that had this name is gone."""
        self._poisoned.pop(name, None)
        with self._lock:
            descriptor = self._open.pop(name, None)
        if descriptor is not None:
            release(descriptor)
            os.close(descriptor)


# --- system calls ----------------------------------------------------------------------------------------------------


def _write_all(descriptor: int, offset: int, parts: Sequence[bytes]) -> None:
    """Vectored, in as many calls as the system needs."""
    for start in range(0, len(parts), _MAX_PARTS):
        rest: list[bytes | memoryview] = list(parts[start : start + _MAX_PARTS])
        left = sum(map(len, rest))
        while left:
            written = os.pwritev(descriptor, rest, offset)
            if written == 0:
                raise OSError(errno.EIO, "a write wrote nothing")
            offset += written
            left -= written
            while left and written >= len(rest[0]):
                written -= len(rest.pop(0))
            if left and written:
                rest[0] = memoryview(rest[0])[written:]


def _sync_descriptor(descriptor: int, *, directory: bool) -> None:
    if sys.platform == "darwin":
        fcntl.fcntl(descriptor, fcntl.F_FULLFSYNC)
    elif directory:
        os.fsync(descriptor)
    else:
        os.fdatasync(descriptor)


# --- the directory ---------------------------------------------------------------------------------------------------


def _lock_directory(directory: int, path: Path) -> int:
    """The lock's descriptor. The kernel releases it with the process, however that ends."""
    try:
        descriptor = os.open(LOCK_NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE, dir_fd=directory)
    except OSError as error:
        raise DataDirectoryError(
            f"the data directory {path} cannot be written: {describe(error)}. Check who owns it and how it is mounted"
        ) from error
    try:
        _lock(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise
    hold(descriptor)
    return descriptor


def _lock(descriptor: int, path: Path) -> None:
    lock(descriptor, path, fcntl.LOCK_EX)
    # In place and always as long, so that a full disk has room for it.
    try:
        os.pwrite(descriptor, b"%-15d\n" % os.getpid(), 0)
    except OSError as error:
        raise disk_error(f"writing {LOCK_NAME} in {path}", error) from error
