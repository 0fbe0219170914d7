"""What every `LogStorage` must keep, as tests that a test class inherits.

    from d_engine.testing.storage_suite import StorageSuite

    class TestMine(StorageSuite):
        def setup_method(self) -> None:
            self.file = ...                     # each test begins with nothing

        def open(self) -> LogStorage:
            return MyStorage(self.file, ...)    # what the last one made durable is there

        def settle(self) -> None:
            ...                                 # let it do what it has been given

pytest collects the inherited tests; any other runner can call the methods whose names begin with `test_`, each on an
instance of its own. A failure is a `NotConforming`, an `AssertionError` whose text names the rule.

The rules are those of `d_engine.storage.api`. What the suite cannot see is a disk that fails, or that loses what was
not synced.
"""

from collections.abc import Callable, Iterator

from d_engine.format.configuration import Configuration, Member, encode_configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.errors import DEngineError
from d_engine.format.ids import MAX_NODE_ID, MAX_TERM, LogIndex, Term
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import HardState, RecoveredLog, TermRun
from d_engine.storage.api import LogStorage
from d_engine.testing.demands import demand

_LARGE = 300_000


def entry(index: LogIndex, term: Term = 1, size: int = 20) -> Entry:
    """An entry whose bytes tell its place."""
    body = bytes((index + term + place) % 251 for place in range(min(size, 251))) * (size // 251 + 1)
    return Entry.create(EntryKind.COMMANDS, term, index, 1000 * index, (body[:size],), 1)


def entries(first: LogIndex, last: LogIndex, term: Term = 1, size: int = 20) -> list[Entry]:
    """All of a range."""
    return [entry(index, term, size) for index in range(first, last + 1)]


def configuration(*voters: int) -> Configuration:
    """Some members."""
    return Configuration(7, tuple(Member(voter, f"host:{voter}", voter + 100) for voter in voters), voters)


def configuration_entry(index: LogIndex, term: Term, *voters: int) -> Entry:
    """A change of members."""
    payload = encode_configuration(configuration(*voters))
    return Entry.create(EntryKind.CONFIGURATION, term, index, 1000 * index, (payload,))


class _Opened:
    """A storage in use: what it found, and what it has told."""

    def __init__(self, storage: LogStorage, settle: Callable[[], None]) -> None:
        self.storage = storage
        self.recovered = storage.recover()
        self.told: list[int] = []
        self.seq = 0
        self._settle = settle
        self._within = False
        storage.start(self._durable, _failed, lambda full: None)

    def _durable(self, seq: int) -> None:
        demand(
            not self._within, "append tells of durability before it returns: its caller is not ready for that"
        )
        demand(seq <= self.seq, f"seq {seq} is durable, but only {self.seq} were handed over")
        demand(not self.told or seq > self.told[-1], f"seq {seq} is told after {self.told[-1:]}")
        self.told.append(seq)

    def append(self, *more: Entry, state: HardState | None = None) -> None:
        """Hand over; nothing more."""
        self.seq += 1
        self._within = True
        self.storage.append(self.seq, state, more)
        self._within = False

    def write(self, *more: Entry, state: HardState | None = None) -> None:
        """Hand over, and wait until it is durable."""
        self.append(*more, state=state)
        self.settle()

    def settle(self) -> None:
        """All that was handed over is durable."""
        self._settle()
        demand(
            self.told[-1:] == [self.seq], f"of {self.seq} handed over only {self.told[-1:]} became durable"
        )

    def read_all(self, first: LogIndex) -> list[Entry]:
        """One by one."""
        found: list[Entry] = []
        while more := list(self.storage.read(first + len(found), 1)):
            demand(len(more) == 1, f"read returns {len(more)} entries for a budget of 1 byte")
            found += more
        return found


def _failed(error: DEngineError) -> None:
    raise error


class StorageSuite:
    """Inherit, and define `open` and `settle`."""

    durable = True
    """False for an engine that forgets everything with its process."""

    def open(self) -> LogStorage:
        """A new storage over what the last one of this test made durable; the last one was closed or abandoned."""
        raise NotImplementedError("define open(), which returns a storage")

    def settle(self) -> None:
        """Let the storage that was opened last do, and tell, everything that it has been given."""
        raise NotImplementedError("define settle(), which lets the storage finish")

    # --- in use -------------------------------------------------------------------------------------------------------

    def test_it_begins_empty(self) -> None:
        """No term, no vote, no entries; reading finds nothing."""
        opened = self._open()
        demand(opened.recovered == RecoveredLog(), f"a new storage recovers {opened.recovered}")
        demand(not opened.storage.full, "a new storage is full")
        demand(list(opened.storage.read(1, 1 << 20)) == [], "a new storage has entries")

    def test_all_that_is_handed_over_becomes_durable_in_order(self) -> None:
        """Told after `append` has returned, each seq or one behind it, never twice, never one that was not given."""
        opened = self._open()
        opened.append(*entries(1, 3), state=HardState(1, 1))
        opened.append(entry(4))
        opened.append(state=HardState(2))
        opened.settle()
        opened.write()
        for index in range(5, 40):
            opened.append(entry(index, 2))
        opened.settle()
        demand(
            opened.read_all(1) == [*entries(1, 4), *entries(5, 39, 2)], "entries do not read back as written"
        )

    def test_entries_can_be_read_at_once(self) -> None:
        """The leader sends what its own disk does not have yet."""
        opened = self._open()
        opened.append(*entries(1, 5))
        demand(opened.read_all(1) == entries(1, 5), "entries cannot be read before they are durable")
        opened.settle()
        demand(opened.read_all(3) == entries(3, 5), "entries do not read back as written")

    def test_reading_gives_at_least_one_and_not_much_more_than_asked(self) -> None:
        """A budget in bytes; one entry may be larger than it."""
        opened = self._open()
        written = entries(1, 20, size=1000)
        opened.write(*written)
        demand(list(opened.storage.read(1, 0)) == written[:1], "not one entry for a budget of nothing")
        some = list(opened.storage.read(5, 5 * written[0].size))
        demand(2 <= len(some) <= 6, f"{len(some)} entries for a budget of five")
        demand(some == written[4 : 4 + len(some)], "entries are not contiguous from the first asked for")
        demand(list(opened.storage.read(1, 1 << 30))[:1] == written[:1], "a large budget finds nothing")
        demand(list(opened.storage.read(21, 1 << 20)) == [], "there is an entry behind the last")

    def test_a_replaced_suffix_is_gone(self) -> None:
        """Everything from the first new entry on; also what is still under way to the disk."""
        opened = self._open()
        opened.write(*entries(1, 10))
        opened.append(*entries(11, 15))
        opened.append(entry(4, 2))
        demand(opened.read_all(1) == [*entries(1, 3), entry(4, 2)], "what was replaced can still be read")
        opened.settle()
        opened.write(*entries(5, 7, 2))
        opened.write(*entries(6, 6, 3))
        expected = [*entries(1, 3), *entries(4, 5, 2), entry(6, 3)]
        demand(opened.read_all(1) == expected, "what was replaced can still be read")
        for again in self._reopened(opened):
            demand(again.recovered.last_index == 6, f"the log ends at {again.recovered.last_index}, not 6")
            demand(again.read_all(1) == expected, "what was replaced is back after a restart")
            runs = (TermRun(1, 1), TermRun(4, 2), TermRun(6, 3))
            demand(again.recovered.term_runs == runs, f"term runs {again.recovered.term_runs}, not {runs}")

    def test_large_and_many_entries(self) -> None:
        """Larger than a buffer, more than a file."""
        opened = self._open()
        written = [entry(index, size=_LARGE if index % 5 == 0 else 50) for index in range(1, 41)]
        for one in written:
            opened.append(one)
        opened.settle()
        demand(opened.read_all(1) == written, "entries do not read back as written")
        for again in self._reopened(opened):
            demand(again.read_all(1) == written, "entries do not read back as written after a restart")

    def test_compaction_takes_nothing_behind_it(self) -> None:
        """Entries up to the index may go, those behind it stay, and the log goes on."""
        opened = self._open()
        opened.write(*entries(1, 30, size=2000))
        opened.storage.compact(12)
        opened.storage.compact(5)
        opened.write(*entries(31, 33))
        expected = [*entries(13, 30, size=2000), *entries(31, 33)]
        demand(opened.read_all(13) == expected, "compaction took entries behind its index")
        for again in self._reopened(opened):
            first = again.recovered.first_index
            demand(1 <= first <= 13, f"after compaction up to 12 the log begins at {first}")
            demand(again.recovered.last_index == 33, f"the log ends at {again.recovered.last_index}, not 33")
            demand(again.read_all(13) == expected, "entries behind a compaction are lost after a restart")
            again.write(entry(34, 2))

    def test_a_reset_begins_anew_behind_a_snapshot(self) -> None:
        """It was installed from a peer; nothing that was there before counts. Durable with the next seq."""
        opened = self._open()
        opened.write(*entries(1, 10), state=HardState(1, 1))
        opened.storage.reset(SnapshotMeta(100, 3, configuration(1, 2, 3)))
        opened.write(state=HardState(4, 2))
        demand(list(opened.storage.read(101, 1 << 20)) == [], "entries stand behind a reset")
        opened.write(*entries(101, 103, 4))
        demand(opened.read_all(101) == entries(101, 103, 4), "entries behind a reset do not read back")
        for again in self._reopened(opened):
            log = again.recovered
            places = (log.first_index, log.last_index, log.hard_state)
            demand(places == (101, 103, HardState(4, 2)), f"after a reset a restart finds {places}")
            demand(
                again.read_all(101) == entries(101, 103, 4), "entries behind a reset are lost after a restart"
            )

    def test_a_closed_storage_tells_nobody(self) -> None:
        """And does not wait."""
        opened = self._open()
        opened.write(entry(1))
        told = list(opened.told)
        opened.append(entry(2))
        opened.storage.close()
        opened.storage.close()
        self.settle()
        demand(opened.told == told, "a closed storage tells of durability")

    # --- restarts -----------------------------------------------------------------------------------------------------

    def test_term_and_vote_survive(self) -> None:
        """The newest, alone or together with entries; none says: as before."""
        opened = self._open()
        for written, expected in (
            (HardState(1, 0), HardState(1, 0)),
            (HardState(1, 2), HardState(1, 2)),
            (None, HardState(1, 2)),
            (HardState(5, 0), HardState(5, 0)),
            (HardState(MAX_TERM, MAX_NODE_ID), HardState(MAX_TERM, MAX_NODE_ID)),
        ):
            opened.write(entry(opened.recovered.last_index + 1, 1), state=written)
            for again in self._reopened(opened):
                found = again.recovered.hard_state
                demand(found == expected, f"the hard state after a restart is {found}, not {expected}")
                opened = again
            if not self.durable:
                return

    def test_the_log_survives_restarts_as_it_was(self) -> None:
        """Entries, terms, configurations, and a tail that ends with the last entry."""
        opened = self._open()
        written = [
            configuration_entry(1, 1, 1),
            *entries(2, 9),
            configuration_entry(10, 2, 1, 2),
            entry(11, 2),
        ]
        opened.write(*written)
        for _ in range(3):
            for again in self._reopened(opened):
                log, opened = again.recovered, again
                demand((log.first_index, log.last_index) == (1, 11), f"{log.first_index}..{log.last_index}")
                runs = (TermRun(1, 1), TermRun(10, 2))
                demand(log.term_runs == runs, f"term runs {log.term_runs}, not {runs}")
                known = ((1, configuration(1)), (10, configuration(1, 2)))
                demand(log.configurations == known, f"configurations {log.configurations}, not {known}")
                tail = list(log.tail)
                demand(tail == written[len(written) - len(tail) :], "the tail is not the log's end")
                demand(again.read_all(1) == written, "entries do not read back as written after a restart")

    def test_a_rolled_back_configuration_does_not_come_back(self) -> None:
        """A configuration counts as long as its entry stands."""
        opened = self._open()
        opened.write(configuration_entry(1, 1, 1), configuration_entry(2, 1, 1, 2), entry(3))
        opened.write(entry(2, 2))
        for again in self._reopened(opened):
            known = ((1, configuration(1)),)
            demand(again.recovered.configurations == known, f"{again.recovered.configurations}, not {known}")

    def test_what_was_told_durable_survives_an_abandoned_process(self) -> None:
        """What was handed over and not told may be there or not, but in order and without a gap."""
        opened = self._open()
        opened.write(*entries(1, 5), state=HardState(1, 1))
        opened.append(*entries(6, 8))
        opened.append(*entries(9, 12))
        for again in self._reopened(opened, close=False):
            last = again.recovered.last_index
            demand(5 <= last <= 12, f"the log ends at {last}; 5 entries were durable, 12 handed over")
            demand(again.read_all(1) == entries(1, last), "entries do not read back as written")
            again.write(*entries(last + 1, last + 2, 2))

    # --- means --------------------------------------------------------------------------------------------------------

    def _open(self) -> _Opened:
        return _Opened(self.open(), self.settle)

    def _reopened(self, opened: _Opened, close: bool = True) -> Iterator[_Opened]:
        """The storage as the next process finds it; nothing if it forgets."""
        if close:
            opened.storage.close()
        if self.durable:
            yield self._open()
