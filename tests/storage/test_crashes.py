"""Random use, random crashes, against a model that knows what was promised.

The model is the list of states that the log goes through, one for each record handed over. After a crash the log must
be in one of them, not before the last one that was told to be durable; from there the story goes on.
"""

from dataclasses import dataclass, replace
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from d_engine.format.entry import Entry
from d_engine.format.errors import DiskError
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import HardState
from d_engine.storage.disk import Lane, SyncFile
from d_engine.storage.records import EMPTY_CONFIGURATION
from tests.storage.crash_disk import CrashDisk
from tests.storage.logs import SEGMENT_BYTES, Log, configuration, configuration_entry, entry, segments

NEW = HardState()


@dataclass(frozen=True)
class State:
    """What the log holds."""

    hard_state: HardState = NEW
    base: SnapshotMeta | None = None
    entries: tuple[Entry, ...] = ()

    @property
    def first_index(self) -> int:
        return 1 if self.base is None else self.base.index + 1

    @property
    def last_index(self) -> int:
        return self.first_index + len(self.entries) - 1

    @property
    def last_term(self) -> int:
        return self.entries[-1].term if self.entries else self.base.term if self.base else 1

    def with_entry(self, entry: Entry) -> "State":
        return replace(self, entries=(*self.entries[: entry.index - self.first_index], entry))

    def compacted(self, index: int) -> "State":
        gone = self.entries[: index + 1 - self.first_index]
        changes = [entry for entry in gone if entry.kind.name == "CONFIGURATION"]
        before = self.base.configuration if self.base else EMPTY_CONFIGURATION
        members = configuration(*range(1, 2 + changes[-1].index % 3)) if changes else before
        base = SnapshotMeta(index, gone[-1].term, members)
        return replace(self, base=base, entries=self.entries[len(gone) :])


class Crashes(RuleBasedStateMachine):
    """Rules with a `place` use it to draw an index, so that examples shrink."""

    @initialize()
    def start(self) -> None:
        self.story = [State()]
        self.promised = 0
        self.marks: dict[int, int] = {}
        self.open(CrashDisk())

    def open(self, disk: CrashDisk) -> None:
        self.log = Log(disk)
        found = self.log.recovered
        state = State(found.hard_state, found.snapshot, tuple(self.log.all()))
        assert (state.first_index, state.last_index) == (found.first_index, found.last_index)
        assert found.tail == state.entries[len(state.entries) - len(found.tail) :]
        assert state in self.story[self.promised :]
        self.story = [state]
        self.promised = 0
        self.marks.clear()

    # --- what a node does --------------------------------------------------------------------------------------------

    def step(self, state: State) -> None:
        self.story.append(state)

    def mark(self) -> None:
        self.log.seq += 1
        self.marks[self.log.seq] = len(self.story) - 1

    @precondition(lambda self: not self.log.failures)
    @rule(
        votes=st.booleans(),
        back=st.integers(0, 3),
        sizes=st.lists(st.sampled_from((0, 30, 300, 2000, 9000)), max_size=5),
        configures=st.booleans(),
    )
    def append(self, votes: bool, back: int, sizes: list[int], configures: bool) -> None:
        state = self.story[-1]
        hard_state = None
        if votes:
            hard_state = HardState(state.hard_state.term + 1, back)
            state = replace(state, hard_state=hard_state)
            self.step(state)
        first = max(state.last_index + 1 - back, state.first_index)
        term = state.last_term + (first <= state.last_index)
        added = [entry(first + place, term, size) for place, size in enumerate(sizes)]
        if configures:
            index = first + len(added)
            added.append(configuration_entry(index, term, *range(1, 2 + index % 3)))
        for one in added:
            state = state.with_entry(one)
            self.step(state)
        self.mark()
        self.log.wal.append(self.log.seq, hard_state, added)

    @precondition(lambda self: not self.log.failures and self.story[-1].entries)
    @rule(place=st.integers(0, 30))
    def compact(self, place: int) -> None:
        state = self.story[-1]
        index = min(state.first_index + place, state.last_index)
        self.step(state.compacted(index))
        self.log.wal.compact(index)

    @precondition(lambda self: not self.log.failures)
    @rule(ahead=st.integers(-5, 50))
    def reset(self, ahead: int) -> None:
        state = self.story[-1]
        index = max(state.last_index + ahead, state.first_index)
        snapshot = SnapshotMeta(index, state.last_term, configuration(1, 2))
        self.step(replace(state, base=snapshot, entries=()))
        self.log.wal.reset(snapshot)

    @rule(back=st.integers(0, 10), size=st.sampled_from((1, 1000, 10**6)))
    def read(self, back: int, size: int) -> None:
        state = self.story[-1]
        first = max(state.first_index, state.last_index - back)
        found = tuple(self.log.wal.read(first, size))
        rest = state.entries[first - state.first_index :]
        assert found == rest[: len(found)]
        assert bool(found) == bool(rest)

    # --- what a disk does --------------------------------------------------------------------------------------------

    @rule(count=st.integers(1, 4))
    def write(self, count: int) -> None:
        for _ in range(count):
            self.log.disk.step(Lane.LOG)

    @rule()
    def work_in_background(self) -> None:
        self.log.disk.step(Lane.BACKGROUND)

    @rule()
    def settle(self) -> None:
        self.log.disk.settle()
        if not self.log.failures and not self.log.full:
            assert self.log.durable[-1:] == [self.log.seq] * min(self.log.seq, 1)
            live = sum(one.size + 100 for one in self.story[-1].entries)
            assert len(segments(self.log.disk)) <= 3 + live // 1000

    @rule(spare=st.integers(0, 5000))
    def fill(self, spare: int) -> None:
        self.log.disk.capacity = sum(len(file.current) for file in self.log.disk.names.values()) + spare

    @rule()
    def free(self) -> None:
        self.log.disk.capacity = None
        self.log.wal.retry()

    @rule()
    def fail_next_sync(self) -> None:
        def refuse(operation: object) -> DiskError | None:
            return DiskError("planted") if isinstance(operation, SyncFile) else None

        self.log.disk.refuse = refuse

    # --- what fate does ----------------------------------------------------------------------------------------------

    def interrupt(self, limit: int) -> None:
        """Both lanes are somewhere in the middle."""
        if limit < 7:
            for lane in Lane:
                self.log.disk.step(lane, limit)

    @rule(seed=st.integers(0, 2**16), limit=st.integers(0, 8))
    def lose_power(self, seed: int, limit: int) -> None:
        self.interrupt(limit)
        survivor = self.log.disk.crash(Random(seed))
        survivor.capacity = None
        self.open(survivor)

    @rule(limit=st.integers(0, 8))
    def be_killed(self, limit: int) -> None:
        self.interrupt(limit)
        survivor = self.log.disk.killed()
        survivor.capacity = None
        self.open(survivor)

    @invariant()
    def promises_are_kept_in_mind(self) -> None:
        assert self.log.durable == sorted(self.log.durable)
        if self.log.durable:
            self.promised = max(self.promised, self.marks[self.log.durable[-1]])


Crashes.TestCase.settings = settings(
    max_examples=120,
    stateful_step_count=40,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
TestCrashes = Crashes.TestCase
assert SEGMENT_BYTES == 8192, "sizes above are chosen for it"
