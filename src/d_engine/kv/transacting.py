"""Carrying a transaction out. The store's rules do the rest: one revision, and an odd epoch while keys change.

What a transaction reads is limited before anything is written: single reads that would exceed the limit together make
it invalid, ranges are cut short.
"""

from collections.abc import Sequence

from d_engine.format.errors import InvalidRequestError, InvariantViolation
from d_engine.format.ids import Nanoseconds
from d_engine.kv.holding import check_holds, lease_for
from d_engine.kv.key_value import KeyValue
from d_engine.kv.store import Store
from d_engine.kv.transactions import (
    CREATE_REVISION,
    EQUAL,
    LEASE,
    LESS,
    MAX_RESULT_BYTES,
    MOD_REVISION,
    NOT_EQUAL,
    VALUE,
    VERSION,
    Condition,
    DeleteDone,
    DeleteRangeDone,
    DeleteRangeStep,
    DeleteStep,
    GetRangeStep,
    GetStep,
    Got,
    GotRange,
    HeldPutStep,
    PutDone,
    PutStep,
    Step,
    StepDone,
    Transaction,
    TransactionDone,
)

_PUT_DONE = PutDone()


def transact(store: Store, transaction: Transaction, log_time: Nanoseconds) -> TransactionDone:
    """Do it. Raises `InvalidRequestError`, and does nothing, if it would read too much; so it does what `check_holds`
    raises."""
    succeeded = True
    for condition in transaction.when:
        if not holds(condition, store.get(condition.key)):
            succeeded = False
            break
    steps = transaction.then if succeeded else transaction.otherwise
    room = MAX_RESULT_BYTES - _bytes_to_read(store, steps)
    check_holds(store.leases, [(s.key, s.hold, s.number) for s in steps if isinstance(s, HeldPutStep)])
    # Also for a single write: two additions cost less than finding out.
    store.begin_change()
    branch = _Branch(store, room, log_time)
    done = [branch.do(step) for step in steps]
    store.end_change(branch.wrote)
    return TransactionDone(succeeded, store.revision, tuple(done))


def holds(condition: Condition, entry: KeyValue | None) -> bool:
    """Whether the condition is true of the key's entry."""
    target, relation, operand = condition.target, condition.relation, condition.operand
    if target == VALUE:
        if entry is None:
            return relation == NOT_EQUAL
        return _compare(entry.value, relation, operand)
    return _compare(0 if entry is None else _number(entry, target), relation, operand)


def _number(entry: KeyValue, target: int) -> int:
    if target == VERSION:
        return entry.version
    if target == MOD_REVISION:
        return entry.mod_revision
    if target == CREATE_REVISION:
        return entry.create_revision
    if target == LEASE:
        return entry.lease
    raise InvariantViolation(f"a condition looks at {target}, which is nothing")


def _compare(actual: bytes | int, relation: int, operand: bytes | int) -> bool:
    if relation == EQUAL:
        return actual == operand
    if relation == NOT_EQUAL:
        return actual != operand
    if isinstance(actual, bytes) and isinstance(operand, bytes):
        return actual < operand if relation == LESS else actual > operand
    if isinstance(actual, int) and isinstance(operand, int):
        return actual < operand if relation == LESS else actual > operand
    raise InvariantViolation("a condition compares a value with a number")


def _bytes_to_read(store: Store, steps: Sequence[Step]) -> int:
    """How much the single reads will find."""
    count = len([step for step in steps if type(step) is GetStep])
    if not count:
        return 0
    total = 0
    written: dict[bytes, int] = {}
    for step in steps:
        if isinstance(step, PutStep | HeldPutStep):
            written[step.key] = len(step.key) + len(step.value)
        elif isinstance(step, DeleteStep):
            written[step.key] = 0
        elif isinstance(step, GetStep):
            size = written.get(step.key)
            total += size if size is not None else _size(store.get(step.key))
    if total > MAX_RESULT_BYTES and count > 1:
        raise InvalidRequestError(
            f"a transaction's {count} reads would find {total} bytes, which may be at most {MAX_RESULT_BYTES}"
        )
    return total


def _size(entry: KeyValue | None) -> int:
    return 0 if entry is None else len(entry.key) + len(entry.value)


class _Branch:
    """The steps of one branch, being done. `room`: bytes that ranges may still read."""

    __slots__ = ("_log_time", "_room", "_store", "wrote")

    def __init__(self, store: Store, room: int, log_time: Nanoseconds) -> None:
        self.wrote = False
        self._log_time = log_time
        self._store = store
        self._room = room

    def do(self, step: Step) -> StepDone:
        """Do one step."""
        store = self._store
        if isinstance(step, PutStep):
            store.put_in_change(step.key, step.value)
            self.wrote = True
            return _PUT_DONE
        if isinstance(step, HeldPutStep):
            lease = lease_for(store, step.key, step.hold, step.number, self._log_time)
            store.put_in_change(step.key, step.value, lease)
            self.wrote = True
            return _PUT_DONE
        if isinstance(step, GetStep):
            return Got(store.get(step.key))
        if isinstance(step, DeleteStep):
            deleted = store.delete_in_change(step.key)
            self.wrote |= deleted
            return DeleteDone(deleted)
        if isinstance(step, DeleteRangeStep):
            count = store.delete_range_in_change(step.start, step.end)
            self.wrote |= count > 0
            return DeleteRangeDone(count)
        return self._get_range(step)

    def _get_range(self, step: GetRangeStep) -> GotRange:
        items: list[KeyValue] = []
        for entry in self._store.range(step.start, step.end):
            size = _size(entry)
            if len(items) == step.limit or size > self._room:
                return GotRange(tuple(items), True)
            self._room -= size
            items.append(entry)
        return GotRange(tuple(items), False)
