"""The oracle of what is on stable storage, read off the writes and syncs that a disk has seen.

It shares nothing with the storage engine but the format of a log's records (docs/design/formats.md): it finds them in
the bytes that are written, and takes them for durable when, and only when, the file was synced after that. So it knows
what a node may promise without asking the node.

A log is a sequence of records; what was written and not synced is a continuation of what was. A crash may leave any
beginning of that continuation, and nothing else: that is what recovery is held to.
"""

import struct
from dataclasses import dataclass, field, replace

from d_engine.format.entry import ENTRY_HEADER_BYTES
from d_engine.format.ids import LogIndex, NodeId, Term
from d_engine.format.state import HardState, RecoveredLog, TermRun
from d_engine.storage.quarantine import QUARANTINE_NAME
from d_engine.storage.records import FRAME_BYTES, RECORD_MAGIC, RecordType, decode_meta
from d_engine.testing.sim.violations import InvariantBroken

_FRAME = struct.Struct("<4sB3xI")
_HARD_STATE = struct.Struct("<QI")
_ENTRY_TERM_INDEX = struct.Struct("<QQ")
_ENTRY_CRC = struct.Struct("<I")


@dataclass(slots=True)
class LogState:
    """Term, vote, and of each entry behind `base` its term and checksum."""

    term: Term = 0
    vote: NodeId = 0
    base: LogIndex = 0
    base_term: Term = 0
    terms: list[Term] = field(default_factory=list)
    checksums: list[int] = field(default_factory=list)
    """0: unknown. A salvaged log may still have what stood before the place at which it was known to begin."""

    @property
    def last_index(self) -> LogIndex:
        """Of the last entry."""
        return self.base + len(self.terms)

    def term_at(self, index: LogIndex) -> Term | None:
        """The entry's term, if it is there."""
        place = index - self.base - 1
        if 0 <= place < len(self.terms):
            return self.terms[place]
        return self.base_term if place == -1 else None

    def checksum_at(self, index: LogIndex) -> int | None:
        """The entry's checksum, if it is there and known."""
        place = index - self.base - 1
        return self.checksums[place] or None if 0 <= place < len(self.checksums) else None

    def put(self, index: LogIndex, term: Term, checksum: int) -> None:
        """The entry; it replaces those of its and higher index."""
        place = index - self.base - 1
        if place < len(self.terms):
            del self.terms[place:], self.checksums[place:]
        if place != len(self.terms):
            raise InvariantBroken("I2", f"entry {index} is written behind entry {self.last_index}")
        self.terms.append(term)
        self.checksums.append(checksum)

    def compact(self, index: LogIndex, term: Term) -> None:
        """Entries up to `index` need not be there any more."""
        gone = index - self.base
        if gone > 0:
            del self.terms[:gone], self.checksums[:gone]
            self.base, self.base_term = index, term

    def reset(self, index: LogIndex, term: Term) -> None:
        """The log begins anew behind `index`."""
        self.terms, self.checksums = [], []
        self.base, self.base_term = index, term

    def copy(self) -> "LogState":
        """One that may be changed."""
        return LogState(self.term, self.vote, self.base, self.base_term, self.terms[:], self.checksums[:])

    def runs(self) -> tuple[TermRun, ...]:
        """The terms, as storage tells them."""
        found: list[TermRun] = []
        before = -1
        for place, term in enumerate(self.terms):
            if term != before:
                found.append(TermRun(self.base + 1 + place, term))
                before = term
        return tuple(found)

    def is_as_recovered(self, log: RecoveredLog) -> bool:
        """Whether recovery found this."""
        base = 0 if log.snapshot is None else log.snapshot.index
        return (
            log.last_index == self.last_index
            and log.hard_state == HardState(self.term, self.vote)
            and base == self.base
            and log.term_runs == self.runs()
            and all(self.checksum_at(entry.index) in (entry.checksum, None) for entry in log.tail)
        )

    def __str__(self) -> str:
        last = self.last_index
        return f"term {self.term}, vote {self.vote}, log {self.base + 1}..{last}@{self.term_at(last)}"


@dataclass(frozen=True, slots=True)
class Record:
    """One record found in what was written. `index` and `checksum` are an entry's or a boundary's, `value` a vote."""

    type: int
    term: Term
    index: LogIndex = 0
    value: int = 0

    def apply(self, state: LogState) -> None:
        """What the record does."""
        if self.type == RecordType.ENTRY:
            state.put(self.index, self.term, self.value)
        elif self.type == RecordType.HARD_STATE:
            state.term, state.vote = self.term, self.value
        elif self.type == RecordType.COMPACT:
            state.compact(self.index, self.term)
        elif self.type == RecordType.RESET:
            state.reset(self.index, self.term)


def find_records(data: bytes) -> list[Record]:
    """The complete records at the beginning of these bytes."""
    found: list[Record] = []
    place, end = 0, len(data)
    while end - place >= FRAME_BYTES:
        magic, kind, length = _FRAME.unpack_from(data, place)
        body = place + FRAME_BYTES
        if magic != RECORD_MAGIC or body + length > end:
            break
        if kind == RecordType.ENTRY:
            term, index = _ENTRY_TERM_INDEX.unpack_from(data, body + 8)
            found.append(
                Record(kind, term, index, _ENTRY_CRC.unpack_from(data, body + ENTRY_HEADER_BYTES - 4)[0])
            )
        elif kind == RecordType.HARD_STATE:
            term, vote = _HARD_STATE.unpack_from(data, body)
            found.append(Record(kind, term, 0, vote))
        elif kind in (RecordType.COMPACT, RecordType.RESET):
            meta = decode_meta(data[body : body + length])
            found.append(Record(kind, meta.term, meta.index))
        place = body + length
    return found


class DiskOracle:
    """Observes one disk. `durable` is what a node on it may promise."""

    def __init__(self, node: NodeId) -> None:
        self.durable = LogState()
        self._node = node
        self._pending: dict[str, list[Record]] = {}
        self._order: list[tuple[str, Record]] = []
        """By file: what the cache may show and the platter may lack."""
        self._survivors: list[Record] | None = None
        self._salvaged: HardState | None = None
        self._noted = HardState()
        """Term and vote that the record of a quarantine keeps while the log may lack them."""

    # --- what the disk tells ---

    def written(self, name: str, offset: int, data: bytes) -> None:
        """Bytes are in the cache."""
        records = find_records(data)
        if records:
            self._pending.setdefault(name, []).extend(records)
            self._order.extend((name, record) for record in records)

    def cut_short(self, name: str, data: bytes) -> None:
        """Some first bytes of this are in the cache. (Zeros stand there before, so that all of it may seem to be.)"""
        self._order.extend((name, record) for record in find_records(data))

    def synced(self, name: str) -> None:
        """And on the platter."""
        for record in self._pending.pop(name, ()):
            # What recovery writes once more, of a log that it cuts, is judged when it is done.
            if self._salvaged is None:
                record.apply(self.durable)
        self._order = [(file, record) for file, record in self._order if file != name]

    def sync_failed(self, name: str) -> None:
        """Never on the platter, unless they are written again."""
        self._pending.pop(name, None)

    def renamed(self, old: str, new: str) -> None:
        """The file has another name."""
        if old in self._pending:
            self._pending[new] = self._pending.pop(old)
            self._order = [(new if file == old else file, record) for file, record in self._order]

    def removed(self, name: str) -> None:
        """The file is gone."""
        if name == QUARANTINE_NAME:
            self._noted = HardState()
        if self._pending.pop(name, None) is not None:
            self._order = [(file, record) for file, record in self._order if file != name]

    @property
    def has_unsynced(self) -> bool:
        """Records were written that are not on the platter yet."""
        return bool(self._order)

    # --- what happens to the node ---

    def power_lost(self) -> None:
        """Any beginning of what was not synced may have survived, the rest is gone."""
        if self._survivors is None:
            self._survivors = [record for _, record in self._order]
        self._pending.clear()

    def wiped(self) -> None:
        """An empty disk."""
        self.durable = LogState()
        self._pending.clear()
        self._order.clear()
        self._survivors = self._salvaged = None
        self._noted = HardState()

    def salvaging(self, hard_state: HardState) -> None:
        """Recovery is about to use a part of a damaged log, which still told this term and vote. It may be interrupted
        and begin again."""
        newest = max(self._noted, hard_state, key=lambda state: (state.term, state.vote))
        self._salvaged = self._noted = newest

    def _check_salvaged(self, expected: "Expectation", log: RecoveredLog, told: HardState) -> None:
        """The part is a part of what was durable or may have survived, and the vote is not lost."""
        most = expected.durable.copy()
        for record in expected.records:
            record.apply(most)
        durable = expected.durable
        if (told.term, told.vote) < (durable.term, durable.vote):
            raise InvariantBroken("I8", f"node {self._node} recovers {told}; durable was {durable}")
        read = {entry.index: entry.checksum for entry in log.tail}
        part = LogState(told.term, told.vote)
        if log.snapshot is not None:
            part.base, part.base_term = log.snapshot.index, log.snapshot.term
        ends = [*(run.first_index for run in log.term_runs[1:]), log.last_index + 1]
        for run, end in zip(log.term_runs, ends, strict=False):
            for index in range(max(run.first_index, part.base + 1), end):
                known = durable if durable.term_at(index) == run.term else most
                # What stood there before it was replaced, by a record behind the damage, is known from nowhere else.
                replaced = known.term_at(index) != run.term
                checksum = read.get(index) if replaced else known.checksum_at(index)
                if checksum is None and index > known.base:
                    raise InvariantBroken(
                        "I5", f"node {self._node} recovers entry {index}@{run.term}; durable was {durable}"
                    )
                part.put(index, run.term, checksum or 0)
        self.durable = part
        self._salvaged = self._survivors = None
        self._order.clear()

    def recovering(self) -> "Expectation":
        """Before recovery begins: what it may find."""
        records = [record for _, record in self._order] if self._survivors is None else self._survivors
        return Expectation(self.durable.copy(), tuple(records))

    def check_recovered(self, expected: "Expectation", log: RecoveredLog) -> None:
        """Recovery found `log`. Raises `InvariantBroken`."""
        if self._salvaged is not None:
            self._check_salvaged(expected, log, self._salvaged)
            return
        newest = max(self._noted, log.hard_state, key=lambda state: (state.term, state.vote))
        log = replace(log, hard_state=newest)
        candidate = expected.durable.copy()
        matches = self._is_as_recovered(candidate, log)
        for record in expected.records:
            if matches:
                break
            record.apply(candidate)
            matches = self._is_as_recovered(candidate, log)
        if not matches:
            raise InvariantBroken(
                "I5",
                f"node {self._node} recovers {log.hard_state}, log {log.first_index}..{log.last_index}, runs "
                f"{log.term_runs}; durable was {expected.durable}, and at most {candidate}",
            )
        if self._survivors is not None:
            # After power loss what is read is what the platter holds.
            self.durable = candidate
        self._survivors = None
        self._order.clear()
        self._raise_to_noted(self.durable)
        if not self.durable.is_as_recovered(log):
            raise InvariantBroken(
                "I7",
                f"node {self._node} recovers {log.hard_state}, log ..{log.last_index}, but on the platter is "
                f"{self.durable}: what it read from the cache was not made durable",
            )

    def _is_as_recovered(self, state: LogState, log: RecoveredLog) -> bool:
        raised = state.copy()
        self._raise_to_noted(raised)
        return raised.is_as_recovered(log)

    def _raise_to_noted(self, state: LogState) -> None:
        """Whichever is newer counts: the log's term and vote, or those in the record of a quarantine."""
        if (self._noted.term, self._noted.vote) > (state.term, state.vote):
            state.term, state.vote = self._noted.term, self._noted.vote


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is durable, and of what records any beginning may be there too."""

    durable: LogState
    records: tuple[Record, ...]
