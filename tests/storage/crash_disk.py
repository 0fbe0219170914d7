"""A disk in memory that forgets what was not synced, page by page and name by name, in any order.

A file is what a crash keeps (`durable`) and what a reader sees (`current`). A crash draws, for each 512-byte sector
that differs, which of the two survives; pages are torn that way too. Directory entries are drawn name by name. A sync
writes the pages that are dirty, and a sync that fails leaves them clean all the same: they are read as written, and no
later sync writes them. It is deliberately worse than real file systems: what survives it survives them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from d_engine.format.errors import DEngineError, DiskError, DiskFullError
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

SECTOR = 512
PAGE = 4096


@dataclass
class File:
    """`durable` is what a crash keeps."""

    current: bytearray = field(default_factory=bytearray)
    durable: bytes = b""
    dirty: set[int] = field(default_factory=set)
    poisoned: bool = False

    def write(self, offset: int, data: bytes) -> None:
        self.resize(max(len(self.current), offset + len(data)))
        self.current[offset : offset + len(data)] = data
        self.dirty.update(range(offset // PAGE, (offset + len(data) + PAGE - 1) // PAGE))

    def resize(self, size: int) -> None:
        first, last = sorted((size, len(self.current)))
        self.dirty.update(range(first // PAGE, last // PAGE + 1))
        self.current[size:] = bytes(max(size - len(self.current), 0))

    def sync(self) -> None:
        pages = bytearray(self.durable.ljust(len(self.current), b"\0")[: len(self.current)])
        for page in sorted(self.dirty):
            pages[page * PAGE : (page + 1) * PAGE] = self.current[page * PAGE : (page + 1) * PAGE]
        self.durable = bytes(pages)
        self.dirty.clear()

    def copy(self) -> "File":
        """As another process sees it."""
        return File(bytearray(self.current), self.durable, set(self.dirty))

    def after_crash(self, random: Random) -> "File":
        """Each sector is as synced or as written last, and so is the size."""
        size = random.choice((len(self.durable), len(self.current)))
        longest = max(len(self.durable), len(self.current))
        old, new = self.durable.ljust(longest, b"\0"), bytes(self.current).ljust(longest, b"\0")
        sectors = bytearray()
        whole_pages = random.random() < 0.5
        for page in range(0, longest, PAGE):
            choice = random.choice((old, new))
            for sector in range(page, min(page + PAGE, longest), SECTOR):
                if not whole_pages:
                    choice = random.choice((old, new))
                sectors += choice[sector : sector + SECTOR]
        data = bytes(sectors[:size])
        return File(bytearray(data), data)


class CrashDisk:
    """`Disk`. Submitted operations wait until `step` or `settle` performs them."""

    def __init__(self, capacity: int | None = None) -> None:
        self.names: dict[str, File] = {}
        self.durable_names: dict[str, File] = {}
        self.capacity = capacity
        self.queues: dict[Lane, list[tuple[Sequence[DiskOperation], DiskDone]]] = {lane: [] for lane in Lane}
        self.performed: list[DiskOperation] = []
        self.asked: list[int] = []
        self.refuse: Callable[[DiskOperation], DEngineError | None] = lambda operation: None

    # --- the port ------------------------------------------------------------------------------------------------

    def files(self) -> list[str]:
        return list(self.names)

    def size(self, name: str) -> int:
        return len(self._file(name).current)

    def read(self, name: str, offset: int, size: int) -> bytes:
        self.asked.append(size)
        return bytes(self._file(name).current[offset : offset + size])

    def run(self, operations: Sequence[DiskOperation]) -> None:
        for operation in operations:
            self._perform(operation)

    def submit(self, lane: Lane, operations: Sequence[DiskOperation], done: DiskDone) -> None:
        self.queues[lane].append((tuple(operations), done))

    # --- for tests -----------------------------------------------------------------------------------------------

    def step(self, lane: Lane, limit: int | None = None) -> bool:
        """Perform the lane's oldest list; with a limit, only so many operations, and nobody is told."""
        if not self.queues[lane]:
            return False
        operations, done = self.queues[lane].pop(0)
        error: DEngineError | None = None
        try:
            self.run(operations[:limit])
        except (DiskError, DiskFullError) as raised:
            error = raised
        if limit is None:
            done(error)
        return True

    def settle(self) -> None:
        """Perform everything, until nothing is submitted any more."""
        while self.step(Lane.LOG) or self.step(Lane.BACKGROUND):
            pass

    def crash(self, random: Random) -> "CrashDisk":
        """What the next process finds."""
        survivor = CrashDisk(self.capacity)
        files: dict[int, File] = {}
        for name in sorted({*self.names, *self.durable_names}):
            file = random.choice((self.names, self.durable_names)).get(name)
            if file is not None:
                survivor.names[name] = files.setdefault(id(file), file.after_crash(random))
        survivor.durable_names = dict(survivor.names)
        return survivor

    def killed(self) -> "CrashDisk":
        """What the next process finds when only the process died: the page cache is still there."""
        survivor = CrashDisk(self.capacity)
        copies = {id(file): file.copy() for file in (*self.names.values(), *self.durable_names.values())}
        survivor.names = {name: copies[id(file)] for name, file in self.names.items()}
        survivor.durable_names = {name: copies[id(file)] for name, file in self.durable_names.items()}
        return survivor

    def copy(self) -> "CrashDisk":
        """Everything as it is, durable."""
        survivor = CrashDisk(self.capacity)
        survivor.names = {
            name: File(bytearray(file.current), bytes(file.current)) for name, file in self.names.items()
        }
        survivor.durable_names = dict(survivor.names)
        return survivor

    def flip(self, name: str, offset: int, bits: int = 0x40) -> None:
        """Bit rot."""
        file = self._file(name)
        file.current[offset] ^= bits
        file.durable = bytes(file.current)

    # --- operations ----------------------------------------------------------------------------------------------

    def _file(self, name: str) -> File:
        if name not in self.names:
            raise DiskError(f"{name} does not exist")
        return self.names[name]

    def _perform(self, operation: DiskOperation) -> None:
        self.performed.append(operation)
        error = self.refuse(operation)
        if error is not None:
            if isinstance(operation, SyncFile) and isinstance(error, DiskError):
                file = self._file(operation.name)
                file.poisoned = True
                file.dirty.clear()
            raise error
        match operation:
            case CreateFile(name, size):
                self._reserve(size)
                self.names[name] = File(bytearray(size), bytes(size))
            case WriteFile(name, offset, parts):
                self._write(name, offset, b"".join(parts))
            case SyncFile(name):
                self._writable(name).sync()
            case SyncDirectory():
                self.durable_names = dict(self.names)
            case RenameFile(old, new):
                self.names[new] = self._file(old)
                del self.names[old]
            case RemoveFile(name):
                self.names.pop(name, None)
            case TruncateFile(name, size):
                self._writable(name).resize(size)

    def _writable(self, name: str) -> File:
        file = self._file(name)
        if file.poisoned:
            raise DiskError(f"{name} cannot be used after a failed sync")
        return file

    def _write(self, name: str, offset: int, data: bytes) -> None:
        file = self._writable(name)
        growth = offset + len(data) - len(file.current)
        try:
            self._reserve(max(growth, 0))
        except DiskFullError:
            file.write(offset, data[: len(data) // 2])
            raise
        file.write(offset, data)

    def _reserve(self, growth: int) -> None:
        used = sum(len(file.current) for file in self.names.values())
        if self.capacity is not None and growth and used + growth > self.capacity:
            raise DiskFullError("the disk is full")
