"""The engine that forgets: everything counts as durable at once and is gone with the process.

For tests, and for a state that may be lost as a whole. A node that restarts on it is a new node: its incarnation must
change, because it may have voted and acknowledged what it no longer knows.
"""

from collections import deque
from collections.abc import Callable, Sequence

from d_engine.format.entry import Entry
from d_engine.format.errors import DEngineError, DiskError, check
from d_engine.format.ids import LogIndex
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import HardState, RecoveredLog
from d_engine.storage.disk import (
    CreateFile,
    DiskDone,
    DiskOperation,
    Lane,
    RemoveFile,
    RenameFile,
    TruncateFile,
    WriteFile,
)


class MemoryStorage:
    """`LogStorage`. `call_soon` runs a function later, so that nobody is called back from within `append`."""

    full = False

    def __init__(self, call_soon: Callable[[Callable[[], None]], None]) -> None:
        self._call_soon = call_soon
        self._on_durable: Callable[[int], None] | None = None
        self._first_index: LogIndex = 1
        self._entries: list[Entry] = []
        self._untold = 0

    def recover(self) -> RecoveredLog:
        """Nothing."""
        return RecoveredLog()

    def start(
        self,
        on_durable: Callable[[int], None],
        on_failure: Callable[[DEngineError], None],
        on_full: Callable[[bool], None],
    ) -> None:
        """Memory neither fails nor is full."""
        self._on_durable = on_durable

    def append(self, seq: int, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Keep, and tell soon."""
        for entry in entries:
            place = entry.index - self._first_index
            check(0 <= place <= len(self._entries), f"{entry!r} leaves a gap")
            del self._entries[place:]
            self._entries.append(entry)
        if not self._untold:
            self._call_soon(self._tell)
        self._untold = seq

    def _tell(self) -> None:
        seq, self._untold = self._untold, 0
        if self._on_durable is not None:
            self._on_durable(seq)

    def read(self, first: LogIndex, max_bytes: int) -> Sequence[Entry]:
        """Entries from `first` on, at least one if there is one, up to about `max_bytes`."""
        check(first >= self._first_index, f"entry {first} was compacted")
        start = end = first - self._first_index
        while end < len(self._entries) and (end == start or max_bytes >= self._entries[end].size):
            max_bytes -= self._entries[end].size
            end += 1
        return self._entries[start:end]

    def compact(self, index: LogIndex) -> None:
        """Entries up to `index` are forgotten."""
        gone = index + 1 - self._first_index
        if gone > 0:
            check(gone <= len(self._entries), f"there is no entry {index}")
            del self._entries[:gone]
            self._first_index = index + 1

    def reset(self, snapshot: SnapshotMeta) -> None:
        """The log starts anew."""
        self._entries.clear()
        self._first_index = snapshot.index + 1

    def retry(self) -> None:
        """There is always room."""

    def close(self) -> None:
        """Nobody is told any more."""
        self._on_durable = None


class MemoryDisk:
    """A `Disk` for the snapshots of a node whose log is in memory: the log must be cut all the same."""

    def __init__(self, call_soon: Callable[[Callable[[], None]], None]) -> None:
        self._call_soon = call_soon
        self._files: dict[str, bytearray] = {}
        self._done: deque[DiskDone] = deque()

    def files(self) -> list[str]:
        """All names."""
        return list(self._files)

    def size(self, name: str) -> int:
        """Bytes."""
        return len(self._file(name))

    def read(self, name: str, offset: int, size: int) -> bytes:
        """As far as the file reaches."""
        return bytes(memoryview(self._file(name))[offset : offset + size])

    def run(self, operations: Sequence[DiskOperation]) -> None:
        """Nothing needs a sync here."""
        for operation in operations:
            match operation:
                case CreateFile(name, size):
                    self._files[name] = bytearray(size)
                case WriteFile(name, offset, parts):
                    data, file = b"".join(parts), self._file(name)
                    file.extend(bytes(max(offset - len(file), 0)))
                    file[offset : offset + len(data)] = data
                case RenameFile(old, new):
                    self._files[new] = self._file(old)
                    del self._files[old]
                case RemoveFile(name):
                    self._files.pop(name, None)
                case TruncateFile(name, size):
                    file = self._file(name)
                    file[size:] = bytes(max(size - len(file), 0))

    def submit(self, lane: Lane, operations: Sequence[DiskOperation], done: DiskDone) -> None:
        """Performed at once, told soon."""
        self.run(operations)
        self._done.append(done)
        self._call_soon(self._tell)

    def _tell(self) -> None:
        self._done.popleft()(None)

    def _file(self, name: str) -> bytearray:
        if name not in self._files:
            raise DiskError(f"there is no file {name}")
        return self._files[name]
