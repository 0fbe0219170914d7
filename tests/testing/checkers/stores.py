"""A key-value store that is plainly right, and ways to break it. Independent of the checkers: it keeps every revision
as a whole and knows nothing of time or uncertainty.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from d_engine.testing.checkers import (
    Action,
    Compare,
    CompareAndSwap,
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
    Value,
)
from tests.testing.checkers.generate import Answer, Refused

Contents = dict[bytes, tuple[Value, int]]
"""Each key that is present, with its value and the revision that wrote it."""


@dataclass
class Store:
    """The right one. `snapshots` are the store at each revision from `first` on."""

    rng: Random
    snapshots: list[Contents] = field(default_factory=lambda: [{}])
    first: int = 0

    @property
    def revision(self) -> int:
        return self.first + len(self.snapshots) - 1

    @property
    def contents(self) -> Contents:
        return self.snapshots[-1]

    def apply(self, action: Action, client: str) -> Answer:
        if isinstance(action, Get | Scan):
            return self.read(action)
        return self.write(action)

    def read(self, action: Get | Scan) -> Answer:
        at = len(self.snapshots) - 1
        if action.consistency is Consistency.EVENTUAL:
            at = self.rng.randrange(max(0, action.min_revision - self.first, at - 5), at + 1)
        return look(self.snapshots[at], action), self.first + at

    def write(self, action: Action) -> Answer:
        after = dict(self.contents)
        result, wrote = execute(after, action, self.revision + 1)
        if wrote:
            self.commit(after)
        return result, self.revision

    def commit(self, contents: Contents) -> None:
        self.snapshots.append(contents)


class LongStore(Store):
    """For long histories: remembers only the present."""

    def commit(self, contents: Contents) -> None:
        self.snapshots[0] = contents
        self.first += 1


def look(contents: Contents, action: Get | Scan) -> object:
    if isinstance(action, Get):
        return contents[action.key][0] if action.key in contents else None
    pairs = [(key, contents[key][0]) for key in sorted(contents) if key in action]
    return tuple(pairs[: action.limit])


def execute(contents: Contents, action: Action, revision: int) -> tuple[object, bool]:
    """Change the contents; the result and whether anything was written."""
    match action:
        case Put():
            contents[action.key] = (action.value, revision)
            return None, True
        case Delete():
            return (existed := contents.pop(action.key, None) is not None), existed
        case CompareAndSwap():
            if (contents[action.key][0] if action.key in contents else None) != action.expected:
                return False, False
            contents[action.key] = (action.value, revision)
            return True, True
        case Transaction():
            succeeded = all(holds(contents, compare) for compare in action.compares)
            done = [execute(contents, step, revision) for step in action.branch(succeeded)]
            answers = tuple(answer for answer, _ in done)
            return TransactionResult(succeeded, answers), any(wrote for _, wrote in done)
        case Get() | Scan():
            return look(contents, action), False


def holds(contents: Contents, compare: Compare) -> bool:
    value, mod_revision = contents.get(compare.key, (None, 0))
    actual = value if compare.target is Target.VALUE else mod_revision
    return (actual == compare.operand) == (compare.relation is Relation.EQUAL)


@dataclass
class Workload:
    """Random actions over a few keys. `weights` are for put, get, delete, compare-and-swap, scan, transaction."""

    rng: Random
    keys: int = 4
    values: int | None = None
    eventual: bool = True
    weights: tuple[int, int, int, int, int, int] = (4, 5, 1, 3, 2, 2)
    made: int = 0

    def choose(self, client: str) -> Action:
        makers: tuple[Callable[[], Action], ...] = (
            self.put,
            self.get,
            self.delete,
            self.compare_and_swap,
            self.scan,
            self.transaction,
        )
        urn = [maker for maker, weight in zip(makers, self.weights, strict=True) for _ in range(weight)]
        return self.rng.choice(urn)()

    def key(self) -> bytes:
        return b"k%02d" % self.rng.randrange(self.keys)

    def value(self) -> Value:
        """A new value, or with `values` one of so many."""
        self.made += 1
        return self.made if self.values is None else self.rng.randrange(self.values)

    def known(self) -> Value | None:
        """A value that may be there, or None."""
        if self.rng.random() < 0.3:
            return None
        if self.values is not None:
            return self.rng.randrange(self.values)
        return max(1, self.made - self.rng.randrange(6))

    def consistency(self) -> Consistency:
        return self.rng.choice(list(Consistency)) if self.eventual else Consistency.LINEARIZABLE

    def put(self) -> Put:
        return Put(self.key(), self.value())

    def get(self) -> Get:
        return Get(self.key(), self.consistency())

    def delete(self) -> Delete:
        return Delete(self.key())

    def compare_and_swap(self) -> CompareAndSwap:
        return CompareAndSwap(self.key(), self.known(), self.value())

    def scan(self) -> Scan:
        start, end = sorted((self.key(), self.key()))
        limit = self.rng.choice((None, None, 1, 2))
        return Scan(start, self.rng.choice((None, end)), limit, self.consistency())

    def transaction(self) -> Transaction:
        compares = tuple(self.compare() for _ in range(self.rng.randrange(3)))
        return Transaction(compares, self.steps(), self.steps())

    def compare(self) -> Compare:
        relation = self.rng.choice(list(Relation))
        if self.rng.random() < 0.3:
            return Compare(self.key(), self.rng.randrange(3), relation, Target.MOD_REVISION)
        return Compare(self.key(), self.known(), relation)

    def steps(self) -> tuple[Step, ...]:
        makers: tuple[Callable[[], Step], ...] = (self.put, self.get, self.delete, self.scan)
        return tuple(self.rng.choice(makers)() for _ in range(self.rng.randrange(4)))


# --- broken stores: each does its wrong at some time after a warm-up, and counts how often --------------------------


@dataclass
class BrokenStore(Store):
    """Breaks with the given chance. `broken` counts."""

    chance: float = 0.2
    warm_up: int = 10
    broken: int = 0

    def strikes(self) -> bool:
        if self.revision < self.warm_up or self.rng.random() >= self.chance:
            return False
        self.broken += 1
        return True

    def earlier(self) -> int:
        return max(0, len(self.snapshots) - 1 - self.rng.randrange(3, 8))


class StaleRead(BrokenStore):
    """A deposed leader answers a linearizable read from its old state, honest about the revision."""

    def read(self, action: Get | Scan) -> Answer:
        if action.consistency is Consistency.EVENTUAL or not self.strikes():
            return super().read(action)
        at = self.earlier()
        return look(self.snapshots[at], action), at


class StaleReadMislabelled(BrokenStore):
    """Old data under the present revision."""

    def read(self, action: Get | Scan) -> Answer:
        old, new = look(self.snapshots[0], action), look(self.contents, action)
        if action.consistency is Consistency.EVENTUAL or old == new or not self.strikes():
            return super().read(action)
        return old, self.revision


class LostWrite(BrokenStore):
    """A write is acknowledged but not done."""

    def write(self, action: Action) -> Answer:
        if isinstance(action, Put) and self.strikes():
            return None, self.revision + 1
        return super().write(action)


class AppliedTwice(BrokenStore):
    """A retry is applied again."""

    def write(self, action: Action) -> Answer:
        answer = super().write(action)
        if isinstance(action, Put) and self.strikes():
            super().write(action)
        return answer


class BothSwap(BrokenStore):
    """A compare-and-swap succeeds on a value that is no longer there."""

    def write(self, action: Action) -> Answer:
        if isinstance(action, CompareAndSwap) and self.strikes():
            self.broken -= look(self.contents, Get(action.key)) == action.expected
            return True, super().write(Put(action.key, action.value))[1]
        return super().write(action)


class NeverWritten(BrokenStore):
    """A read returns garbage."""

    def read(self, action: Get | Scan) -> Answer:
        if isinstance(action, Get) and self.strikes():
            return b"garbage", self.revision
        return super().read(action)


class RolledBack(BrokenStore):
    """Acknowledged writes vanish at a change of leader: revisions start again from an earlier one."""

    def write(self, action: Action) -> Answer:
        if self.strikes():
            del self.snapshots[-3:]
        return super().write(action)


class FailedButDone(BrokenStore):
    """The client is told that nothing happened, but it did."""

    def write(self, action: Action) -> Answer:
        answer = super().write(action)
        if isinstance(action, Put) and self.strikes():
            raise Refused
        return answer


class TornScan(BrokenStore):
    """A scan mixes the present with the past."""

    def read(self, action: Get | Scan) -> Answer:
        if not isinstance(action, Scan) or action.consistency is Consistency.EVENTUAL:
            return super().read(action)
        new, old = look(self.contents, action), look(self.snapshots[self.earlier()], action)
        if not isinstance(new, tuple) or not isinstance(old, tuple) or not new or new[1:] == old[1:]:
            return super().read(action)
        if not self.strikes():
            return super().read(action)
        torn = dict(new[:1])
        torn |= {key: value for key, value in old if key > new[0][0]}
        self.broken -= tuple(torn.items()) == new
        return tuple(torn.items()), self.revision


class TornTransaction(BrokenStore):
    """Only the first step of a transaction is done."""

    def write(self, action: Action) -> Answer:
        whole = dict(self.contents)
        result, wrote = execute(whole, action, self.revision + 1)
        if isinstance(result, TransactionResult) and wrote and isinstance(action, Transaction):
            half = dict(self.contents)
            execute(half, Transaction((), action.branch(result.succeeded)[:1]), self.revision + 1)
            if half != whole and self.strikes():
                self.commit(half)
                return result, self.revision
        return super().write(action)


class RepeatedRevision(BrokenStore):
    """A write takes effect under the revision of the one before."""

    def write(self, action: Action) -> Answer:
        answer = super().write(action)
        if isinstance(action, Put) and self.strikes():
            last = self.snapshots.pop()
            self.snapshots[-1] = last
            return None, self.revision
        return answer


class Resurrected(BrokenStore):
    """A deleted key comes back."""

    def write(self, action: Action) -> Answer:
        answer = super().write(action)
        if isinstance(action, Delete) and answer[0] is True and self.strikes():
            before = self.snapshots[-2][action.key]
            self.snapshots[-1] = {**self.contents, action.key: before}
        return answer


class GhostWrite(BrokenStore):
    """A key changes though nobody asked."""

    def write(self, action: Action) -> Answer:
        if self.strikes():
            self.commit({**self.contents, b"k00": ("ghost", self.revision + 1)})
        return super().write(action)


BROKEN_STORES: tuple[type[BrokenStore], ...] = (
    StaleRead,
    StaleReadMislabelled,
    LostWrite,
    AppliedTwice,
    BothSwap,
    NeverWritten,
    RolledBack,
    FailedButDone,
    TornScan,
    TornTransaction,
    RepeatedRevision,
    Resurrected,
    GhostWrite,
)
