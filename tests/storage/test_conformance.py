"""The engines here pass the suite that is offered for everybody's; what does not conform fails."""

from collections.abc import Callable, Sequence

import pytest

from d_engine.format.entry import Entry
from d_engine.format.errors import InvariantViolation
from d_engine.format.ids import LogIndex
from d_engine.format.state import HardState
from d_engine.storage.api import LogStorage
from d_engine.storage.memory import MemoryStorage
from d_engine.storage.wal import WalStorage
from d_engine.testing.demands import NotConforming
from d_engine.testing.storage_suite import StorageSuite
from tests.storage.crash_disk import CrashDisk
from tests.storage.logs import SEED

SEGMENT_BYTES = 64 * 1024


class TestWal(StorageSuite):
    def setup_method(self) -> None:
        self.disk = CrashDisk()

    def open(self) -> LogStorage:
        self.disk = self.disk.killed()
        return WalStorage(self.disk, SEED, SEGMENT_BYTES)

    def settle(self) -> None:
        self.disk.settle()


class TestMemory(StorageSuite):
    durable = False
    kind: type[MemoryStorage] = MemoryStorage

    def setup_method(self) -> None:
        self.soon: list[Callable[[], None]] = []

    def open(self) -> LogStorage:
        return self.kind(lambda function: self.soon.append(function))

    def settle(self) -> None:
        while self.soon:
            self.soon.pop(0)()


class TellsAtOnce(MemoryStorage):
    def append(self, seq: int, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        super().append(seq, hard_state, entries)
        self._tell()


class TellsTooMuch(MemoryStorage):
    def append(self, seq: int, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        super().append(seq + 1, hard_state, entries)


class TellsTheFirstOnly(MemoryStorage):
    def append(self, seq: int, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        super().append(1, hard_state, entries)


class KeepsWhatIsReplaced(MemoryStorage):
    def append(self, seq: int, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        for entry in entries:
            place = entry.index - self._first_index
            self._entries[place : place + 1] = [entry]
        super().append(seq, hard_state, ())


class ReadsTooMuch(MemoryStorage):
    def read(self, first: LogIndex, max_bytes: int) -> Sequence[Entry]:
        return super().read(first, 1 << 30)


class CompactsTooMuch(MemoryStorage):
    def compact(self, index: LogIndex) -> None:
        super().compact(index + 1)


class TalksAfterItsEnd(MemoryStorage):
    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (TellsAtOnce, "test_all_that_is_handed_over_becomes_durable_in_order"),
        (TellsTooMuch, "test_all_that_is_handed_over_becomes_durable_in_order"),
        (TellsTheFirstOnly, "test_all_that_is_handed_over_becomes_durable_in_order"),
        (KeepsWhatIsReplaced, "test_a_replaced_suffix_is_gone"),
        (ReadsTooMuch, "test_reading_gives_at_least_one_and_not_much_more_than_asked"),
        (CompactsTooMuch, "test_compaction_takes_nothing_behind_it"),
        (TalksAfterItsEnd, "test_a_closed_storage_tells_nobody"),
    ],
)
def test_what_does_not_conform_fails(kind: type[MemoryStorage], test: str) -> None:
    suite = TestMemory()
    suite.kind = kind
    suite.setup_method()
    with pytest.raises((NotConforming, InvariantViolation)):
        getattr(suite, test)()


class ForgetsTheVote(WalStorage):
    def append(self, seq: int, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        super().append(seq, hard_state and HardState(hard_state.term), entries)


class TellsBeforeItIsDurable(WalStorage):
    def append(self, seq: int, hard_state: HardState | None, entries: Sequence[Entry]) -> None:
        super().append(seq, hard_state, ())


@pytest.mark.parametrize(
    ("kind", "test"),
    [
        (ForgetsTheVote, "test_term_and_vote_survive"),
        (TellsBeforeItIsDurable, "test_what_was_told_durable_survives_an_abandoned_process"),
    ],
)
def test_what_is_forgotten_is_noticed(kind: type[WalStorage], test: str) -> None:
    class Suite(TestWal):
        def open(self) -> LogStorage:
            self.disk = self.disk.killed()
            return kind(self.disk, SEED, SEGMENT_BYTES)

    suite = Suite()
    suite.setup_method()
    with pytest.raises(NotConforming):
        getattr(suite, test)()
