"""All that was ever written, each revision as the first node that applied it did: what watches are held against (I10).

It is built from the nodes' own event histories. Of what a write says was there before, the chronicle knows better: the
entry that it saw there last. That revisions have no gaps is for the clients' checkers to say (I6).
"""

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, field

from d_engine.client.feed import WatchBatch
from d_engine.kv.events import Event, Removed, Write
from d_engine.kv.history import RUN_BYTES, WRITE_BYTES
from d_engine.kv.key_value import KeyValue
from d_engine.kv.watching import Selection
from d_engine.testing.checkers.violation import Violation
from d_engine.testing.checkers.watches import check_watch
from d_engine.testing.sim.violations import InvariantBroken


@dataclass(slots=True, eq=False)
class WatchRecord:
    """What one watch was told, over all its resumptions. `after`: from behind where; None: it has not begun."""

    selection: Selection
    after: int | None
    told: list[WatchBatch] = field(default_factory=list)


class Chronicle:
    """Grows by whole batches that were applied."""

    def __init__(self) -> None:
        self.writes: list[Write] = []
        self.newest = 0
        self._entries: dict[bytes, KeyValue] = {}
        self._lasts: list[int] = []
        """The last revision of each batch, and how much all batches before it weigh, at most."""
        self._weights: list[int] = []
        self._weight = 0

    def applied(self, writes: Sequence[Write], revision: int, command_bytes: int, who: int) -> None:
        """A node applied a batch of commands, and is at this revision now. Only the first one's word is kept."""
        if revision <= self.newest:
            return
        self._weights.append(self._weight)
        self._lasts.append(revision)
        self._weight += RUN_BYTES + command_bytes
        at = self.newest
        for write in writes:
            entry, before = write
            if entry.mod_revision < at or entry.mod_revision <= self.newest:
                raise InvariantBroken("I10", f"node {who} notes {write} after revision {at}")
            at = entry.mod_revision
            if before != self._entries.get(entry.key):
                raise InvariantBroken(
                    "I10", f"node {who} notes {write}; before it was {self._entries.get(entry.key)}"
                )
            self._weight += WRITE_BYTES + (0 if before is None else len(before.value))
            if isinstance(entry, Removed):
                self._entries.pop(entry.key, None)
            else:
                self._entries[entry.key] = entry
        if at > revision:
            raise InvariantBroken("I10", f"node {who} is at revision {revision}, and notes writes up to {at}")
        self.writes.extend(writes)
        self.newest = revision

    def weight_behind(self, revision: int) -> int:
        """What a history must at least be able to hold to have all events behind this revision, at most."""
        at = bisect_right(self._lasts, revision)
        return self._weight - self._weights[at] if at < len(self._weights) else 0

    def check(self, record: WatchRecord) -> tuple[Violation, ...]:
        """Everything that the watch was told."""
        if record.after is None:
            return ()
        selection = record.selection
        writes = [write for write in self.writes if selection.has(write[0].key) and selection.wants(write)]
        written: list[Event] = [_event(write, selection.previous) for write in writes]
        return check_watch(written, record.told, lambda event: True, record.after)


def _event(write: Write, previous: bool) -> Event:
    """What a watcher is to be told of it; made here, not by the code that is tested."""
    entry, before = write
    known = before if previous else None
    if isinstance(entry, Removed):
        return Event(entry.key, None, entry.cause, entry.mod_revision, previous=known)
    return Event(
        entry.key,
        entry.value,
        "put",
        entry.mod_revision,
        entry.create_revision,
        entry.version,
        entry.lease,
        known,
    )
