"""Checkers: was the system correct, judged by nothing but what its clients saw?

Record a `History` while clients work, whatever happens to the system meanwhile, and hand its operations to one or more
checkers. They know nothing of the engine; they judge any store, and with a `Model` of your own any object.

    history: History[Action] = History()
    ...
    require(check_revisions(history.operations()))
    require(check_linearizability(history.operations()).violations)

| checker | judges | needs | cost |
| --- | --- | --- | --- |
| `check_linearizability` | any object with a sequential model | nothing | exponential at worst, bounded |
| `check_revisions` | the key-value store, with scans and transactions | a revision in each answer | O(n log n) |
| `check_watch` | a watch, against everything that was written | all events | linear |
| `check_set`, `check_append` | a set, lists that only grow | unique elements, a final read | near linear |
| `check_bank` | a constant total over accounts | reads of all accounts | near linear |
| `check_locks` | locks with fencing tokens | the resource's view | O(n log n) |
"""

from d_engine.testing.checkers.actions import (
    Action,
    Compare,
    CompareAndSwap,
    Consistency,
    Delete,
    Get,
    Key,
    Put,
    Relation,
    Scan,
    Step,
    Target,
    Transaction,
    TransactionResult,
    Value,
)
from d_engine.testing.checkers.append import ListAction, ListAppend, ListRead, check_append
from d_engine.testing.checkers.bank import BankAction, BankRead, BankTransfer, check_bank
from d_engine.testing.checkers.history import Handle, History, HistoryError, Operation, Outcome
from d_engine.testing.checkers.linearizability import (
    LinearizabilityReport,
    PartReport,
    Verdict,
    check_linearizability,
)
from d_engine.testing.checkers.locks import LockAcquire, LockAction, LockRelease, LockUse, check_locks
from d_engine.testing.checkers.models import KeyValueModel, Model
from d_engine.testing.checkers.revisions import check_revisions
from d_engine.testing.checkers.sets import SetAction, SetAdd, SetRead, check_set
from d_engine.testing.checkers.violation import CheckFailed, Violation, require
from d_engine.testing.checkers.watches import check_watch

__all__ = [
    "Action",
    "BankAction",
    "BankRead",
    "BankTransfer",
    "CheckFailed",
    "Compare",
    "CompareAndSwap",
    "Consistency",
    "Delete",
    "Get",
    "Handle",
    "History",
    "HistoryError",
    "Key",
    "KeyValueModel",
    "LinearizabilityReport",
    "ListAction",
    "ListAppend",
    "ListRead",
    "LockAcquire",
    "LockAction",
    "LockRelease",
    "LockUse",
    "Model",
    "Operation",
    "Outcome",
    "PartReport",
    "Put",
    "Relation",
    "Scan",
    "SetAction",
    "SetAdd",
    "SetRead",
    "Step",
    "Target",
    "Transaction",
    "TransactionResult",
    "Value",
    "Verdict",
    "Violation",
    "check_append",
    "check_bank",
    "check_linearizability",
    "check_locks",
    "check_revisions",
    "check_set",
    "check_watch",
    "require",
]
