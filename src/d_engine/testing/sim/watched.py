"""Storage and state machine as the replica gets them: the real ones, with the oracles looking on."""

import struct
from collections.abc import Callable, Generator, Iterator, Sequence
from itertools import pairwise

import crc32c

from d_engine.format.entry import Entry
from d_engine.format.errors import DEngineError, SnapshotError
from d_engine.format.ids import LogIndex, Nanoseconds
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import HardState, RecoveredLog
from d_engine.format.state_machine import (
    ApplyContext,
    GradualStateMachine,
    Replacement,
    StateMachine,
    TimedStateMachine,
    at_once,
    no_log_time,
)
from d_engine.kv.commands import encode_put
from d_engine.kv.history import History, Watchable
from d_engine.storage.api import LogStorage, RepairableStorage
from d_engine.storage.salvage import Damage, Repair
from d_engine.testing.sim.chronicle import Chronicle
from d_engine.testing.sim.safety import NodeRecord, Safety
from d_engine.testing.sim.tenure import Tenure
from d_engine.testing.sim.violations import InvariantBroken

_PLACE = struct.Struct("<QQQ")
_SNAPSHOT_HEAD = struct.Struct("<QQIB")
_PIECE_BYTES = 1000
"""Small, so that small states have many pieces."""


class WatchedStorage:
    """A `LogStorage`: what recovery found is compared with the disk, what is handed over with all other logs."""

    def __init__(
        self,
        storage: LogStorage,
        safety: Safety,
        record: NodeRecord,
        count: Callable[[str], None],
        made: Callable[[Sequence[Entry]], None],
    ) -> None:
        """`made` is told what is handed over."""
        self._made = made
        self._storage = storage
        self._count = count
        self._safety = safety
        self._record = record

    @property
    def full(self) -> bool:
        return self._storage.full

    def recover(self) -> RecoveredLog:
        return self._watch(self._storage.recover)

    def recover_part(self, repair: Repair) -> RecoveredLog:
        oracle = self._record.oracle

        def watched(damage: Damage) -> None:
            repair(damage)
            self._count("quarantine: the good part of a damaged log is used")
            self._safety.majorities.damaged = True
            oracle.salvaging(damage.hard_state or HardState())

        storage = self._storage
        if not isinstance(storage, RepairableStorage):
            return self.recover()
        return self._watch(lambda: storage.recover_part(watched))

    def _watch(self, recover: Callable[[], RecoveredLog]) -> RecoveredLog:
        oracle = self._record.oracle
        expected = oracle.recovering()
        log = recover()
        oracle.check_recovered(expected, log)
        self._record.log = oracle.durable.copy()
        known = self._record.configurations = list(log.configurations)
        if log.snapshot is not None:
            known.insert(0, (log.snapshot.index, log.snapshot.configuration))
        for (_, before), (_, after) in pairwise(known):
            self._safety.majorities.check_succession(before, after)
        return log

    def start(
        self,
        on_durable: Callable[[int], None],
        on_failure: Callable[[DEngineError], None],
        on_full: Callable[[bool], None],
    ) -> None:
        self._storage.start(on_durable, on_failure, on_full)

    def append(self, seq: int, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        self._safety.handed_over(self._record, tuple(entries))
        self._made(entries)
        self._storage.append(seq, hard_state, entries)

    def read(self, first: LogIndex, max_bytes: int) -> Sequence[Entry]:
        entries = self._storage.read(first, max_bytes)
        for entry in entries:
            expected = self._record.log.checksum_at(entry.index)
            if expected not in (entry.checksum, None):
                raise InvariantBroken(
                    "I13", f"node {self._record.node} reads back {entry!r}, which it did not write"
                )
        return entries

    def compact(self, index: LogIndex) -> None:
        self._count("snapshot: log cut")
        sightings = self._safety.sightings
        sightings.newest_snapshot = max(sightings.newest_snapshot, index)
        self._storage.compact(index)

    def reset(self, snapshot: SnapshotMeta) -> None:
        self._count("snapshot: log begun anew")
        self._safety.sightings.begun_anew(self._record)
        self._record.log.reset(snapshot.index, snapshot.term)
        self._record.configurations = [(snapshot.index, snapshot.configuration)]
        self._storage.reset(snapshot)

    def retry(self) -> None:
        self._storage.retry()

    def close(self) -> None:
        self._storage.close()


class Ledger:
    """What the state machines of all nodes did at each place of the log, as one rolling checksum that begins with the
    first command ever: equal here is equal in all that came before."""

    def __init__(self) -> None:
        self._rolling: dict[tuple[LogIndex, int], int] = {}

    def applied(self, place: tuple[LogIndex, int], rolling: int, who: int) -> None:
        """A node applied a group."""
        known = self._rolling.setdefault(place, rolling)
        if known != rolling:
            raise InvariantBroken(
                "I4",
                f"node {who} applied something else than others up to index {place[0]} (group {place[1]} of it)",
            )


class WatchedMachine:
    """A `StateMachine` whose every step is compared with the other nodes'."""

    def __init__(
        self,
        machine: StateMachine,
        ledger: Ledger,
        tenure: Tenure,
        chronicle: Chronicle,
        who: int,
        count: Callable[[str], None],
    ) -> None:
        self.history: History
        if isinstance(machine, Watchable):
            self.history = machine.history
        self.born = 0
        """The revision of the state that was restored last."""
        self._chronicle = chronicle
        self._tenure = tenure
        self._count = count
        self.rolling = 0
        self.inner = machine
        self.diverged = False
        """Damage was planted: what this one does is no measure, until it is restored from one that is sound."""
        self._context: ApplyContext | None = None
        self._ledger = ledger
        self._who = who
        self._place: tuple[LogIndex, int] = (0, 0)
        self.query = machine.query
        self.digest = machine.digest
        self._timed = machine if isinstance(machine, TimedStateMachine) else None

    @property
    def revision(self) -> int:
        return self.inner.revision

    @property
    def clock(self) -> Callable[[], Nanoseconds]:
        return no_log_time if self._timed is None else self._timed.clock

    @clock.setter
    def clock(self, clock: Callable[[], Nanoseconds]) -> None:
        if self._timed is not None:
            self._timed.clock = clock

    @property
    def deadline(self) -> Nanoseconds | None:
        return None if self._timed is None else self._timed.deadline

    def due(self, log_time: Nanoseconds) -> Sequence[bytes]:
        return () if self._timed is None else self._timed.due(log_time)

    def apply(self, commands: Sequence[bytes], context: ApplyContext) -> list[bytes]:
        self._context = context
        index, before = context.index, self._place
        if index < before[0]:
            raise InvariantBroken("I4", f"node {self._who} applies index {index} after {before[0]}")
        self._place = (index, before[1] + 1 if index == before[0] else 0)
        if self.diverged:
            return self.inner.apply(commands, context)
        known = self._tenure.look(self.inner, self._place)
        results = self._apply_and_note(commands, context)
        self._tenure.applied(known, self.inner, self._place, commands, results, context)
        rolling = crc32c.crc32c(_PLACE.pack(index, context.log_time, self.inner.revision), self.rolling)
        self.rolling = crc32c.crc32c(b"".join((*commands, *results)), rolling)
        self._ledger.applied(self._place, self.rolling, self._who)
        return results

    def _apply_and_note(self, commands: Sequence[bytes], context: ApplyContext) -> list[bytes]:
        inner = self.inner
        if not isinstance(inner, Watchable):
            return inner.apply(commands, context)
        history = inner.history
        number = history.number
        results = inner.apply(commands, context)
        writes = history.read(number, history.number - number).writes
        self._chronicle.applied(writes, inner.revision, sum(map(len, commands)), self._who)
        return results

    def diverge(self) -> bool:
        """Become different, as by a bit that flips in memory. False if there is nothing yet."""
        if self._context is None:
            return False
        self.diverged = True
        self.inner.apply([encode_put(b"rot", b"nobody wrote this")], self._context)
        return True

    def view(self) -> object:
        return (self._place, self.rolling, self.diverged, self.inner.view())

    def chunks(self, view: object) -> Iterator[bytes]:
        if not isinstance(view, tuple):
            raise InvariantBroken("I13", "a view is written that this state machine did not make")
        place, rolling, diverged, inner = view
        self._count("snapshot: written")
        yield _SNAPSHOT_HEAD.pack(*place, rolling, diverged)
        for piece in self.inner.chunks(inner):
            for start in range(0, len(piece), _PIECE_BYTES):
                yield piece[start : start + _PIECE_BYTES]

    def restore(self, source: Iterator[bytes]) -> None:
        at_once(self.restoring(source))()

    def restoring(self, source: Iterator[bytes]) -> Generator[None, None, Replacement]:
        head = b""
        for piece in source:
            head += piece
            if len(head) >= _SNAPSHOT_HEAD.size:
                break
        else:
            raise SnapshotError("the state is cut off")
        index, ordinal, rolling, diverged = _SNAPSHOT_HEAD.unpack_from(head)

        def rest() -> Iterator[bytes]:
            yield head[_SNAPSHOT_HEAD.size :]
            yield from source

        inner = self.inner
        replacement: Replacement | None = None
        if isinstance(inner, GradualStateMachine):
            replacement = yield from inner.restoring(rest())
        else:
            yield

        def become() -> Iterator[None]:
            before: Iterator[None] = iter(())
            if replacement is None:
                inner.restore(rest())
            else:
                before = replacement()
            self._count("snapshot: restored")
            self._place, self.rolling = (index, ordinal), rolling
            self.born = inner.revision
            self.diverged = bool(diverged)
            if not self.diverged:
                self._ledger.applied(self._place, rolling, self._who)
            return before

        return become
