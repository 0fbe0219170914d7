"""The port through which storage reaches a disk. `d_engine.runtime` has the real one, `d_engine.testing` a simulated
one.

All names are of files in one flat directory, the node's data directory. Changes are lists of operations that the disk
performs in order; the first failure ends the list. Two lanes work independently of each other, each on one list at a
time, in the order of submission: the log's, and one for work that may take its time (filling segments, snapshots).
Operations of the two lanes never name the same file at the same time.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol, TypeAlias

from d_engine.format.errors import DEngineError


class Lane(Enum):
    """Which queue a list of operations waits in."""

    LOG = "log"
    BACKGROUND = "background"


@dataclass(frozen=True, slots=True)
class CreateFile:
    """Make a file of `size` zero bytes, written out for real and synced (not only allocated)."""

    name: str
    size: int


@dataclass(frozen=True, slots=True)
class WriteFile:
    """Write the parts one behind the other from `offset`. The file exists. One vectored write where the disk can."""

    name: str
    offset: int
    parts: Sequence[bytes]


@dataclass(frozen=True, slots=True)
class SyncFile:
    """fdatasync. After a failure the file's content is uncertain for ever, whatever a second sync says."""

    name: str


@dataclass(frozen=True, slots=True)
class SyncDirectory:
    """Make creations, renames and removals durable."""


@dataclass(frozen=True, slots=True)
class RenameFile:
    """Atomic replacement of `new` by `old`."""

    old: str
    new: str


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """Remove; an absent file is not an error."""

    name: str


@dataclass(frozen=True, slots=True)
class TruncateFile:
    """Cut or extend (with zeros) to `size`."""

    name: str
    size: int


DiskOperation: TypeAlias = (
    CreateFile | WriteFile | SyncFile | SyncDirectory | RenameFile | RemoveFile | TruncateFile
)
DiskDone: TypeAlias = Callable[[DEngineError | None], None]


class Disk(Protocol):
    """One data directory. Failures are `DiskError`, or `DiskFullError` when there was no room.

    `submit` returns at once; `done` is called later, never from within `submit`, on the thread (or in the simulated
    event) that drives the replica. `run` performs the operations before it returns: for start-up, where nothing waits.
    """

    def files(self) -> list[str]: ...

    def size(self, name: str) -> int: ...

    def read(self, name: str, offset: int, size: int) -> bytes: ...

    def run(self, operations: Sequence[DiskOperation]) -> None: ...

    def submit(self, lane: Lane, operations: Sequence[DiskOperation], done: DiskDone) -> None: ...
