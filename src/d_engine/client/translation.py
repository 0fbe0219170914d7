"""From the operations that callers write down to commands of the state machine, and back.

All mistakes that a caller can make are found here, before anything is sent.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from d_engine.client.lease import Lease, lease_number, ttl_ns
from d_engine.client.operations import (
    Compare,
    Delete,
    DeleteRange,
    Get,
    GetRange,
    Operation,
    OperationResult,
    Put,
    Text,
    TxnResult,
    Write,
    WriteOutcome,
    WriteResult,
)
from d_engine.format.errors import InvalidRequestError
from d_engine.format.ids import MAX_U63
from d_engine.format.limits import MAX_COMMAND_BYTES
from d_engine.kv import transactions as kv
from d_engine.kv.commands import (
    encode_delete,
    encode_delete_range,
    encode_held_put,
    encode_put,
    encode_transaction,
)
from d_engine.kv.holding import FOR_EVER, KEEP_LEASE, ON_LEASE, WITH_TTL
from d_engine.kv.queries import Scan
from d_engine.kv.ranges import prefix_end
from d_engine.kv.results import (
    DeleteRangeResult,
    DeleteResult,
    decode_delete,
    decode_delete_range,
    decode_put,
)

_TARGETS = {
    "value": kv.VALUE,
    "version": kv.VERSION,
    "create_revision": kv.CREATE_REVISION,
    "mod_revision": kv.MOD_REVISION,
    "lease": kv.LEASE,
}
_RELATIONS = {"==": kv.EQUAL, "!=": kv.NOT_EQUAL, "<": kv.LESS, ">": kv.GREATER}

_Range: TypeAlias = tuple[bytes, bytes | None]


def hold_of(lease: Lease | int | None, ttl: float | None, keep_lease: bool) -> tuple[int, int]:
    """How long a key shall stay (`d_engine.kv.holding`). Raises `InvalidRequestError`, `LeaseNotFoundError`."""
    if (lease is not None) + (ttl is not None) + keep_lease > 1:
        raise InvalidRequestError(
            "a key stays for a lease, for a TTL, or as long as before: give one of them"
        )
    if lease is not None:
        return ON_LEASE, lease_number(lease)
    if ttl is not None:
        return WITH_TTL, ttl_ns(ttl)
    return KEEP_LEASE if keep_lease else FOR_EVER, 0


class Translator(NamedTuple):
    """`key` and `value` make bytes of text and raise `InvalidRequestError` for what is too long or of a wrong type."""

    key: Callable[[Text], bytes]
    value: Callable[[Text], bytes]

    def range(self, start: Text | None, end: Text | None, prefix: Text | None) -> _Range:
        """The range that is meant; all keys if nothing is said."""
        if prefix is None:
            return b"" if start is None else self.key(start), None if end is None else self.key(end)
        if start is not None or end is not None:
            raise InvalidRequestError("a range is given by its prefix, or by start and end, not by both")
        first = self.key(prefix)
        return first, prefix_end(first)

    def write(self, operation: Write) -> bytes:
        """The command."""
        if isinstance(operation, Put):
            key, value = self.key(operation.key), self.value(operation.value)
            hold, number = hold_of(operation.lease, operation.ttl, operation.keep_lease)
            return encode_held_put(key, value, False, hold, number) if hold else encode_put(key, value)
        if isinstance(operation, Delete):
            return encode_delete(self.key(operation.key))
        if isinstance(operation, DeleteRange):
            return encode_delete_range(*self._deleted(operation))
        raise InvalidRequestError(f"a {type(operation).__name__} is no write")

    def transaction(
        self, when: Sequence[Compare], then: Sequence[Operation], otherwise: Sequence[Operation]
    ) -> kv.Transaction:
        """The whole transaction, checked."""
        for name, items in (("when", when), ("then", then), ("otherwise", otherwise)):
            if len(items) > kv.MAX_STEPS:
                raise InvalidRequestError(
                    f"a transaction has {len(items)} items in `{name}`: the limit is {kv.MAX_STEPS}"
                )
        transaction = kv.Transaction(
            tuple(map(self._condition, when)),
            tuple(map(self._step, then)),
            tuple(map(self._step, otherwise)),
        )
        found = kv.objection(transaction)
        if found is not None:
            raise InvalidRequestError(found)
        return transaction

    def _condition(self, compare: Compare) -> kv.Condition:
        if not isinstance(compare, Compare):
            raise InvalidRequestError(f"a {type(compare).__name__} is no condition: use Compare.version, ...")
        target, relation = _TARGETS.get(compare.target), _RELATIONS.get(compare.relation)
        if target is None or relation is None:
            raise InvalidRequestError(
                f"a condition says {compare.target!r} {compare.relation!r}: it must be one of "
                f"{', '.join(_TARGETS)} and one of {' '.join(_RELATIONS)}"
            )
        return kv.Condition(self.key(compare.key), target, relation, self._operand(compare))

    def _operand(self, compare: Compare) -> bytes | int:
        operand = compare.operand
        if compare.target == "value":
            if isinstance(operand, int):
                raise InvalidRequestError("a value is compared with bytes or text, not with a number")
            return self.value(operand)
        if not isinstance(operand, int) or isinstance(operand, bool) or not 0 <= operand <= MAX_U63:
            raise InvalidRequestError(
                f"the {compare.target} is compared with a number from 0, not {operand!r}"
            )
        return operand

    def _step(self, operation: Operation) -> kv.Step:
        if isinstance(operation, Put):
            key, value = self.key(operation.key), self.value(operation.value)
            hold, number = hold_of(operation.lease, operation.ttl, operation.keep_lease)
            return kv.HeldPutStep(key, value, hold, number) if hold else kv.PutStep(key, value)
        if isinstance(operation, Get):
            return kv.GetStep(self.key(operation.key))
        if isinstance(operation, Delete):
            return kv.DeleteStep(self.key(operation.key))
        if isinstance(operation, DeleteRange):
            return kv.DeleteRangeStep(*self._deleted(operation))
        if isinstance(operation, GetRange):
            if not 1 <= operation.limit <= kv.MAX_RANGE_ITEMS:
                raise InvalidRequestError(
                    f"a transaction reads 1 to {kv.MAX_RANGE_ITEMS} entries of a range, not {operation.limit}"
                )
            start, end = self.range(operation.start, operation.end, operation.prefix)
            return kv.GetRangeStep(start, end, operation.limit)
        raise InvalidRequestError(f"a {type(operation).__name__} is no operation of a transaction")

    def _deleted(self, operation: DeleteRange) -> _Range:
        if operation.start is None and operation.prefix is None:
            raise InvalidRequestError('a DeleteRange needs `start` or `prefix`; prefix="" means all keys')
        return self.range(operation.start, operation.end, operation.prefix)


def encode(transaction: kv.Transaction) -> bytes:
    """The command, if it is not too large."""
    command = encode_transaction(transaction)
    if len(command) > MAX_COMMAND_BYTES:
        raise InvalidRequestError(
            f"a transaction of {len(command)} bytes is too large: the limit is {MAX_COMMAND_BYTES}"
        )
    return command


def outcome_of(operation: Write, result: bytes) -> WriteOutcome:
    """The result of a write."""
    if isinstance(operation, Put):
        return WriteResult(decode_put(result).revision)
    return decode_delete(result) if isinstance(operation, Delete) else decode_delete_range(result)


def result_of(done: kv.TransactionDone) -> TxnResult:
    """The result of a transaction."""
    return TxnResult(
        done.succeeded, done.revision, tuple(_step_result(step, done.revision) for step in done.steps)
    )


def _step_result(done: kv.StepDone, revision: int) -> OperationResult:
    match done:
        case kv.PutDone():
            return WriteResult(revision)
        case kv.DeleteDone():
            return DeleteResult(revision, done.deleted)
        case kv.DeleteRangeDone():
            return DeleteRangeResult(revision, done.count)
        case kv.Got():
            return done.entry
        case kv.GotRange():
            return Scan(revision, done.items, done.more)
