"""A log storage of a few lines, for tests of the core: what was handed over, what is durable, what a crash leaves."""

from collections import deque
from dataclasses import dataclass

from d_engine.format.configuration import Configuration, decode_configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.ids import LogIndex, Term
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import HardState, RecoveredLog, TermRun
from d_engine.raft.effects import Persist


@dataclass
class _Operation:
    seq: int
    hard_state: HardState | None = None
    entries: tuple[Entry, ...] = ()
    reset: SnapshotMeta | None = None


class Image:
    """Hard state, snapshot and entries `first_index`.. at one moment."""

    def __init__(self) -> None:
        self.hard_state = HardState()
        self.snapshot: SnapshotMeta | None = None
        self.first_index: LogIndex = 1
        self.entries: list[Entry] = []

    @property
    def last_index(self) -> LogIndex:
        return self.first_index + len(self.entries) - 1

    def entry(self, index: LogIndex) -> Entry | None:
        place = index - self.first_index
        return self.entries[place] if 0 <= place < len(self.entries) else None

    def term_at(self, index: LogIndex) -> Term | None:
        entry = self.entry(index)
        if entry is not None:
            return entry.term
        if self.snapshot is not None and self.snapshot.index == index:
            return self.snapshot.term
        return 0 if index == 0 else None

    def perform(self, operation: _Operation) -> None:
        if operation.reset is not None:
            self.entries = []
            self.first_index = operation.reset.index + 1
        if operation.hard_state is not None:
            self.hard_state = operation.hard_state
        if operation.entries:
            first = operation.entries[0].index
            assert self.first_index <= first <= self.last_index + 1, "a gap in what is written"
            del self.entries[first - self.first_index :]
            self.entries.extend(operation.entries)

    def compact(self, index: LogIndex) -> None:
        count = index + 1 - self.first_index
        if count > 0:
            del self.entries[:count]
            self.first_index = index + 1


class ModelDisk:
    """Writes become durable one after the other, when the test says so. Snapshots are durable at once."""

    def __init__(self) -> None:
        self.durable = Image()
        self.handed = Image()
        self.pending: deque[_Operation] = deque()
        self.reads = 0

    def append(self, persist: Persist) -> None:
        self._hand(_Operation(persist.seq, persist.hard_state, persist.entries))

    def _hand(self, operation: _Operation) -> None:
        self.handed.perform(operation)
        self.pending.append(operation)

    def reset(self, meta: SnapshotMeta) -> None:
        self.save_snapshot(meta)
        self._hand(_Operation(-1, reset=meta))

    def save_snapshot(self, meta: SnapshotMeta) -> None:
        self.durable.snapshot = self.handed.snapshot = meta

    def compact(self, index: LogIndex) -> None:
        self.handed.compact(index)
        self.durable.compact(min(index, self.durable.last_index))

    def complete_next(self) -> int | None:
        """The next write becomes durable; returns its number."""
        while self.pending:
            operation = self.pending.popleft()
            self.durable.perform(operation)
            if operation.seq >= 0:
                return operation.seq
        return None

    def crash(self, survivors: int = 0) -> None:
        """Everything that is not durable is lost, but for the first few writes, which made it without a word."""
        for _ in range(min(survivors, len(self.pending))):
            self.durable.perform(self.pending.popleft())
        self.pending.clear()
        handed = Image()
        handed.hard_state, handed.snapshot = self.durable.hard_state, self.durable.snapshot
        handed.first_index, handed.entries = self.durable.first_index, list(self.durable.entries)
        self.handed = handed

    def read(self, first: LogIndex, max_bytes: int) -> list[Entry]:
        """As `LogStorage.read`."""
        self.reads += 1
        found: list[Entry] = []
        for entry in self.handed.entries[first - self.handed.first_index :]:
            if found and max_bytes < entry.size:
                break
            found.append(entry)
            max_bytes -= entry.size
        return found

    def recover(self, tail_entries: int = 1000) -> RecoveredLog:
        """As `LogStorage.recover`: a log that a durable snapshot has overtaken starts anew behind it."""
        image = self.durable
        snapshot = image.snapshot
        if snapshot is not None and image.first_index <= snapshot.index:
            entry = image.entry(snapshot.index)
            if entry is None or entry.term != snapshot.term:
                image.entries, image.first_index = [], snapshot.index + 1
        self.crash()
        runs: list[TermRun] = []
        configurations: list[tuple[LogIndex, Configuration]] = []
        for entry in image.entries:
            if not runs or runs[-1].term != entry.term:
                runs.append(TermRun(entry.index, entry.term))
            if entry.kind is EntryKind.CONFIGURATION:
                configurations.append((entry.index, decode_configuration(entry.payload)))
        return RecoveredLog(
            hard_state=image.hard_state,
            snapshot=snapshot,
            first_index=image.first_index,
            last_index=image.last_index,
            term_runs=tuple(runs),
            configurations=tuple(configurations),
            tail=tuple(image.entries[-tail_entries:]),
        )
