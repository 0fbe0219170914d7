"""What writes of unknown outcome may have done, as far as revisions tell.

Each write that took effect made one revision. A revision that no acknowledged write made is a *gap*; somebody made it,
so it was a write of unknown outcome. Each of those fills at most one gap, and none at or below its *floor*: the highest
revision that anybody had seen before it was invoked.

Which one filled which gap is in general not known, and guessing could accuse a correct store. So only conditions are
tested that every true explanation meets (after Hall, "On representatives of subsets", J. London Math. Soc. 10, 1935):

* up to every gap there are at least as many writes with a floor below it as there are gaps;
* each time a key is seen to turn to a value that no acknowledged write gave it, one of the writes of that value to that
  key is used up, and a gap lies between the two sightings;
* writes so identified beyond doubt have gaps of their own. Sightings come in the order of revisions, so giving each
  the lowest free gap of its span finds an assignment if there is one.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from d_engine.testing.checkers.actions import Action, Key, Value, written
from d_engine.testing.checkers.history import Operation


@dataclass(slots=True)
class _Candidate:
    """A write of unknown outcome. `placed` once it has a gap of its own."""

    floor: int
    placed: bool = False


class UnknownWrites:
    """All writes of unknown outcome with their floors, and the gaps (ascending) that they must fill."""

    def __init__(self, writes: Sequence[tuple[int, Operation[Action]]], gaps: Sequence[int]) -> None:
        self._gaps = gaps
        self._floors = sorted(floor for floor, _ in writes)
        self._next_free = list(range(len(gaps) + 1))
        self._of_value: dict[tuple[Key, Value | None], list[_Candidate]] = {}
        self._used: dict[tuple[Key, Value | None], int] = {}
        self._of_key: dict[Key, dict[Value | None, int]] = {}
        for floor, operation in sorted(writes, key=lambda write: (write[0], write[1].index)):
            candidate = _Candidate(floor)
            for key, value in dict.fromkeys(written(operation.action)):
                self._of_value.setdefault((key, value), []).append(candidate)
                lowest = self._of_key.setdefault(key, {})
                lowest[value] = min(floor, lowest.get(value, floor))

    def first_unexplained_gap(self) -> int | None:
        """The lowest revision up to which there are more gaps than writes that can have filled them."""
        for number, gap in enumerate(self._gaps, 1):
            if bisect_left(self._floors, gap) < number:
                return gap
        return None

    def could_turn(self, key: Key, value: Value | None, after: int, upto: int) -> bool:
        """Whether a write not used up may have given `key` this value after revision `after`, at most at `upto`."""
        candidate = self._next_candidate(key, value)
        return candidate is not None and self._has_gap(max(after, candidate.floor), upto)

    def turn(self, key: Key, value: Value | None, after: int, upto: int) -> bool:
        """As `could_turn`, and if so use up the write: the key was seen with the value."""
        candidate = self._next_candidate(key, value)
        if candidate is None or not self._has_gap(max(after, candidate.floor), upto):
            return False
        if len(self._of_value[key, value]) == 1 and not candidate.placed:
            if not self._place(candidate, after, upto):
                return False
        self._used[key, value] = self._used.get((key, value), 0) + 1
        return True

    def could_turn_to_other(self, key: Key, values: tuple[Value | None, ...], after: int, upto: int) -> bool:
        """Whether some write may have given `key` a value not in `values` after `after`, at most at `upto`."""
        return any(
            value not in values and self._has_gap(max(after, floor), upto)
            for value, floor in self._of_key.get(key, {}).items()
        )

    def _next_candidate(self, key: Key, value: Value | None) -> _Candidate | None:
        """The write with the lowest floor first: what is open to a higher one is open to it, now and later."""
        candidates = self._of_value.get((key, value), [])
        used = self._used.get((key, value), 0)
        return candidates[used] if used < len(candidates) else None

    def _has_gap(self, after: int, upto: int) -> bool:
        place = bisect_right(self._gaps, after)
        return place < len(self._gaps) and self._gaps[place] <= upto

    def _place(self, candidate: _Candidate, after: int, upto: int) -> bool:
        place = self._free(bisect_right(self._gaps, max(after, candidate.floor)))
        if place == len(self._gaps) or self._gaps[place] > upto:
            return False
        self._next_free[place] = place + 1
        candidate.placed = True
        return True

    def _free(self, place: int) -> int:
        """The lowest free gap from `place` on, with path halving."""
        while self._next_free[place] != place:
            self._next_free[place] = self._next_free[self._next_free[place]]
            place = self._next_free[place]
        return place
