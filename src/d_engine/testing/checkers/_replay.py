"""The store at each revision, rebuilt from the acknowledged writes, and whether an answer agrees with it.

Where writes of unknown outcome may have changed a key, an answer is accepted if they can explain it (`UnknownWrites`);
if it shows the key's value, the replay adopts that value from there on.
"""

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from itertools import pairwise
from typing import Final

from d_engine.testing.checkers._unknown_writes import UnknownWrites
from d_engine.testing.checkers.actions import (
    Action,
    Compare,
    CompareAndSwap,
    Delete,
    Get,
    Key,
    Put,
    Relation,
    Scan,
    Step,
    Target,
    Transaction,
    Value,
    transaction_result,
    truth,
)
from d_engine.testing.checkers.history import HistoryError, Operation


class Sentinel(Enum):
    """Stands where there is neither a value nor None."""

    NOT_SEEN = "not seen"


NOT_SEEN: Final = Sentinel.NOT_SEEN


@dataclass(frozen=True, slots=True)
class Mismatch:
    """An answer that the store cannot have given: what is wrong, and the key and value it shows, if any."""

    text: str
    key: Key = b""
    seen: Value | None = NOT_SEEN


@dataclass(slots=True)
class Cell:
    """What is known of one key at the revision that the replay has reached.

    Attributes:
        value: its value, None if absent.
        known_at: the latest revision at which that is certain; later only unknown writes can have changed it.
        mod_revision: the revision that wrote it, 0 if absent, None if not known.
        mod_known_at: the revision since which `mod_revision` is certain.
        writer: the acknowledged write that gave it its value.
        previous: the value before that write.
    """

    value: Value | None
    known_at: int
    mod_revision: int | None
    mod_known_at: int
    writer: Operation[Action] | None = None
    previous: Value | None = NOT_SEEN


class Replay:
    """The store; `observe_*` must come in the order of revisions."""

    def __init__(self, initial: Mapping[Key, Value], initial_revision: int, unknown: UnknownWrites) -> None:
        self._unknown = unknown
        self._initial_revision = initial_revision
        self._cells = {
            key: Cell(value, initial_revision, None, initial_revision) for key, value in initial.items()
        }
        self._present = sorted(initial)

    def cell(self, key: Key) -> Cell:
        """What is known of a key. A key never written is absent."""
        cell = self._cells.get(key)
        return Cell(None, self._initial_revision, 0, self._initial_revision) if cell is None else cell

    def present(self, scan: Scan) -> list[Key]:
        """The keys in the range, without those that only unknown writes can have put there."""
        first = bisect_left(self._present, scan.start)
        last = len(self._present) if scan.end is None else bisect_left(self._present, scan.end)
        return self._present[first:last]

    def write(self, key: Key, value: Value | None, revision: int, writer: Operation[Action]) -> None:
        """An acknowledged write."""
        before = self.cell(key)
        mod_revision = 0 if value is None else revision
        self._set(key, Cell(value, revision, mod_revision, revision, writer, before.value))

    def observe_value(self, key: Key, value: Value | None, revision: int) -> bool:
        """Whether the key can have had the value at `revision`."""
        cell = self.cell(key)
        if cell.value == value:
            cell.known_at = revision
            if value is None:
                cell.mod_known_at = revision
            self._cells[key] = cell
            return True
        if not self._unknown.turn(key, value, cell.known_at, revision):
            return False
        self._set(key, Cell(value, revision, 0 if value is None else None, revision))
        return True

    def could_be(self, key: Key, value: Value | None, revision: int) -> bool:
        """As `observe_value`, for a condition that the answer does not settle: nothing is adopted."""
        cell = self.cell(key)
        return cell.value == value or self._unknown.could_turn(key, value, cell.known_at, revision)

    def could_be_other(self, key: Key, value: Value | None, revision: int) -> bool:
        """Whether the key can have had any other value than this."""
        cell = self.cell(key)
        return cell.value != value or self._unknown.could_turn_to_other(
            key, (value,), cell.known_at, revision
        )

    def could_be_written_at(self, key: Key, mod_revision: Value | None, equal: bool, revision: int) -> bool:
        """Whether the key's `mod_revision` can have been this (or, if not `equal`, another)."""
        cell = self.cell(key)
        if cell.mod_revision is None or self._unknown.could_turn_to_other(
            key, (), cell.mod_known_at, revision
        ):
            return True
        return (cell.mod_revision == mod_revision) is equal

    def _set(self, key: Key, cell: Cell) -> None:
        before = self._cells.get(key)
        was_present = before is not None and before.value is not None
        if cell.value is not None and not was_present:
            self._present.insert(bisect_left(self._present, key), key)
        elif cell.value is None and was_present:
            del self._present[bisect_left(self._present, key)]
        self._cells[key] = cell


class Judge:
    """Compares one answered operation with the store at the revision on which it worked, and collects what it wrote.

    For an operation that wrote, `revision` is the one before its own. `writes` are its effects, to be applied by the
    caller if they are acknowledged.
    """

    def __init__(self, replay: Replay, revision: int) -> None:
        self._replay = replay
        self._revision = revision
        self.writes: dict[Key, Value | None] = {}

    def judge(self, action: Action, result: object) -> Mismatch | None:
        """What is wrong with the result, if anything."""
        match action:
            case CompareAndSwap():
                return self._compare_and_swap(action, truth(result, action))
            case Transaction():
                return self._transaction(action, result)
            case _:
                return self._step(action, result)

    def _step(self, step: Step, result: object) -> Mismatch | None:
        match step:
            case Put():
                self.writes[step.key] = step.value
                return None
            case Get():
                return self._sees(step.key, result)
            case Delete():
                return self._delete(step, truth(result, step))
            case Scan():
                return self._scan(step, result)

    def _sees(self, key: Key, value: object) -> Mismatch | None:
        if key in self.writes:
            expected, fits = self.writes[key], self.writes[key] == value
        else:
            expected = self._replay.cell(key).value
            fits = self._replay.observe_value(key, value, self._revision)
        if fits:
            return None
        return Mismatch(f"{key!r} has {_shown(expected)}, but the answer shows {_shown(value)}", key, value)

    def _delete(self, action: Delete, existed: bool) -> Mismatch | None:
        if not existed:
            return self._sees(action.key, None)
        if action.key in self.writes:
            exists = self.writes[action.key] is not None
        else:
            exists = self._replay.could_be_other(action.key, None, self._revision)
        self.writes[action.key] = None
        return None if exists else Mismatch(f"{action.key!r} is absent, but the answer says it was deleted")

    def _compare_and_swap(self, action: CompareAndSwap, swapped: bool) -> Mismatch | None:
        if swapped:
            self.writes[action.key] = action.value
            expected = self._replay.cell(action.key).value
            if self._replay.observe_value(action.key, action.expected, self._revision):
                return None
            text = f"{action.key!r} has {_shown(expected)}, but a swap that expects {_shown(action.expected)} was done"
            return Mismatch(text, action.key, action.expected)
        if self._replay.could_be_other(action.key, action.expected, self._revision):
            return None
        return Mismatch(
            f"{action.key!r} has {_shown(action.expected)}, but a swap that expects it was refused"
        )

    def _transaction(self, action: Transaction, result: object) -> Mismatch | None:
        answered = transaction_result(result, action)
        if answered.succeeded:
            for compare in action.compares:
                if not self._could_be(compare, True):
                    return Mismatch(f"{compare} does not hold, but the transaction went on as if it did")
                if compare.target is Target.VALUE and compare.relation is Relation.EQUAL:
                    if mismatch := self._sees(compare.key, compare.operand):
                        return mismatch
        elif not any(self._could_be(compare, False) for compare in action.compares):
            return Mismatch("all compares hold, but the transaction went on as if one did not")
        for step, answer in zip(action.branch(answered.succeeded), answered.answers, strict=True):
            if mismatch := self._step(step, answer):
                return mismatch
        return None

    def _could_be(self, compare: Compare, verdict: bool) -> bool:
        equal = verdict is (compare.relation is Relation.EQUAL)
        if compare.target is Target.MOD_REVISION:
            return self._replay.could_be_written_at(compare.key, compare.operand, equal, self._revision)
        if equal:
            return self._replay.could_be(compare.key, compare.operand, self._revision)
        return self._replay.could_be_other(compare.key, compare.operand, self._revision)

    def _scan(self, scan: Scan, result: object) -> Mismatch | None:
        pairs = _pairs(result, scan)
        keys = [key for key, _ in pairs]
        if any(key not in scan for key in keys):
            return Mismatch(f"the answer has keys outside the range: {keys}")
        if any(left >= right for left, right in pairwise(keys)):
            return Mismatch(f"the answer's keys are out of order or repeated: {keys}")
        if scan.limit is not None and len(keys) > scan.limit:
            return Mismatch(f"the answer has {len(keys)} pairs, more than its limit")
        shown = dict(pairs)
        for key in sorted({*self._replay.present(scan), *self.writes, *keys}):
            if key in scan and (len(keys) != scan.limit or key <= keys[-1]):
                if mismatch := self._sees(key, shown.get(key)):
                    return mismatch
        return None


def _pairs(result: object, scan: Scan) -> Sequence[tuple[Key, Value]]:
    if not isinstance(result, Sequence) or isinstance(result, str | bytes):
        raise HistoryError(f"{scan} must answer a sequence of pairs, not {result!r}")
    for pair in result:
        if not (
            isinstance(pair, tuple) and len(pair) == 2 and isinstance(pair[0], bytes) and pair[1] is not None
        ):
            raise HistoryError(f"{scan} must answer pairs of key and value, not {pair!r}")
    return result


def _shown(value: object) -> str:
    return "no value" if value is None else repr(value)
