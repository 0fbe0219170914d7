"""The log's outline: what is known of it without reading entries.

Indexes, terms as runs, the configurations in it, and the boundary in front of it. That is enough to say what a
snapshot at any index stands for, and to hand the log to the core after a restart.
"""

from bisect import bisect_right

from d_engine.format.configuration import Configuration, decode_configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.errors import InvariantViolation, check
from d_engine.format.ids import LogIndex, Term
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import TermRun
from d_engine.storage.records import EMPTY_CONFIGURATION


class Outline:
    """Entries `first_index`..`last_index` behind the boundary `base`."""

    def __init__(self) -> None:
        self.base: SnapshotMeta | None = None
        self.first_index: LogIndex = 1
        self.last_index: LogIndex = 0
        self.runs: list[TermRun] = []
        self.configurations: list[tuple[LogIndex, Configuration]] = []

    def add(self, entry: Entry) -> None:
        """The entry replaces those of its and higher index. Raises `MalformedError` for a bad configuration."""
        if entry.index <= self.last_index:
            self.cut(entry.index)
        if entry.index != self.last_index + 1:
            raise InvariantViolation(f"{entry!r} does not follow index {self.last_index}")
        if not self.runs or self.runs[-1].term != entry.term:
            self.runs.append(TermRun(entry.index, entry.term))
        if entry.kind is EntryKind.CONFIGURATION:
            self.configurations.append((entry.index, decode_configuration(entry.payload)))
        self.last_index = entry.index

    def cut(self, index: LogIndex) -> None:
        """Entries from `index` on are gone."""
        while self.runs and self.runs[-1].first_index >= index:
            self.runs.pop()
        while self.configurations and self.configurations[-1][0] >= index:
            self.configurations.pop()
        self.first_index = min(self.first_index, index)
        self.last_index = index - 1

    def compact(self, base: SnapshotMeta) -> None:
        """Entries up to the boundary's index are gone; it is not behind the last."""
        first = max(self.first_index, base.index + 1)
        place = bisect_right(self.runs, first, key=lambda run: run.first_index)
        if place:
            self.runs[: place - 1] = []
            self.runs[0] = TermRun(first, self.runs[0].term)
        if first > self.last_index:
            self.runs.clear()
        place = bisect_right(self.configurations, base.index, key=lambda item: item[0])
        self.configurations[:place] = []
        self.base, self.first_index = base, first

    def reset(self, base: SnapshotMeta) -> None:
        """The log is empty and begins behind the boundary."""
        self.base, self.first_index, self.last_index = base, base.index + 1, base.index
        self.runs.clear()
        self.configurations.clear()

    def boundary(self, index: LogIndex) -> SnapshotMeta:
        """What a snapshot at `index` stands for."""
        return SnapshotMeta(index, self._term_at(index), self._configuration_at(index))

    def _term_at(self, index: LogIndex) -> Term:
        if self.base is not None and self.base.index == index:
            return self.base.term
        check(self.first_index <= index <= self.last_index, f"index {index} is not in the log")
        return self.runs[bisect_right(self.runs, index, key=lambda run: run.first_index) - 1].term

    def _configuration_at(self, index: LogIndex) -> Configuration:
        place = bisect_right(self.configurations, index, key=lambda item: item[0])
        if place:
            return self.configurations[place - 1][1]
        return self.base.configuration if self.base is not None else EMPTY_CONFIGURATION
