"""Transfers between accounts, and reads of all accounts: the bank checker looks at their sum."""

from collections.abc import Mapping
from functools import partial

from d_engine.testing.checkers.actions import Compare, Put, Transaction, TransactionResult
from d_engine.testing.checkers.bank import BankRead, BankTransfer
from d_engine.testing.checkers.history import Handle
from d_engine.testing.sim.work.kind import FinalRead, Hand, Line, Operation, end
from d_engine.testing.sim.work.transactions import write_transaction

ACCOUNT = b"b/"
_ACCOUNTS = tuple(f"b/{number}" for number in range(5))
_FIRST_BALANCE = 100
FIRST_BALANCES = dict.fromkeys(_ACCOUNTS, _FIRST_BALANCE)
"""An account that was never written has its first balance."""


class Bank:
    """One client's part in it."""

    def __init__(self, hand: Hand) -> None:
        self._hand = hand
        self._history = hand.histories.bank

    @property
    def operations(self) -> Mapping[str, Operation]:
        return {"transfer": self._transfer}

    def final_read(self) -> FinalRead:
        return partial(self._end_read, self._history.invoke(self._hand.name, BankRead()))

    def _transfer(self, line: Line) -> None:
        """Read all accounts, then move some money if nobody was faster."""
        hand, consistency = self._hand, self._hand.consistency()
        handle = self._history.invoke(hand.name, BankRead(consistency), session=line)
        hand.asker.read_prefix(line, ACCOUNT, consistency, partial(self._balances_read, line, handle))

    def _balances_read(self, line: Line, handle: Handle, result: object, known: bool | None) -> None:
        hand, texts = self._hand, dict(result) if isinstance(result, tuple) else {}
        self._end_read(handle, texts, known)
        balances = balances_of(texts)
        source, target = hand.rng.sample(_ACCOUNTS, 2)
        if not known or balances[source] < 1:
            hand.done(line)
            return
        amount = hand.rng.randint(1, balances[source])
        transfer = self._history.invoke(hand.name, BankTransfer(source, target, amount), session=line)
        after = {source: balances[source] - amount, target: balances[target] + amount}
        action = Transaction(
            tuple(Compare(account.encode(), texts.get(account.encode())) for account in after),
            tuple(Put(account.encode(), b"%d" % balance) for account, balance in after.items()),
        )
        write_transaction(hand, line, action, partial(self._transferred, line, transfer))

    def _transferred(self, line: Line, handle: Handle, result: object, known: bool | None) -> None:
        end(self._history, handle, isinstance(result, TransactionResult) and result.succeeded, known)
        self._hand.done(line)

    def _end_read(self, handle: Handle, pairs: dict[bytes, bytes], known: bool | None) -> None:
        if known:
            self._history.ok(handle, balances_of(pairs))
        else:
            self._history.fail(handle)


def balances_of(pairs: dict[bytes, bytes]) -> dict[str, int]:
    """All balances, by keys and values (others than accounts are left out)."""
    return {account: int(pairs.get(account.encode(), _FIRST_BALANCE)) for account in _ACCOUNTS}
