"""The log against a dumb oracle (a list of entries that forgets nothing), and its limits."""

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from d_engine.format.configuration import encode_configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.errors import InvariantViolation
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import RecoveredLog, TermRun
from d_engine.raft.entry_cache import EntryCache
from d_engine.raft.log import RaftLog
from d_engine.raft.membership import NO_MEMBERS
from tests.raft.lone_node import command, commands, configuration_of

FIRST = configuration_of((1,))


class LogMachine(RuleBasedStateMachine):
    """Any order of appends, cuts, hand-overs, commits and compactions."""

    @initialize(cache=st.sampled_from((0, 100, 10_000)))
    def begin(self, cache: int) -> None:
        self.entries: list[Entry] = []
        self.stored: list[Entry] = []
        self.log = RaftLog(RecoveredLog(), FIRST, self.read, cache)
        self.term = 1

    def read(self, first: int, max_bytes: int) -> list[Entry]:
        return self.stored[first - 1 : first + 2]

    @rule(newer=st.booleans(), members=st.booleans(), size=st.integers(0, 60))
    def append(self, newer: bool, members: bool, size: int) -> None:
        self.term += newer
        index = len(self.entries) + 1
        if members:
            payload = encode_configuration(configuration_of((1, index + 1)))
            entry = Entry.create(EntryKind.CONFIGURATION, self.term, index, 0, [payload])
        else:
            entry = command(index, self.term, b"x" * size)
        self.entries.append(entry)
        self.log.append(entry)

    @rule(data=st.data())
    @precondition(lambda self: len(self.entries) > self.log.commit_index)
    def truncate(self, data: st.DataObject) -> None:
        first = data.draw(st.integers(self.log.commit_index + 1, len(self.entries)))
        del self.entries[first - 1 :]
        self.log.truncate(first)
        self.term += 1

    @rule()
    def hand_over(self) -> None:
        taken = self.log.take_unsaved()
        if taken:
            del self.stored[taken[0].index - 1 :]
            self.stored += taken
        assert self.stored[: len(self.entries)] == self.entries

    @rule(data=st.data())
    def commit(self, data: st.DataObject) -> None:
        self.log.commit_index = data.draw(st.integers(self.log.commit_index, len(self.entries)))
        self.log.applied_index = self.log.commit_index

    @rule(data=st.data())
    @precondition(lambda self: self.log.first_index <= min(self.log.commit_index, self.log.handed_index))
    def compact(self, data: st.DataObject) -> None:
        last = min(self.log.commit_index, self.log.handed_index)
        index = data.draw(st.integers(self.log.first_index, last))
        term = self.entries[index - 1].term
        self.log.snapshot_taken(SnapshotMeta(index, term, self.log.configuration_at(index)))
        self.log.compact(index)

    @invariant()
    def agrees_with_the_oracle(self) -> None:
        log, entries = self.log, self.entries
        first = log.first_index
        assert log.last_index == len(entries)
        assert log.last_term == (entries[-1].term if entries else 0)
        for index in range(max(1, first - 1), len(entries) + 1):
            assert log.term_at(index) == entries[index - 1].term
        assert log.term_at(len(entries) + 1) is None
        places = [entry.index for entry in entries if entry.kind is EntryKind.CONFIGURATION]
        assert log.configuration_index == (places[-1] if places else 0)

    @invariant()
    def returns_every_entry(self) -> None:
        index = self.log.first_index
        while index <= len(self.entries):
            found = self.log.slice(index, len(self.entries), 120)
            assert found == tuple(self.entries[index - 1 : index - 1 + len(found)])
            assert len(found) == 1 or sum(entry.size for entry in found) <= 120 or index <= len(self.stored)
            index += len(found)

    @invariant()
    def configuration_is_the_newest_not_behind(self) -> None:
        for index in range(self.log.first_index, len(self.entries) + 1):
            expected = FIRST
            for entry in self.entries[:index]:
                if entry.kind is EntryKind.CONFIGURATION:
                    expected = configuration_of((1, entry.index + 1))
            assert self.log.configuration_at(index) == expected


TestLogMachine = LogMachine.TestCase
TestLogMachine.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)


def recovered(first: int, terms: tuple[int, ...], snapshot: SnapshotMeta | None = None) -> RaftLog:
    entries = commands(first, terms)
    runs = tuple(
        TermRun(first + place, term)
        for place, term in enumerate(terms)
        if place == 0 or terms[place - 1] != term
    )
    found = RecoveredLog(
        snapshot=snapshot,
        first_index=first,
        last_index=first + len(terms) - 1,
        term_runs=runs,
        tail=entries,
    )
    return RaftLog(found, NO_MEMBERS, lambda first, size: (), 1000)


def test_recovered_log_behind_its_snapshot_knows_the_snapshots_term() -> None:
    for terms in ((), (4, 5), (5,)):
        log = recovered(8, terms, SnapshotMeta(7, 4, FIRST))

        assert log.term_at(7) == 4
        assert log.last_term == (terms or (4,))[-1]
        assert log.commit_index == 7
        assert log.configuration == FIRST


def test_recovered_log_that_begins_before_its_snapshot() -> None:
    log = recovered(3, (1, 1, 2, 2, 3), SnapshotMeta(5, 2, FIRST))

    assert [log.term_at(index) for index in range(2, 8)] == [None, 1, 1, 2, 2, 3]
    assert (log.commit_index, log.configuration_index) == (5, 5)


def test_recovered_log_with_a_gap_is_refused() -> None:
    with pytest.raises(InvariantViolation):
        recovered(9, (4,), SnapshotMeta(7, 4, FIRST))
    with pytest.raises(InvariantViolation):
        recovered(2, (1,))


def test_nothing_is_compacted_that_no_snapshot_stands_for() -> None:
    log = recovered(1, (1, 1, 1))
    log.commit_index = log.applied_index = 3

    with pytest.raises(InvariantViolation):
        log.compact(2)


def test_storage_that_returns_something_else_is_noticed() -> None:
    log = recovered(1, (1, 1, 1))
    log._cache.clear(4)

    with pytest.raises(InvariantViolation):
        log.slice(2, 3, 100)


def test_cache_keeps_its_budget_and_everything_that_storage_lacks() -> None:
    cache = EntryCache(1, 200)
    for entry in commands(1, (1,) * 5000):
        cache.append(entry)
        cache.shrink(entry.index - 10)

    assert cache.first_index == 4991
    cache.shrink(5000)
    assert cache.size <= 200
    assert len(cache._entries) < 3000
    assert [entry.index for entry in cache.slice(4999, 5000, 1000)] == [4999, 5000]
