"""Transactions of all shapes over a few keys: conditions, puts, deletes, gets, ranges read and ranges deleted.

The revision checker replays them. A range that is deleted is read in the same transaction, so that it can be recorded
as the deletion of each of its keys.
"""

from collections.abc import Callable, Mapping

from d_engine.kv import transactions as kv
from d_engine.kv.commands import encode_transaction
from d_engine.kv.ranges import prefix_end
from d_engine.kv.results import decode_transaction_done
from d_engine.testing.checkers.actions import (
    Compare,
    Delete,
    Get,
    Put,
    Relation,
    Scan,
    Step,
    Target,
    Transaction,
    TransactionResult,
)
from d_engine.testing.sim.asking import Decode, Result, Then
from d_engine.testing.sim.violations import InvariantBroken
from d_engine.testing.sim.work.kind import FinalRead, Hand, Line, Operation, no_final_read

TRANSACTED = b"t/"
_KEYS = tuple(TRANSACTED + b"%d" % number for number in range(4))


class Transactions:
    """One client's part in it."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._rng = hand.rng
        self._revisions: dict[bytes, int] = {}
        """By key, the mod revision that was seen last; 0: it was absent."""

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"transact": self._transact}

    def final_read(self) -> FinalRead:
        return no_final_read()

    def _transact(self, line: Line) -> None:
        if self._rng.random() < 0.1:
            self._purge(line)
            return
        conditions = [self._condition(key) for key in self._rng.sample(_KEYS, self._rng.choice((0, 1, 1, 2)))]
        action = Transaction(tuple(conditions), self._steps(), self._steps())
        write_transaction(self._hand, line, action, self._done(line), self._learn)

    def _done(self, line: Line) -> Then:
        return lambda result, known: self._hand.done(line)

    def _condition(self, key: bytes) -> Compare:
        relation = self._rng.choice((Relation.EQUAL, Relation.EQUAL, Relation.NOT_EQUAL))
        if self._rng.random() < 0.5:
            return Compare(key, self._revisions.get(key, 0), relation, Target.MOD_REVISION)
        return Compare(key, self._hand.asker.seen.get(key), relation)

    def _steps(self) -> tuple[Step, ...]:
        steps: list[Step] = []
        for key in self._rng.sample(_KEYS, self._rng.choice((1, 2, 2, 3))):
            chance = self._rng.random()
            if chance < 0.5:
                steps.append(Put(key, self._hand.unique()))
            elif chance < 0.7:
                steps.append(Delete(key))
            if chance > 0.4:
                steps.append(Get(key))
        if self._rng.random() < 0.3:
            scan = Scan(TRANSACTED, prefix_end(TRANSACTED), self._rng.choice((1, 2, 10)))
            steps.insert(self._rng.randrange(len(steps) + 1), scan)
        return tuple(steps)

    def _purge(self, line: Line) -> None:
        """Read the range and delete it."""
        end = prefix_end(TRANSACTED)
        steps = (kv.GetRangeStep(TRANSACTED, end, 100), kv.DeleteRangeStep(TRANSACTED, end))
        asked = kv.Transaction((), steps, ())

        def decode(result: bytes) -> Result:
            answer = decode_transaction_done(result, asked)
            self._learn(answer)
            found, deleted = answer.steps
            if not isinstance(found, kv.GotRange) or not isinstance(deleted, kv.DeleteRangeDone):
                raise InvariantBroken("I13", f"a purge is answered with {answer}")
            # As many as it says were deleted: the checker knows whether that can be.
            keys = [item.key for item in found.items]
            keys = [*keys, *(key for key in _KEYS if key not in keys)][: deleted.count]
            return TransactionResult(True, tuple(key in keys for key in _KEYS)), answer.revision

        action = Transaction((), tuple(map(Delete, _KEYS)))
        _write(self._hand, line, action, asked, decode, self._done(line))

    def _learn(self, answer: kv.TransactionDone) -> None:
        """Remember what was read: conditions on it have a chance to hold."""
        for step in answer.steps:
            entries = (
                (step.entry,)
                if isinstance(step, kv.Got)
                else step.items
                if isinstance(step, kv.GotRange)
                else ()
            )
            for entry in entries:
                if entry is not None:
                    self._hand.asker.seen[entry.key] = entry.value
                    self._revisions[entry.key] = entry.mod_revision


def write_transaction(
    hand: Hand,
    line: Line,
    action: Transaction,
    then: Then,
    learn: Callable[[kv.TransactionDone], None] = lambda answer: None,
) -> None:
    """Ask for a transaction as the checkers know it. `then` gets a `TransactionResult`, `learn` the answer itself."""
    asked = kv.Transaction(
        tuple(map(_condition_of, action.compares)),
        tuple(map(_step_of, action.then)),
        tuple(map(_step_of, action.otherwise)),
    )

    def decode(result: bytes) -> Result:
        answer = decode_transaction_done(result, asked)
        learn(answer)
        return TransactionResult(answer.succeeded, tuple(map(_answer_of, answer.steps))), answer.revision

    _write(hand, line, action, asked, decode, then)


def _write(
    hand: Hand, line: Line, action: Transaction, asked: kv.Transaction, decode: Decode, then: Then
) -> None:
    large = kv.result_bound(asked) is None
    hand.asker.write(line, action, encode_transaction(asked), decode, then, large)


def _condition_of(compare: Compare) -> kv.Condition:
    operand = compare.operand
    equal = compare.relation is Relation.EQUAL
    relation = kv.EQUAL if equal else kv.NOT_EQUAL
    if compare.target is Target.MOD_REVISION and isinstance(operand, int):
        return kv.Condition(compare.key, kv.MOD_REVISION, relation, operand)
    if isinstance(operand, bytes):
        return kv.Condition(compare.key, kv.VALUE, relation, operand)
    return kv.Condition(compare.key, kv.VERSION, kv.EQUAL if equal else kv.GREATER, 0)


def _step_of(step: Step) -> kv.Step:
    match step:
        case Put(key, value) if isinstance(value, bytes):
            return kv.PutStep(key, value)
        case Delete(key):
            return kv.DeleteStep(key)
        case Get(key):
            return kv.GetStep(key)
        case Scan(start, end, limit):
            return kv.GetRangeStep(start, end, limit or 1)
        case _:
            raise InvariantBroken("I13", f"{step} cannot be asked for")


def _answer_of(done: kv.StepDone) -> object:
    match done:
        case kv.DeleteDone():
            return done.deleted
        case kv.Got():
            return None if done.entry is None else done.entry.value
        case kv.GotRange():
            return tuple((item.key, item.value) for item in done.items)
        case kv.PutDone() | kv.DeleteRangeDone():
            return None
