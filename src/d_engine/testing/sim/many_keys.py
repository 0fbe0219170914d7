"""What simulated clients do with several keys at once, in two ways that different checkers look at.

*Transactions* of all shapes over a few keys: conditions, puts, deletes, gets, ranges read and ranges deleted. The
revision checker replays them. A range that is deleted is read in the same transaction, so that it can be recorded as
the deletion of each of its keys. *Transfers* between accounts, and reads of all accounts: the bank checker looks at
their sum. Nobody else writes these keys.
"""

from collections.abc import Callable
from functools import partial
from random import Random

from d_engine.kv import transactions as kv
from d_engine.kv.commands import encode_transaction
from d_engine.kv.ranges import prefix_end
from d_engine.kv.results import decode_transaction_done
from d_engine.testing.checkers.actions import (
    Compare,
    Consistency,
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
from d_engine.testing.checkers.bank import BankAction, BankRead, BankTransfer
from d_engine.testing.checkers.history import Handle, History
from d_engine.testing.sim.asking import Asker, Result, Then
from d_engine.testing.sim.violations import InvariantBroken

TRANSACTED, ACCOUNT = b"t/", b"b/"
_KEYS = tuple(TRANSACTED + b"%d" % number for number in range(4))
_ACCOUNTS = tuple(f"b/{number}" for number in range(5))
_FIRST_BALANCE = 100
FIRST_BALANCES = dict.fromkeys(_ACCOUNTS, _FIRST_BALANCE)
"""An account that was never written has its first balance."""


class ManyKeys:
    """One client's part in it."""

    def __init__(
        self,
        name: str,
        asker: Asker,
        rng: Random,
        bank: History[BankAction],
        unique: Callable[[], bytes],
        done: Callable[[int], None],
    ) -> None:
        """`unique` makes values; `done` is told of each line whose operation has ended."""
        self._name = name
        self._asker = asker
        self._rng = rng
        self._bank = bank
        self._unique = unique
        self._done = done
        self._revisions: dict[bytes, int] = {}
        """By key, the mod revision that was seen last; 0: it was absent."""

    # --- transactions ---------------------------------------------------------------------------------------

    def transact(self, line: int) -> None:
        """Any transaction."""
        if self._rng.random() < 0.1:
            self._purge(line)
            return
        conditions = [self._condition(key) for key in self._rng.sample(_KEYS, self._rng.choice((0, 1, 1, 2)))]
        action = Transaction(tuple(conditions), self._steps(), self._steps())
        asked = kv.Transaction(
            tuple(map(_condition_of, action.compares)),
            tuple(map(_step_of, action.then)),
            tuple(map(_step_of, action.otherwise)),
        )

        def decode(result: bytes) -> Result:
            answer = decode_transaction_done(result, asked)
            self._learn(answer)
            answers = tuple(map(_answer_of, answer.steps))
            return TransactionResult(answer.succeeded, answers), answer.revision

        self._write(line, action, asked, decode, lambda result, known: self._done(line))

    def _condition(self, key: bytes) -> Compare:
        relation = self._rng.choice((Relation.EQUAL, Relation.EQUAL, Relation.NOT_EQUAL))
        if self._rng.random() < 0.5:
            return Compare(key, self._revisions.get(key, 0), relation, Target.MOD_REVISION)
        return Compare(key, self._asker.seen.get(key), relation)

    def _steps(self) -> tuple[Step, ...]:
        steps: list[Step] = []
        for key in self._rng.sample(_KEYS, self._rng.choice((1, 2, 2, 3))):
            chance = self._rng.random()
            if chance < 0.5:
                steps.append(Put(key, self._unique()))
            elif chance < 0.7:
                steps.append(Delete(key))
            if chance > 0.4:
                steps.append(Get(key))
        if self._rng.random() < 0.3:
            scan = Scan(TRANSACTED, prefix_end(TRANSACTED), self._rng.choice((1, 2, 10)))
            steps.insert(self._rng.randrange(len(steps) + 1), scan)
        return tuple(steps)

    def _purge(self, line: int) -> None:
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
        self._write(line, action, asked, decode, lambda result, known: self._done(line))

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
                    self._asker.seen[entry.key] = entry.value
                    self._revisions[entry.key] = entry.mod_revision

    def _write(
        self,
        line: int,
        action: Transaction,
        asked: kv.Transaction,
        decode: Callable[[bytes], Result],
        then: Then,
    ) -> None:
        large = kv.result_bound(asked) is None
        self._asker.write(line, action, encode_transaction(asked), decode, then, large)

    # --- the bank -------------------------------------------------------------------------------------------

    def transfer(self, line: int, consistency: Consistency) -> None:
        """Read all accounts, then move some money if nobody was faster."""
        handle = self._bank.invoke(self._name, BankRead(consistency), session=line)
        self._asker.read_prefix(line, ACCOUNT, consistency, partial(self._balances_read, line, handle))

    def _balances_read(self, line: int, handle: Handle, result: object, known: bool | None) -> None:
        balances = balances_of(result)
        self.end_read(handle, result, known)
        source, target = self._rng.sample(_ACCOUNTS, 2)
        if not known or balances[source] < 1:
            self._done(line)
            return
        amount = self._rng.randint(1, balances[source])
        transfer = self._bank.invoke(self._name, BankTransfer(source, target, amount), session=line)
        texts = dict(result) if isinstance(result, tuple) else {}
        after = {source: balances[source] - amount, target: balances[target] + amount}
        action = Transaction(
            tuple(Compare(account.encode(), texts.get(account.encode())) for account in after),
            tuple(Put(account.encode(), b"%d" % balance) for account, balance in after.items()),
        )
        asked = kv.Transaction(
            tuple(map(_condition_of, action.compares)), tuple(map(_step_of, action.then)), ()
        )

        def decode(result: bytes) -> Result:
            answer = decode_transaction_done(result, asked)
            answers = tuple(map(_answer_of, answer.steps))
            return TransactionResult(answer.succeeded, answers), answer.revision

        self._write(line, action, asked, decode, partial(self._transferred, line, transfer))

    def _transferred(self, line: int, handle: Handle, result: object, known: bool | None) -> None:
        if known is None:
            self._bank.unknown(handle)
        elif known and isinstance(result, TransactionResult):
            self._bank.ok(handle, result.succeeded)
        else:
            self._bank.fail(handle)
        self._done(line)

    def begin_read(self) -> Handle:
        """A linearizable read of all accounts begins, by other means."""
        return self._bank.invoke(self._name, BankRead())

    def end_read(self, handle: Handle, pairs: object, known: bool | None) -> None:
        """A read has ended with these pairs of keys and values."""
        if known:
            self._bank.ok(handle, balances_of(pairs))
        else:
            self._bank.fail(handle)


def balances_of(pairs: object) -> dict[str, int]:
    """All balances, by pairs of keys and values (others than accounts are left out)."""
    found = dict(pairs) if isinstance(pairs, tuple) else {}
    return {account: int(found.get(account.encode(), _FIRST_BALANCE)) for account in _ACCOUNTS}


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
