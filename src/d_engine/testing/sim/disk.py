"""The simulated disk: the `Disk` port over a data directory, with latencies and deaths.

Each operation of a list is an event of its own if it takes time. A process that dies between two of them leaves the
list half done; one that dies within a write leaves a beginning of it in the cache. What operations do, and what
survives, is in `d_engine.testing.sim.directory`.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import TypeAlias

from d_engine.format.errors import DEngineError
from d_engine.format.ids import Nanoseconds
from d_engine.storage.disk import (
    CreateFile,
    DiskDone,
    DiskOperation,
    Lane,
    SyncDirectory,
    SyncFile,
    WriteFile,
)
from d_engine.testing.sim.directory import DataDirectory, DiskTrouble
from d_engine.testing.sim.events import MICROSECOND, EventQueue
from d_engine.testing.sim.trace import Trace


class ProcessDied(Exception):  # noqa: N818 - no error of the engine: the process ends here
    """Raised out of an operation at start-up when the process is to die in the middle of it."""


@dataclass(slots=True)
class DiskTiming:
    """How long things take. Syncs take `sync` and something on top, which is rarely much more."""

    write: Nanoseconds = 20 * MICROSECOND
    sync: Nanoseconds = 200 * MICROSECOND
    jitter: Nanoseconds = 100 * MICROSECOND


_Job: TypeAlias = tuple[Sequence[DiskOperation], DiskDone, Nanoseconds]


class SimDisk:
    """One machine's disk. It outlives processes. `died` is called when a process is to die of `die_after`."""

    def __init__(
        self, events: EventQueue, rng: Random, trace: Trace, timing: DiskTiming, died: Callable[[], None]
    ) -> None:
        self.directory = DataDirectory(rng, trace)
        self.timing = timing
        self.files = self.directory.files
        self.size = self.directory.size
        self.read = self.directory.read
        self._perform = self.directory.perform
        self._events = events
        self._rng = rng
        self._died = died
        self.late: Callable[[], Nanoseconds] = lambda: 0
        """How much later than now the process is that submits something."""
        self.tell: Callable[[DiskDone, DEngineError | None], None] = lambda done, error: done(error)
        """Hands an outcome to the process; one that stands still gets it when it goes on."""
        self._lanes: dict[Lane, deque[_Job]] = {lane: deque() for lane in Lane}
        self._life = 0
        self._writing: dict[Lane, WriteFile] = {}
        self._hung: list[tuple[Lane, int, int]] = []

    @property
    def trouble(self) -> DiskTrouble:
        """Faults in force, to be changed."""
        return self.directory.trouble

    def run(self, operations: Sequence[DiskOperation]) -> None:
        """At once, without time passing."""
        for operation in operations:
            if self._about_to_die():
                raise ProcessDied
            self._perform(operation)

    def submit(self, lane: Lane, operations: Sequence[DiskOperation], done: DiskDone) -> None:
        """Behind what waits in the lane."""
        jobs = self._lanes[lane]
        # Who was held up within this event submits it only when that is over.
        jobs.append((operations, done, self._events.now + self.late()))
        if len(jobs) == 1:
            self._next(lane, 0, self._life)

    # --- lanes ----------------------------------------------------------------------------------------------

    def _next(self, lane: Lane, position: int, life: int) -> None:
        """Begin the operation at `position` of the lane's first job."""
        if life != self._life:
            return
        operations, _, not_before = self._lanes[lane][0]
        if not_before > self._events.now:
            self._events.at(not_before, self._next, lane, position, life)
            return
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
        operations, done, _ = jobs[0]
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
        self.tell(done, error)

    def _about_to_die(self) -> bool:
        left = self.trouble.die_after
        if left is None:
            return False
        self.trouble.die_after = left - 1 if left else None
        return not left

    # --- what happens to machines ---------------------------------------------------------------------------

    def recover(self) -> None:
        """No trouble any more; what hung goes on."""
        self.directory.trouble = DiskTrouble()
        self.go_on()

    def go_on(self) -> None:
        """What hung goes on, unless the disk hangs."""
        if self.trouble.hanging:
            return
        hung, self._hung = self._hung, []
        for lane, position, life in hung:
            self._events.after(0, self._do, lane, position, life)

    def kill(self) -> None:
        """The process is gone; what it had written stays in the cache, a write under way as far as it had come."""
        self._life += 1
        for jobs in self._lanes.values():
            jobs.clear()
        self.trouble.die_after = None
        self.directory.opened.clear()
        writing, self._writing = self._writing, {}
        for operation in writing.values():
            self.directory.abandon(operation)

    def lose_power(self) -> None:
        """The cache is gone too. What is left is on the platter."""
        self.kill()
        self.directory.lose_power()

    def wipe(self) -> None:
        """Another disk, empty, takes its place."""
        self.kill()
        self.directory.wipe()

    def rot(self, flips: int) -> str:
        """See `DataDirectory.rot`."""
        return self.directory.rot(flips)
