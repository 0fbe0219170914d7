"""The simulated disk: the `Disk` port over files that know what is on the platter, with latencies and faults.

Each operation of a list is an event of its own if it takes time. A process that dies between two of them leaves the
list half done; one that dies within a write leaves a beginning of it in the cache. Names, too, have two lives: what
`files` shows, and what survives power loss, which is what the last `SyncDirectory` saw and, of what came after it, a
beginning or any part.

What the disk did is told to an observer, from whom the oracles know what is on stable storage (`DiskObserver`).
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias

from d_engine.format.errors import DEngineError, DiskError, DiskFullError
from d_engine.format.ids import Nanoseconds
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
from d_engine.testing.sim.events import MICROSECOND, EventQueue
from d_engine.testing.sim.pages import SURVIVALS, PagedFile
from d_engine.testing.sim.trace import Trace


class ProcessDied(Exception):  # noqa: N818 - no error of the engine: the process ends here
    """Raised out of an operation at start-up when the process is to die in the middle of it."""


class DiskObserver(Protocol):
    """Who wants to know what reaches the platter. Names are those at that moment."""

    def written(self, name: str, offset: int, data: bytes) -> None: ...

    def cut_short(self, name: str, data: bytes) -> None: ...

    def synced(self, name: str) -> None: ...

    def sync_failed(self, name: str) -> None: ...

    def renamed(self, old: str, new: str) -> None: ...

    def removed(self, name: str) -> None: ...


@dataclass(slots=True)
class DiskTiming:
    """How long things take. Syncs take `sync` and something on top, which is rarely much more."""

    write: Nanoseconds = 20 * MICROSECOND
    sync: Nanoseconds = 200 * MICROSECOND
    jitter: Nanoseconds = 100 * MICROSECOND


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


_Job: TypeAlias = tuple[Sequence[DiskOperation], DiskDone]
_NameChange: TypeAlias = tuple[str, str | None, PagedFile | None]
"""`(name that goes, name that comes, file under it)`."""


class SimDisk:
    """One machine's data directory. It outlives processes. `died` is called when a process is to die of `die_after`."""

    def __init__(
        self,
        events: EventQueue,
        rng: Random,
        trace: Trace,
        node: int,
        timing: DiskTiming,
        died: Callable[[], None],
    ) -> None:
        self.trouble = DiskTrouble()
        self.timing = timing
        self.observer: DiskObserver | None = None
        self._events = events
        self._rng = rng
        self._trace = trace
        self._node = node
        self._died = died
        self._files: dict[str, PagedFile] = {}
        self._platter: dict[str, PagedFile] = {}
        self._changes: list[_NameChange] = []
        self._lanes: dict[Lane, deque[_Job]] = {lane: deque() for lane in Lane}
        self._life = 0
        self._writing: dict[Lane, WriteFile] = {}
        self._hung: list[tuple[Lane, int, int]] = []

    # --- the port ------------------------------------------------------------------------------------------------

    def files(self) -> list[str]:
        """The names of all files."""
        return sorted(self._files)

    def size(self, name: str) -> int:
        """In bytes."""
        return len(self._file(name).content)

    def read(self, name: str, offset: int, size: int) -> bytes:
        """What the cache holds, as far as the file reaches."""
        return bytes(self._file(name).content[offset : offset + size])

    def run(self, operations: Sequence[DiskOperation]) -> None:
        """At once, without time passing."""
        for operation in operations:
            if self._about_to_die():
                raise ProcessDied
            self._perform(operation)

    def submit(self, lane: Lane, operations: Sequence[DiskOperation], done: DiskDone) -> None:
        """Behind what waits in the lane."""
        jobs = self._lanes[lane]
        jobs.append((operations, done))
        if len(jobs) == 1:
            self._next(lane, 0, self._life)

    # --- lanes ---------------------------------------------------------------------------------------------------

    def _next(self, lane: Lane, position: int, life: int) -> None:
        """Begin the operation at `position` of the lane's first job."""
        operations = self._lanes[lane][0][0]
        operation = operations[position] if position < len(operations) else None
        if isinstance(operation, WriteFile):
            self._writing[lane] = operation
        self._events.after(self._duration(operation), self._do, lane, position, life)

    def _duration(self, operation: DiskOperation | None) -> Nanoseconds:
        timing = self.timing
        match operation:
            case WriteFile():
                return timing.write
            case SyncFile() | CreateFile() | SyncDirectory():
                return timing.sync + int(timing.jitter * self._rng.expovariate(1.0))
            case _:
                return 0

    def _do(self, lane: Lane, position: int, life: int) -> None:
        if life != self._life:
            return
        if self.trouble.hanging:
            self._hung.append((lane, position, life))
            return
        jobs = self._lanes[lane]
        operations, done = jobs[0]
        error: DEngineError | None = None
        if position < len(operations):
            if self._about_to_die():
                self._died()
                return
            self._writing.pop(lane, None)
            try:
                self._perform(operations[position])
            except DEngineError as failure:
                error = failure
            if error is None and position + 1 < len(operations):
                self._next(lane, position + 1, life)
                return
        jobs.popleft()
        if jobs:
            self._next(lane, 0, life)
        done(error)

    def _about_to_die(self) -> bool:
        left = self.trouble.die_after
        if left is None:
            return False
        self.trouble.die_after = left - 1 if left else None
        return not left

    # --- operations ----------------------------------------------------------------------------------------------

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

    # --- what happens to machines ----------------------------------------------------------------------------------

    @property
    def used_bytes(self) -> int:
        """All files together."""
        return sum(len(file.content) for file in self._files.values())

    def recover(self) -> None:
        """No trouble any more; what hung goes on."""
        self.trouble = DiskTrouble()
        self.go_on()

    def go_on(self) -> None:
        """What hung goes on."""
        self.trouble.hanging = False
        hung, self._hung = self._hung, []
        for lane, position, life in hung:
            self._events.after(0, self._do, lane, position, life)

    def kill(self) -> None:
        """The process is gone; what it had written stays in the cache, a write under way as far as it had come."""
        self._life += 1
        for jobs in self._lanes.values():
            jobs.clear()
        writing = list(self._writing.values())
        self._writing.clear()
        self.trouble.die_after = None
        for operation in writing:
            data = b"".join(operation.parts)
            file = self._files.get(operation.name)
            if file is None or (self.trouble.full and self._grows(file, operation.offset + len(data))):
                continue
            self._cut_short(operation.name, operation.offset, data, len(data))
            self._trace.count("disk: write cut by a kill")

    def lose_power(self) -> None:
        """The cache is gone too. What is left is on the platter."""
        self.kill()
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
        self.kill()
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

    @property
    def damaged(self) -> bool:
        """Some file has bits that rotted."""
        return any(file.damaged for file in self._files.values())


def _change_name(names: dict[str, PagedFile], change: _NameChange) -> None:
    gone, come, file = change
    if gone:
        names.pop(gone, None)
    if come is not None and file is not None:
        names[come] = file
