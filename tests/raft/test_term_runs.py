"""Runs of terms against a plain list of terms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d_engine.format.errors import InvariantViolation
from d_engine.format.state import TermRun
from d_engine.raft.term_runs import TermRuns

rising_terms = st.lists(st.integers(1, 6), max_size=12).map(sorted)


def runs_of(terms: list[int], first: int = 1) -> TermRuns:
    runs = TermRuns(())
    for place, term in enumerate(terms):
        runs.append(first + place, term)
    return runs


def rejection_hint(terms: list[int], prev_index: int, prev_term: int) -> int:
    """The definition: the last index, not behind `prev_index` or the end, whose term is not above `prev_term`."""
    return max(
        (i + 1 for i, term in enumerate(terms) if i + 1 <= prev_index and term <= prev_term), default=0
    )


@given(rising_terms)
def test_term_of_every_index(terms: list[int]) -> None:
    runs = runs_of(terms, first=10)

    assert [runs.at(10 + place) for place in range(len(terms))] == terms
    assert runs.at(9) is None


@given(rising_terms, st.integers(1, 14))
def test_truncate_forgets_the_rest(terms: list[int], first: int) -> None:
    runs = runs_of(terms)
    runs.truncate(first)

    kept = terms[: first - 1]
    assert [runs.at(1 + place) for place in range(len(kept))] == kept
    runs.append(len(kept) + 1, 9)
    assert runs.at(len(kept) + 1) == 9


@given(rising_terms.filter(bool), st.data())
def test_compact_keeps_the_term_at_its_index(terms: list[int], data: st.DataObject) -> None:
    runs = runs_of(terms)
    index = data.draw(st.integers(1, len(terms)))
    runs.compact(index)

    assert [runs.at(place) for place in range(index, len(terms) + 1)] == terms[index - 1 :]
    assert runs.at(index - 1) is None


@given(rising_terms, st.integers(0, 7), st.integers(0, 12))
def test_last_not_above(terms: list[int], term: int, limit: int) -> None:
    limit = min(limit, len(terms))

    assert runs_of(terms).last_not_above(term, limit) == rejection_hint(terms, limit, term)


@given(rising_terms, rising_terms)
def test_two_logs_find_each_other_in_one_round_per_term(leader: list[int], follower: list[int]) -> None:
    """Dissertation, end of 3.5; faults, scenario 10: O(#terms) rounds, whatever the lengths of the suffixes."""
    leader = [*leader, 7]
    agree = 0
    while agree < min(len(leader), len(follower)) and leader[agree] == follower[agree]:
        agree += 1
    theirs, ours = runs_of(follower), runs_of(leader)

    prev, rounds = len(leader) - 1, 0
    while prev > 0 and (prev > len(follower) or follower[prev - 1] != leader[prev - 1]):
        hint = theirs.last_not_above(leader[prev - 1], min(prev, len(follower)))
        hint_term = follower[hint - 1] if hint else 0
        prev = ours.last_not_above(hint_term, hint)
        rounds += 1

    # Where terms agree the entries do (log matching), so the first place that agrees by term is good enough.
    assert prev >= agree or prev == len(leader) - 1
    assert rounds <= len(set(leader)) + len(set(follower))


def test_falling_terms_are_refused() -> None:
    with pytest.raises(InvariantViolation):
        runs_of([2, 1])
    with pytest.raises(InvariantViolation):
        TermRuns((TermRun(1, 2), TermRun(2, 1)))
    with pytest.raises(InvariantViolation):
        TermRuns((TermRun(2, 1), TermRun(1, 2)))
