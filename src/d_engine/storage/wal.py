"""The write-ahead log: the engine that keeps a node's promises over crashes.

Group commit: one write is outstanding at any time, a vectored write and its sync. Whatever is handed over meanwhile
goes out with the next one. A node that one caller uses syncs once per command, one that a thousand use once per
thousand, and nobody waits for a timer.

Everything is known twice until it is durable: as handed over (`Outline`, and the entries themselves), which is what
the core sees, and as written (`Written`), which changes only when a sync has come back. So a write for which there
was no room leaves nothing to undo but its bytes: they are cut off, synced, and the records wait for another attempt.

After a write or a sync has failed otherwise, nothing is written any more: what the disk holds is unknown until a new
process has read it back (see `d_engine.storage.recovery`).
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from d_engine.format.entry import Entry
from d_engine.format.errors import ConfigError, DEngineError, DiskFullError, check
from d_engine.format.ids import LogIndex
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import HardState, RecoveredLog
from d_engine.storage.batch import (
    Batch,
    Item,
    Record,
    Written,
    boundary_record,
    entry_record,
    hard_state_record,
)
from d_engine.storage.disk import (
    Disk,
    DiskOperation,
    Lane,
    RemoveFile,
    SyncDirectory,
    SyncFile,
    TruncateFile,
    WriteFile,
)
from d_engine.storage.outline import Outline
from d_engine.storage.reader import read_entries
from d_engine.storage.records import Head, RecordType
from d_engine.storage.retirement import Retirement
from d_engine.storage.salvage import Repair, recover_or_salvage
from d_engine.storage.segment import MAX_SEGMENT_BYTES, MIN_SEGMENT_BYTES, Segments
from d_engine.storage.spare import Spare

SEGMENT_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class _Listeners:
    durable: Callable[[int], None]
    failure: Callable[[DEngineError], None]
    full: Callable[[bool], None]


class WalStorage:
    """`LogStorage` over a `Disk`. `seed` is the data directory's own random number: its incarnation."""

    def __init__(self, disk: Disk, seed: int, segment_bytes: int = SEGMENT_BYTES) -> None:
        if not MIN_SEGMENT_BYTES <= segment_bytes <= MAX_SEGMENT_BYTES:
            raise ConfigError(
                f"a log segment cannot have {segment_bytes} bytes: {MIN_SEGMENT_BYTES} to {MAX_SEGMENT_BYTES}"
            )
        self._disk = disk
        self._outline = Outline()
        self._written = Written(Segments(), Head(HardState(), 0, None), 0, 0)
        self._spare = Spare(disk, seed, segment_bytes)
        self._retirement = Retirement(disk)
        self._pending: deque[Item] = deque()
        self._recent: dict[LogIndex, Entry] = {}
        """The newest entries, those that are not durable yet."""
        self._listeners: _Listeners | None = None
        """None before the start, and after the end or a failure."""
        self._outstanding = False
        self._no_room = False
        self._told_full = False

    @property
    def full(self) -> bool:
        """True while there is no room for more commands. What is handed over all the same is written if it fits."""
        return self._no_room or self._spare.full

    # --- start and end -------------------------------------------------------------------------------------------

    def recover(self) -> RecoveredLog:
        """Repair what a crash may leave, and return what is durable. Raises `CorruptionError`, `UnknownFormatError`,
        or what the disk raises."""
        return self.recover_part(None)

    def recover_part(self, repair: Repair | None) -> RecoveredLog:
        """The same, and of a damaged log the good beginning if `repair` agrees."""
        recovery = recover_or_salvage(self._disk, repair)
        self._outline = recovery.outline
        self._spare.segment = recovery.spare
        head = Head(recovery.hard_state, recovery.outline.last_index, recovery.outline.base)
        self._written = Written(recovery.segments, head, recovery.batch, recovery.hard_states)
        if not recovery.segments:
            recovery.segments.begin(self._spare.make_first())
        return recovery.log

    def start(
        self,
        on_durable: Callable[[int], None],
        on_failure: Callable[[DEngineError], None],
        on_full: Callable[[bool], None],
    ) -> None:
        """From now on what is handed over is written, and these are told."""
        self._listeners = _Listeners(on_durable, on_failure, on_full)
        self._retirement.begin(self._written.segments, self._on_removed)

    def close(self) -> None:
        """Nothing is begun and nobody is told any more."""
        self._listeners = None

    # --- what the core hands over and asks for -------------------------------------------------------------------

    def append(self, seq: int, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        """Hand over; `seq` is told when all of it, and all before it, is durable."""
        if hard_state is not None:
            self._pending.append(hard_state_record(hard_state))
        outline, recent = self._outline, self._recent
        for entry in entries:
            if entry.index <= outline.last_index:
                check(entry.index >= outline.first_index, "an entry replaces what a snapshot stands for")
                for index in range(entry.index, outline.last_index + 1):
                    recent.pop(index, None)
            outline.add(entry)
            recent[entry.index] = entry
            self._pending.append(entry_record(entry))
        self._pending.append(seq)
        self.retry()

    def compact(self, index: LogIndex) -> None:
        """Entries up to `index` may go."""
        if index < self._outline.first_index:
            return
        base = self._outline.boundary(index)
        for gone in range(max(self._outline.first_index, self._settled_index + 1), index + 1):
            del self._recent[gone]
        self._outline.compact(base)
        self._pending.append(boundary_record(RecordType.COMPACT, base))
        self.retry()

    def reset(self, snapshot: SnapshotMeta) -> None:
        """The log starts anew behind this snapshot."""
        self._outline.reset(snapshot)
        self._recent.clear()
        self._pending.append(boundary_record(RecordType.RESET, snapshot))
        self.retry()

    def retry(self) -> None:
        """While `full`: look whether there is room again. Harmless at any time."""
        self._write()
        active = self._written.segments.active
        if self._listeners is not None and not active.empty and 2 * active.end >= active.size:
            self._spare.make(active.number + 1, 0, self._on_spare)

    def read(self, first: LogIndex, max_bytes: int) -> Sequence[Entry]:
        """Entries from `first` on, at least one if there is one, up to about `max_bytes`."""
        check(first >= self._outline.first_index, f"entry {first} was compacted")
        entries: list[Entry] = []
        settled = self._settled_index
        while first <= self._outline.last_index and (not entries or max_bytes > 0):
            if first > settled:
                found = [self._recent[first]]
            else:
                segment = self._written.segments.find(first)
                found = read_entries(self._disk, segment, first, settled, max_bytes)
            entries += found
            max_bytes -= sum(entry.size for entry in found)
            first += len(found)
        return entries

    @property
    def _settled_index(self) -> LogIndex:
        """Entries up to here are read from the disk, those behind it are still in memory."""
        return self._outline.last_index - len(self._recent)

    # --- writing -------------------------------------------------------------------------------------------------

    def _write(self) -> None:
        """Begin the next write, unless one is outstanding or nothing is pending."""
        if self._outstanding or not self._pending or self._listeners is None:
            return
        first = next((item for item in self._pending if isinstance(item, Record)), None)
        if first is not None and not self._written.has_room(first) and not self._roll(first):
            return
        batch = self._written.frame(self._pending)
        name = self._written.segments.active.name
        self._outstanding = True
        operations = (WriteFile(name, batch.start, batch.parts), SyncFile(name)) if batch.parts else ()
        self._disk.submit(Lane.LOG, operations, partial(self._on_written, batch))

    def _roll(self, first: Record) -> bool:
        """Go on in the spare segment; False if there is none yet that has room for the record."""
        active = self._written.segments.active
        number = active.number if active.empty else active.number + 1
        least = self._written.least_bytes(first)
        spare = self._spare.take(number, least)
        if spare is None:
            self._spare.make(number, least, self._on_spare)
            return False
        self._written.segments.begin(spare)
        return True

    def _on_written(self, batch: Batch, error: DEngineError | None) -> None:
        if self._listeners is None:
            return
        if isinstance(error, DiskFullError):
            self._cut_back(batch)
            return
        if error is not None:
            self._fail(error)
            return
        self._outstanding = False
        self._no_room = False
        self._written.settle(batch)
        for item in batch.items:
            if isinstance(item, Record) and isinstance(item.subject, Entry):
                if self._recent.get(item.subject.index) is item.subject:
                    del self._recent[item.subject.index]
        # The disk is put to work again before anybody hears of what it has done.
        self.retry()
        self._retirement.begin(self._written.segments, self._on_removed)
        self._tell_full()
        if batch.seq and self._listeners is not None:
            self._listeners.durable(batch.seq)

    def _cut_back(self, batch: Batch) -> None:
        """There was no room: remove what may have been written of the batch before anything else is tried."""
        active = self._written.segments.active
        self._pending.extendleft(reversed(batch.items))
        operations: tuple[DiskOperation, ...] = (
            TruncateFile(active.name, batch.start),
            TruncateFile(active.name, active.size),
            SyncFile(active.name),
        )
        if active.empty:
            # If a crash left only its header, recovery would take it for a segment that has lost its records.
            operations = (RemoveFile(active.name), SyncDirectory())
            active.abandon()

        def done(error: DEngineError | None) -> None:
            if error is not None:
                self._fail(error)
                return
            self._outstanding = False
            self._no_room = True
            self._tell_full()

        self._disk.submit(Lane.LOG, operations, done)

    def _fail(self, error: DEngineError) -> None:
        listeners, self._listeners = self._listeners, None
        if listeners is not None:
            listeners.failure(error)

    def _tell_full(self) -> None:
        if self._listeners is not None and self._told_full != self.full:
            self._told_full = self.full
            self._listeners.full(self.full)

    # --- segments ------------------------------------------------------------------------------------------------

    def _on_spare(self, error: DEngineError | None) -> None:
        if error is not None and not isinstance(error, DiskFullError):
            self._fail(error)
            return
        self._tell_full()
        if error is None:
            self._write()

    def _on_removed(self, error: DEngineError | None) -> None:
        if error is not None and not isinstance(error, DiskFullError):
            self._fail(error)
        elif error is None and self._listeners is not None:
            self._retirement.begin(self._written.segments, self._on_removed)
            self.retry()
