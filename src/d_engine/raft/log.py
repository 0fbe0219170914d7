"""The log as the core sees it: indices, terms, configurations and a tail of entries (Raft, 5.3; compaction: 7).

Four marks run along it, and each has one meaning:

* `handed_index`: storage was given everything up to here. What is behind it exists only in memory.
* `durable_index`: stable storage has everything up to here. It falls when a suffix is cut off.
* `commit_index`: a majority has it; it never changes again. Nothing at or below it is ever cut off: doing so would
  mean that two leaders disagree about a committed entry, and the core stops (`InvariantViolation`).
* `applied_index`: the state machine has it.

On a follower `commit_index` may be ahead of `durable_index`: a majority elsewhere has the entry.

A configuration takes effect when its entry is appended and is rolled back when the entry is cut off (dissertation,
4.1), so the log keeps the configurations of all its entries.
"""

from collections.abc import Callable, Sequence
from typing import TypeAlias

from d_engine.format.configuration import Configuration, decode_configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.errors import InvariantViolation, check
from d_engine.format.ids import LogIndex, Term
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import RecoveredLog, TermRun
from d_engine.raft.entry_cache import EntryCache
from d_engine.raft.term_runs import TermRuns

Reader: TypeAlias = Callable[[LogIndex, int], Sequence[Entry]]
"""`(first, max_bytes)` -> entries from `first` on, as storage was given them."""


class RaftLog:
    """The log of one node. It performs no input or output, except that `reader` fetches entries that left memory."""

    __slots__ = (
        "_cache",
        "_configurations",
        "_reader",
        "_terms",
        "applied_index",
        "commit_index",
        "configuration",
        "configuration_index",
        "durable_index",
        "first_index",
        "handed_index",
        "last_index",
        "quarantine",
        "quarantine_saved",
        "snapshot",
    )

    def __init__(
        self, recovered: RecoveredLog, fallback: Configuration, reader: Reader, cache_bytes: int
    ) -> None:
        snapshot = recovered.snapshot
        start = snapshot.index if snapshot is not None else 0
        first, last = recovered.first_index, recovered.last_index
        check(
            first <= start + 1 and last >= max(first - 1, start),
            f"a gap between snapshot {start} and {first}",
        )
        self._reader = reader
        self.snapshot = snapshot
        self.quarantine = recovered.quarantine
        """Set while this log may lack what it once held (`d_engine.raft.isolation`)."""
        self.quarantine_saved = True
        """The record is on stable storage."""
        self.first_index = first
        self.last_index = self.handed_index = self.durable_index = last
        self.commit_index = self.applied_index = start
        runs = recovered.term_runs
        if snapshot is not None and first == start + 1:
            follows = bool(runs) and runs[0].term == snapshot.term
            runs = (TermRun(start, snapshot.term), *(runs[1:] if follows else runs))
        self._terms = TermRuns(runs)
        base = fallback if snapshot is None else snapshot.configuration
        self._configurations = [(start, base)]
        self._configurations += [pair for pair in recovered.configurations if pair[0] > start]
        self.configuration: Configuration
        """The one in force: the newest in the log, committed or not. Looked at many times a turn."""
        self.configuration_index: LogIndex
        """Where it stands; 0 for the bootstrap configuration."""
        self._put_in_force()
        tail = recovered.tail
        self._cache = EntryCache(last + 1 - len(tail), cache_bytes)
        for entry in tail:
            self._cache.append(entry)
        check(self._cache.next_index == last + 1, f"the recovered tail does not end with index {last}")

    # --- terms -------------------------------------------------------------------------------------------------------

    @property
    def last_term(self) -> Term:
        """The last entry's term; 0 for an empty log."""
        term = self.term_at(self.last_index)
        return 0 if term is None else term

    def term_at(self, index: LogIndex) -> Term | None:
        """The term of the entry, if the log or its snapshot knows it. Index 0 stands before every log, with term 0."""
        if index == 0:
            return 0
        if index > self.last_index:
            return None
        return self._terms.at(index)

    def is_up_to_date(self, last_index: LogIndex, last_term: Term) -> bool:
        """True if a log that ends there is at least as up-to-date as this one (Raft, 5.4.1)."""
        own_term = self.last_term
        return last_term > own_term or (last_term == own_term and last_index >= self.last_index)

    def last_not_above(self, term: Term, limit: LogIndex) -> LogIndex:
        """The last index up to `limit` (and this log's end) whose term is not above `term`, or 0."""
        return self._terms.last_not_above(term, min(limit, self.last_index))

    # --- entries -----------------------------------------------------------------------------------------------------

    def append(self, entry: Entry) -> None:
        """One more entry. A configuration takes effect."""
        if entry.index != self.last_index + 1:
            raise InvariantViolation(f"entry {entry.index} does not follow index {self.last_index}")
        self._terms.append(entry.index, entry.term)
        self._cache.append(entry)
        self.last_index = entry.index
        if entry.kind is EntryKind.CONFIGURATION:
            self._configurations.append((entry.index, decode_configuration(entry.payload)))
            self._put_in_force()

    def truncate(self, first: LogIndex) -> None:
        """Cut off everything from `first` on. Configurations are rolled back."""
        check(
            first > self.commit_index,
            f"index {first} would be cut off, but everything up to {self.commit_index} is committed",
        )
        self._terms.truncate(first)
        self._cache.truncate(first)
        while self._configurations[-1][0] >= first:
            self._configurations.pop()
        self._put_in_force()
        self.last_index = first - 1
        self.handed_index = min(self.handed_index, first - 1)
        self.durable_index = min(self.durable_index, first - 1)

    def slice(self, first: LogIndex, last: LogIndex, max_bytes: int) -> tuple[Entry, ...]:
        """Entries from `first` up to `last`, at least one, up to about `max_bytes`, from memory or storage."""
        if not self.first_index <= first <= last <= self.last_index:
            raise InvariantViolation(f"entries {first}..{last} are not in the log")
        if first >= self._cache.first_index:
            return self._cache.slice(first, last, max_bytes)
        # Storage may still hold a suffix that was cut off and whose successor it was not given yet.
        last = min(last, self.handed_index)
        found = tuple(entry for entry in self._reader(first, max_bytes) if entry.index <= last)
        check(found and found[0].index == first, f"storage did not return entry {first}")
        return found

    def take_unsaved(self) -> tuple[Entry, ...]:
        """The entries that storage was not given yet; from now on it counts as given."""
        first = self.handed_index + 1
        if first > self.last_index:
            return ()
        entries = self._cache.slice(first, self.last_index, self._cache.size)
        self.handed_index = self.last_index
        self._cache.shrink(self.handed_index)
        return entries

    # --- configurations ----------------------------------------------------------------------------------------------

    def _put_in_force(self) -> None:
        self.configuration_index, self.configuration = self._configurations[-1]

    @property
    def committed_configuration(self) -> Configuration:
        """The newest that can no longer be rolled back. It is the one in force or the one before: nobody appends a
        configuration before the one before it is committed. (So a node that restarts knows it at once.)"""
        index, newest = self._configurations[-1]
        return newest if index <= self.commit_index else self._configurations[-2][1]

    def configuration_at(self, index: LogIndex) -> Configuration:
        """The configuration that was in force at `index`, which is not before the newest snapshot's."""
        for place, configuration in reversed(self._configurations):
            if place <= index:
                return configuration
        return self._configurations[0][1]

    # --- snapshots ---------------------------------------------------------------------------------------------------

    def snapshot_taken(self, meta: SnapshotMeta) -> None:
        """A snapshot of this node's own state is durable. The entries stay until `compact`."""
        if self.snapshot is None or meta.index > self.snapshot.index:
            check(
                meta.index <= self.applied_index, f"a snapshot of {meta.index} is ahead of what was applied"
            )
            self.snapshot = meta

    def compact(self, index: LogIndex) -> None:
        """Entries up to `index`, for which a durable snapshot stands, are gone."""
        if index < self.first_index:
            return
        stands = 0 if self.snapshot is None else self.snapshot.index
        check(index <= stands, f"entries up to {index} are gone, but the snapshot stands for {stands}")
        self.first_index = index + 1
        self._terms.compact(index)
        self._cache.drop_before(index + 1)
        while len(self._configurations) > 1 and self._configurations[1][0] <= index:
            del self._configurations[0]

    def reset(self, meta: SnapshotMeta) -> None:
        """The log starts anew behind a snapshot that came from a peer."""
        self.snapshot = meta
        self.first_index = meta.index + 1
        self.last_index = self.handed_index = meta.index
        self.commit_index = self.applied_index = meta.index
        self.durable_index = 0
        self._terms = TermRuns((TermRun(meta.index, meta.term),))
        self._cache.clear(meta.index + 1)
        self._configurations = [(meta.index, meta.configuration)]
        self._put_in_force()
