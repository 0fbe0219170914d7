"""A bank: transfers move money between accounts, so every consistent picture of all accounts has the same total.

The workload: clients transfer random amounts (a transaction over two accounts, or a compare-and-swap of one record) and
read all accounts at once (a scan). A read that mixes two states of the store shows a wrong total (Jepsen's "bank"
workload; the classical example of snapshot isolation and its anomalies: Berenson et al., "A critique of ANSI SQL
isolation levels", SIGMOD 1995).

The total does not notice a transfer that is lost or done twice, as a whole. Each account is therefore also held between
two bounds: what the transfers that ended before the read began leave in it, less or plus all that may have been taken
from it or given to it until the read ended. When nothing is under way the two meet.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import TypeAlias

from d_engine.testing.checkers.actions import Consistency
from d_engine.testing.checkers.history import HistoryError, Operation, Outcome, distinct
from d_engine.testing.checkers.violation import Findings, Violation

CHECKER = "bank"
DEFAULT_MAX_VIOLATIONS = 20


@dataclass(frozen=True, slots=True)
class BankTransfer:
    """Move an amount. Result: True if done, False if refused (for lack of money, say) without any effect."""

    source: str
    target: str
    amount: int

    def __post_init__(self) -> None:
        if self.amount < 1:
            raise ValueError("a transfer moves at least 1")


@dataclass(frozen=True, slots=True)
class BankRead:
    """Read all accounts at once. Result: a mapping from account to balance."""

    consistency: Consistency = Consistency.LINEARIZABLE


BankAction: TypeAlias = BankTransfer | BankRead

_Record = Operation[BankAction]


def check_bank(
    operations: Iterable[Operation[BankAction]],
    initial: Mapping[str, int],
    *,
    allow_negative: bool = False,
    max_violations: int = DEFAULT_MAX_VIOLATIONS,
) -> tuple[Violation, ...]:
    """Judge a history of `BankTransfer` and `BankRead`; `initial` are all accounts with their first balances.

    `allow_negative` says whether accounts may be overdrawn. At most `max_violations` are returned.

    Example::

        history = History()
        history.ok(history.invoke("anna", BankTransfer("a", "b", 30)), result=True)
        history.ok(history.invoke("ben", BankRead()), result={"a": 70, "b": 130})
        require(check_bank(history.operations(), {"a": 100, "b": 100}))
    """
    findings = Findings(CHECKER, max_violations)
    history = distinct(operations)
    flows = _flows(history, initial)
    total = sum(initial.values())
    for operation in history:
        if isinstance(operation.action, BankRead) and operation.outcome is Outcome.OK:
            _judge_read(operation, initial, flows, total, allow_negative, findings)
    return findings.done()


def _judge_read(
    read: _Record,
    initial: Mapping[str, int],
    flows: Mapping[str, "_Flows"],
    total: int,
    allow_negative: bool,
    findings: Findings,
) -> None:
    balances = read.result
    if not isinstance(balances, Mapping):
        raise HistoryError(f"a read of the bank must answer a mapping, not {balances!r}")
    if balances.keys() != initial.keys():
        differing = sorted(balances.keys() ^ initial.keys(), key=repr)
        findings.add("I6", f"the read has not the accounts that there are: {differing}", read)
        return
    found = sum(balances.values())
    if found != total:
        findings.add("I6", f"the total is {found}, not {total}", read)
    overdrawn = sorted(account for account, balance in balances.items() if balance < 0)
    if overdrawn and not allow_negative:
        findings.add("I6", f"overdrawn: {overdrawn}", read)
    for account, first in initial.items():
        lowest, highest = flows[account].bounds(read)
        if not first + lowest <= balances[account] <= first + highest:
            text = (
                f"account {account!r} has {balances[account]}, but the transfers before and during the read "
                f"leave between {first + lowest} and {first + highest}: one is lost, or was done twice"
            )
            findings.add("I6", text, read)


class _Sums:
    """Running sums of amounts by time. Amounts are added first, in any order."""

    def __init__(self) -> None:
        self._amounts: list[tuple[int, int]] = []

    def add(self, time: int, amount: int) -> None:
        self._amounts.append((time, amount))

    def before(self, time: int) -> int:
        return self._sums[bisect_left(self._times, time)]

    def upto(self, time: int) -> int:
        return self._sums[bisect_right(self._times, time)]

    @cached_property
    def _times(self) -> list[int]:
        return sorted(time for time, _ in self._amounts)

    @cached_property
    def _sums(self) -> list[int]:
        return [0, *accumulate(amount for _, amount in sorted(self._amounts))]


@dataclass(frozen=True, slots=True)
class _Flows:
    """What moved in and out of one account: `given` and `taken` when asked for, the rest when acknowledged."""

    given: _Sums = field(default_factory=_Sums)
    taken: _Sums = field(default_factory=_Sums)
    surely_given: _Sums = field(default_factory=_Sums)
    surely_taken: _Sums = field(default_factory=_Sums)

    def bounds(self, read: _Record) -> tuple[int, int]:
        """The least and the most by which the balance that is read can have changed."""
        ended = read.invoked if read.completed is None else read.completed
        if read.action == BankRead(Consistency.EVENTUAL):
            return -self.taken.upto(ended), self.given.upto(ended)
        surely_given = self.surely_given.before(read.invoked)
        surely_taken = self.surely_taken.before(read.invoked)
        return surely_given - self.taken.upto(ended), self.given.upto(ended) - surely_taken


def _flows(history: Iterable[_Record], initial: Mapping[str, int]) -> dict[str, _Flows]:
    flows = {account: _Flows() for account in initial}
    for operation in history:
        action = operation.action
        if not isinstance(action, BankTransfer):
            continue
        if action.source not in flows or action.target not in flows:
            raise HistoryError(f"{action} is between accounts of which one has no initial balance")
        if not _may_have_happened(operation):
            continue
        flows[action.target].given.add(operation.invoked, action.amount)
        flows[action.source].taken.add(operation.invoked, action.amount)
        if operation.completed is not None:
            flows[action.target].surely_given.add(operation.completed, action.amount)
            flows[action.source].surely_taken.add(operation.completed, action.amount)
    return flows


def _may_have_happened(operation: _Record) -> bool:
    if operation.outcome is Outcome.OK:
        if not isinstance(operation.result, bool):
            raise HistoryError(f"a transfer must answer True or False, not {operation.result!r}")
        return operation.result
    return operation.outcome is Outcome.UNKNOWN
