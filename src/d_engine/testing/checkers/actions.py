"""What clients of the key-value store ask for, and the shape of each answer.

All are immutable values. Keys are bytes, ordered as bytes; values are anything hashable but None, which stands for
"the key is absent". The checkers ask nothing of the engine but these shapes, so any store can be put to the test.
"""

from collections.abc import Hashable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from d_engine.testing.checkers.history import HistoryError

Key: TypeAlias = bytes
Value: TypeAlias = Hashable


class Consistency(Enum):
    """How fresh a read must be.

    `LINEARIZABLE` and `LEASE` reads see every operation that ended before they began. `EVENTUAL` reads see the store
    as it once was: whole and at one revision, but possibly an old one.
    """

    LINEARIZABLE = "linearizable"
    LEASE = "lease"
    EVENTUAL = "eventual"


@dataclass(frozen=True, slots=True)
class Put:
    """Set a key. The result is not looked at."""

    key: Key
    value: Value

    def __post_init__(self) -> None:
        _must_not_be_none(self.value)


@dataclass(frozen=True, slots=True)
class Get:
    """Read a key. Result: the value, None if the key is absent."""

    key: Key
    consistency: Consistency = Consistency.LINEARIZABLE
    min_revision: int = 0


@dataclass(frozen=True, slots=True)
class Delete:
    """Remove a key. Result: True if it was there, False (and no new revision) if not."""

    key: Key


@dataclass(frozen=True, slots=True)
class CompareAndSwap:
    """Set a key if its value is `expected` (None: if it is absent). Result: True if so, False if not."""

    key: Key
    expected: Value | None
    value: Value

    def __post_init__(self) -> None:
        _must_not_be_none(self.value)


@dataclass(frozen=True, slots=True)
class Scan:
    """Read the keys from `start` up to but without `end` (None: to the last), at most `limit` of them.

    Result: the (key, value) pairs in the order of keys, as a sequence.
    """

    start: Key = b""
    end: Key | None = None
    limit: int | None = None
    consistency: Consistency = Consistency.LINEARIZABLE
    min_revision: int = 0

    def __post_init__(self) -> None:
        if self.limit is not None and self.limit < 1:
            raise ValueError("a limit must be at least 1")

    def __contains__(self, key: object) -> bool:
        return isinstance(key, bytes) and key >= self.start and (self.end is None or key < self.end)


class Target(Enum):
    """What of a key is compared: its value (absent: None), or the revision that last wrote it (absent: 0)."""

    VALUE = "value"
    MOD_REVISION = "mod_revision"


class Relation(Enum):
    """How it is compared."""

    EQUAL = "=="
    NOT_EQUAL = "!="


@dataclass(frozen=True, slots=True)
class Compare:
    """One condition of a transaction."""

    key: Key
    operand: Value | None
    relation: Relation = Relation.EQUAL
    target: Target = Target.VALUE

    def holds(self, actual: Value | None) -> bool:
        """Whether the condition is true of what the store has."""
        return (actual == self.operand) is (self.relation is Relation.EQUAL)


Step: TypeAlias = Put | Get | Delete | Scan


@dataclass(frozen=True, slots=True)
class Transaction:
    """If all `compares` hold do `then`, else `otherwise`: at once, at one revision, in order.

    Result: a `TransactionResult`. A later step sees what an earlier one wrote. The transaction makes a revision if
    it puts a key, or deletes one that was there.
    """

    compares: tuple[Compare, ...] = ()
    then: tuple[Step, ...] = ()
    otherwise: tuple[Step, ...] = ()

    def branch(self, succeeded: bool) -> tuple[Step, ...]:
        """The steps that are done."""
        return self.then if succeeded else self.otherwise


@dataclass(frozen=True, slots=True)
class TransactionResult:
    """Whether the compares held, and the result of each step that was done."""

    succeeded: bool
    answers: tuple[object, ...] = ()


Action: TypeAlias = Put | Get | Delete | CompareAndSwap | Scan | Transaction


def consistency_of(action: Action) -> Consistency:
    """How fresh the action must be; everything but a read that says otherwise is linearizable."""
    return action.consistency if isinstance(action, Get | Scan) else Consistency.LINEARIZABLE


def written(action: Action) -> Iterator[tuple[Key, Value | None]]:
    """Every key with every value (None: absent) that the action may write, whatever its compares say."""
    match action:
        case Put() | CompareAndSwap():
            yield action.key, action.value
        case Delete():
            yield action.key, None
        case Transaction():
            for step in action.then + action.otherwise:
                yield from written(step)
        case Get() | Scan():
            pass


def truth(result: object, action: Action) -> bool:
    """The result of an action that answers True or False; anything else is a fault of the recording."""
    if not isinstance(result, bool):
        raise HistoryError(f"{action} must answer True or False, not {result!r}")
    return result


def transaction_result(result: object, action: Transaction) -> TransactionResult:
    """The result of a transaction, with as many answers as steps; anything else is a fault of the recording."""
    if not isinstance(result, TransactionResult):
        raise HistoryError(f"{action} must answer a TransactionResult, not {result!r}")
    if len(result.answers) != len(action.branch(result.succeeded)):
        raise HistoryError(f"{action} must have one answer for each step, not {result!r}")
    return result


def _must_not_be_none(value: Value | None) -> None:
    if value is None:
        raise ValueError("None means that a key is absent; it cannot be stored")
