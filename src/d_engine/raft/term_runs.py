"""The terms of a log, as runs of equal terms.

Terms never fall along a log (Raft, 5.3), so a log of any length has as many runs as leaders that wrote to it, and the
term of an entry is found by bisection, without the entry. The same order lets two logs find where they part in one
round per term (dissertation, end of 3.5): see `last_not_above`.
"""

from bisect import bisect_right
from collections.abc import Sequence

from d_engine.format.errors import check
from d_engine.format.ids import LogIndex, Term
from d_engine.format.state import TermRun


class TermRuns:
    """Runs by rising first index. The caller knows where the log ends."""

    __slots__ = ("_firsts", "_terms")

    def __init__(self, runs: Sequence[TermRun]) -> None:
        self._firsts = [run.first_index for run in runs]
        self._terms = [run.term for run in runs]
        check(self._firsts == sorted({*self._firsts}), "the first indices of the term runs do not rise")
        check(self._terms == sorted({*self._terms}), "the terms of the term runs do not rise")

    def at(self, index: LogIndex) -> Term | None:
        """The term at `index`, which is not behind the log's end; None before the first run."""
        place = bisect_right(self._firsts, index) - 1
        return self._terms[place] if place >= 0 else None

    def append(self, index: LogIndex, term: Term) -> None:
        """The next entry has this term."""
        if not self._terms or self._terms[-1] != term:
            check(
                not self._terms or self._terms[-1] < term,
                f"term {term} at index {index} falls behind the log's",
            )
            self._firsts.append(index)
            self._terms.append(term)

    def truncate(self, first: LogIndex) -> None:
        """Everything from `first` on goes."""
        while self._firsts and self._firsts[-1] >= first:
            self._firsts.pop()
            self._terms.pop()

    def compact(self, index: LogIndex) -> None:
        """Everything before `index` goes; the term at `index` stays known."""
        place = bisect_right(self._firsts, index) - 1
        if place >= 0:
            del self._firsts[:place], self._terms[:place]
            self._firsts[0] = index

    def last_not_above(self, term: Term, limit: LogIndex) -> LogIndex:
        """The last index up to `limit` whose term is not above `term`; 0 if the runs hold none."""
        place = bisect_right(self._terms, term)
        if place == 0 or self._firsts[0] > limit:
            return 0
        if place == len(self._firsts):
            return limit
        return min(limit, self._firsts[place] - 1)
