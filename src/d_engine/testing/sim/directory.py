"""A machine's data directory: what is in it, what of it is on the platter, and which operations fail.

Names have two lives: what `files` shows, and what survives power loss, which is what the last `SyncDirectory` saw
and, of what came after it, a beginning or any part. What becomes durable is told to an observer, from whom the oracles
know what a node may promise.
"""

from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias

from d_engine.format.errors import DiskError, DiskFullError
from d_engine.storage.disk import (
    CreateFile,
    DiskOperation,
    RemoveFile,
    RenameFile,
    SyncDirectory,
    SyncFile,
    TruncateFile,
    WriteFile,
)
from d_engine.testing.sim.pages import SURVIVALS, PagedFile
from d_engine.testing.sim.trace import Trace


class DiskObserver(Protocol):
    """Who wants to know what reaches the platter. Names are those at that moment."""

    def written(self, name: str, offset: int, data: bytes) -> None: ...

    def cut_short(self, name: str, data: bytes) -> None: ...

    def synced(self, name: str) -> None: ...

    def sync_failed(self, name: str) -> None: ...

    def renamed(self, old: str, new: str) -> None: ...

    def removed(self, name: str) -> None: ...


@dataclass(slots=True)
class DiskTrouble:
    """Faults in force. `fail_syncs` and `fail_writes` count down; `die_after` counts operations down to a crash. On a
    full disk that copies on write there is no room for anything, be the file's space allocated or not."""

    fail_syncs: int = 0
    fail_writes: int = 0
    full: bool = False
    copy_on_write: bool = False
    hanging: bool = False
    die_after: int | None = None


_NameChange: TypeAlias = tuple[str, str | None, PagedFile | None]
"""`(name that goes, name that comes, file under it)`."""


class DataDirectory:
    """The files, in the cache and on the platter."""

    def __init__(self, rng: Random, trace: Trace) -> None:
        self.trouble = DiskTrouble()
        self.observer: DiskObserver | None = None
        self._rng = rng
        self._trace = trace
        self._files: dict[str, PagedFile] = {}
        self._platter: dict[str, PagedFile] = {}
        self._changes: list[_NameChange] = []
        self.opened: dict[str, bool] = {}
        """What the process holds open: each file that it wrote, until that is gone (`d_engine.runtime.disk`)."""

    def files(self) -> list[str]:
        """The names of all files."""
        return sorted(self._files)

    def size(self, name: str) -> int:
        """In bytes."""
        return len(self._file(name).content)

    def read(self, name: str, offset: int, size: int) -> bytes:
        """What the cache holds, as far as the file reaches."""
        return bytes(self._file(name).content[offset : offset + size])

    @property
    def used_bytes(self) -> int:
        """All files together."""
        return sum(len(file.content) for file in self._files.values())

    # --- operations -----------------------------------------------------------------------------------------

    def perform(self, operation: DiskOperation) -> None:
        """One operation. Raises `DiskError`, `DiskFullError`."""
        try:
            self._perform(operation)
        finally:
            self._hold_open(operation)

    def _perform(self, operation: DiskOperation) -> None:
        match operation:
            case WriteFile(name, offset, parts):
                self._write(name, offset, b"".join(parts))
            case SyncFile(name):
                self._sync(name)
            case CreateFile(name, size):
                self._create(name, size)
            case TruncateFile(name, size):
                self._file(name).truncate(size)
            case RenameFile(old, new):
                self._set_name(old, new, self._file(old))
                if self.observer is not None:
                    self.observer.renamed(old, new)
            case RemoveFile(name):
                if name in self._files:
                    self._set_name(name, None, None)
                    if self.observer is not None:
                        self.observer.removed(name)
            case SyncDirectory():
                self._platter = dict(self._files)
                self._changes.clear()

    def _hold_open(self, operation: DiskOperation) -> None:
        match operation:
            case WriteFile(name) | SyncFile(name) | TruncateFile(name) | CreateFile(name):
                if name in self._files:
                    self.opened[name] = True
            case RenameFile(old, new):
                if self.opened.pop(old, None):
                    self.opened[new] = True
            case RemoveFile(name):
                self.opened.pop(name, None)

    def _create(self, name: str, size: int) -> None:
        if self.trouble.full and self._rng.random() < 0.5:
            self._set_name(None, name, PagedFile(self._rng.randrange(size + 1)))
        self._need_room(True, f"creating {name}")
        self._set_name(None, name, PagedFile(size))

    def _write(self, name: str, offset: int, data: bytes) -> None:
        file = self._file(name)
        if self.trouble.fail_writes:
            self.trouble.fail_writes -= 1
            self._trace.count("disk: write failed")
            self._cut_short(name, offset, data, len(data))
            raise DiskError(f"{name}: a write failed")
        try:
            self._need_room(self._grows(file, offset + len(data)), f"writing to {name}")
        except DiskFullError:
            fitting = max(0, min(file.allocated - offset, len(data)))
            self._cut_short(name, offset, data, fitting)
            raise
        file.write(offset, data)
        if self.observer is not None:
            self.observer.written(name, offset, data)

    def _cut_short(self, name: str, offset: int, data: bytes, most: int) -> None:
        """A beginning of the data is written, `most` bytes at most."""
        self._file(name).write(offset, data[: self._rng.randrange(most + 1)])
        if self.observer is not None:
            self.observer.cut_short(name, data)

    def _sync(self, name: str) -> None:
        file = self._file(name)
        if self.trouble.fail_syncs:
            self.trouble.fail_syncs -= 1
            self._trace.count("disk: sync failed")
            file.sync_failed()
            if self.observer is not None:
                self.observer.sync_failed(name)
            raise DiskError(f"{name}: a sync failed")
        file.sync()
        if self.observer is not None:
            self.observer.synced(name)

    def _grows(self, file: PagedFile, end: int) -> bool:
        return end > file.allocated or self.trouble.copy_on_write

    def _need_room(self, needed: bool, what: str) -> None:
        if self.trouble.full and needed:
            self._trace.count("disk: no room")
            raise DiskFullError(f"no room left on the disk, {what}")

    def _set_name(self, gone: str | None, come: str | None, file: PagedFile | None) -> None:
        change = (gone or "", come, file)
        _change_name(self._files, change)
        self._changes.append(change)

    def _file(self, name: str) -> PagedFile:
        file = self._files.get(name)
        if file is None:
            raise DiskError(f"{name}: there is no such file")
        return file

    # --- what happens to machines ---------------------------------------------------------------------------

    def abandon(self, operation: WriteFile) -> None:
        """The process died within this write: a beginning of it is in the cache."""
        data = b"".join(operation.parts)
        file = self._files.get(operation.name)
        if file is not None and not (self.trouble.full and self._grows(file, operation.offset + len(data))):
            self._cut_short(operation.name, operation.offset, data, len(data))
            self._trace.count("disk: write cut by a kill")

    def lose_power(self) -> None:
        """The cache is gone too. What is left is on the platter."""
        rng = self._rng
        names = dict(self._platter)
        survival = rng.choice(SURVIVALS)
        changes = self._changes
        if rng.random() < 0.7:
            changes = changes[: rng.randrange(len(changes) + 1)]
        else:
            changes = [change for change in changes if rng.random() < 0.5]
        for change in changes:
            _change_name(names, change)
        if names != self._files:
            self._trace.count("disk: names lost")
        if any(file.dirty for file in names.values()):
            self._trace.count(f"disk: unsynced writes lost ({survival.value})")
        self._files, self._platter = names, dict(names)
        self._changes = []
        for _, file in sorted(names.items()):
            file.lose_power(survival, rng)

    def wipe(self) -> None:
        """Another disk, empty, takes its place."""
        self._files, self._platter, self._changes = {}, {}, []

    def rot(self, flips: int) -> str:
        """Flip bits of one file, anywhere but in what was written last: damage there cannot be told from a tear, and
        the engine says so. Returns the file's name, "" if there is none to damage."""
        names = [name for name in self.files() if self._files[name].settled]
        if not names:
            return ""
        name = self._rng.choice(names)
        reach = self._files[name].settled
        for _ in range(flips):
            self._files[name].flip_bit(self._rng.randrange(reach), self._rng.randrange(8))
        return name


def _change_name(names: dict[str, PagedFile], change: _NameChange) -> None:
    gone, come, file = change
    if gone:
        names.pop(gone, None)
    if come is not None and file is not None:
        names[come] = file
