"""Transactions as they stand in the log: conditions, and what is done if all of them hold or else.

A transaction is one command: applied whole or not at all, at one revision, with no other command in between. Its steps
are done in order; a step that reads sees what the steps before it wrote. No step may write a key that another step of
the same branch may write: two writes at one revision would have no order that anybody could see, so asking for them is
a mistake. (`objection` finds it; the client asks before it sends, the state machine asks again, because the log may
hold what no client of ours has sent.)

Bytes: the command's kind, then a msgpack array; a result is a status, then a msgpack array. Whether bytes are a
transaction is decided by their structure alone, and what a replica says of those that are none does not quote any
library: it is a result, and results are the same on every replica.
"""

from collections.abc import Sequence
from itertools import combinations
from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from d_engine.format.errors import MalformedError
from d_engine.format.ids import MAX_U63
from d_engine.kv.holding import KEEP_LEASE, ON_LEASE, hold_objection
from d_engine.kv.key_value import KeyValue
from d_engine.kv.ranges import in_range, overlap

MAX_STEPS = 128
"""Of a branch; as many conditions."""
MAX_RANGE_ITEMS = 1000
"""Entries that one step may read of a range."""
MAX_RESULT_BYTES = 1024 * 1024
"""Keys and values that the steps of a transaction read, together, unless it is a single larger entry. Results are kept
until the client has acknowledged them, on every replica."""

VALUE, VERSION, CREATE_REVISION, MOD_REVISION, LEASE = 1, 2, 3, 4, 5
"""What a condition looks at."""
EQUAL, NOT_EQUAL, LESS, GREATER = 1, 2, 3, 4
"""How."""

_Count = Annotated[int, Meta(ge=0, le=MAX_U63)]


class Condition(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One condition: `target` of the key stands in `relation` to the operand.

    Of a key that does not exist, all numbers are 0, and the value is unequal to every operand, neither less nor
    greater. The operand is bytes for `VALUE`, a number for all others. Values are ordered as bytes, leases not at all.
    """

    key: bytes
    target: Annotated[int, Meta(ge=VALUE, le=LEASE)]
    relation: Annotated[int, Meta(ge=EQUAL, le=GREATER)]
    operand: bytes | _Count


class PutStep(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1, gc=False):
    """Set the key to the value."""

    key: bytes
    value: bytes


class HeldPutStep(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6, gc=False):
    """Set the key to the value, so that it does not stay for ever: `hold` and `number` as in `d_engine.kv.holding`."""

    key: bytes
    value: bytes
    hold: Annotated[int, Meta(ge=ON_LEASE, le=KEEP_LEASE)]
    number: _Count


class DeleteStep(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2, gc=False):
    """Remove the key, if it exists."""

    key: bytes


class DeleteRangeStep(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3, gc=False):
    """Remove all keys of the range."""

    start: bytes
    end: bytes | None


class GetStep(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4, gc=False):
    """Read the key's entry."""

    key: bytes


class GetRangeStep(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5, gc=False):
    """Read the first `limit` entries of the range."""

    start: bytes
    end: bytes | None
    limit: Annotated[int, Meta(ge=1, le=MAX_RANGE_ITEMS)]


Step: TypeAlias = PutStep | DeleteStep | DeleteRangeStep | GetStep | GetRangeStep | HeldPutStep
_Steps = Annotated[tuple[Step, ...], Meta(max_length=MAX_STEPS)]


class Transaction(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """If all conditions hold do `then`, else `otherwise`."""

    when: Annotated[tuple[Condition, ...], Meta(max_length=MAX_STEPS)]
    then: _Steps
    otherwise: _Steps


class PutDone(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1, gc=False):
    """A key was set."""


class DeleteDone(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2, gc=False):
    """Whether the key existed."""

    deleted: bool


class DeleteRangeDone(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3, gc=False):
    """How many keys were removed."""

    count: _Count


class Got(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4, gc=False):
    """The entry, if the key exists."""

    entry: KeyValue | None


class GotRange(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5, gc=False):
    """The entries, by rising key, and whether there are more of them."""

    items: tuple[KeyValue, ...]
    more: bool


StepDone: TypeAlias = PutDone | DeleteDone | DeleteRangeDone | Got | GotRange


class TransactionDone(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """Which branch was done, at which revision (the store's, if nothing was written), and what came of its steps."""

    succeeded: bool
    revision: _Count
    steps: tuple[StepDone, ...]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Transaction)
_RESULT_DECODER = msgspec.msgpack.Decoder(TransactionDone)
_ANSWERS = {
    PutStep: PutDone,
    HeldPutStep: PutDone,
    DeleteStep: DeleteDone,
    DeleteRangeStep: DeleteRangeDone,
    GetStep: Got,
    GetRangeStep: GotRange,
}


def pack_transaction(transaction: Transaction) -> bytes:
    """What follows the command's kind."""
    return _ENCODER.encode(transaction)


def unpack_transaction(data: bytes | memoryview) -> Transaction:
    """Raises `MalformedError`, in words that depend on the bytes only."""
    try:
        transaction = _DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        raise MalformedError(f"a transaction of {len(data)} bytes does not decode") from None
    found = objection(transaction)
    if found is not None:
        raise MalformedError(found)
    return transaction


def pack_transaction_done(done: TransactionDone) -> bytes:
    """What follows the result's status."""
    return _ENCODER.encode(done)


def unpack_transaction_done(data: bytes | memoryview, asked: Transaction) -> TransactionDone:
    """The result of the transaction that was asked for. Raises `MalformedError`."""
    try:
        done = _RESULT_DECODER.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedError(f"a transaction's result does not decode: {error}") from None
    steps = asked.then if done.succeeded else asked.otherwise
    if len(steps) != len(done.steps) or any(
        type(answer) is not _ANSWERS[type(step)] for step, answer in zip(steps, done.steps, strict=True)
    ):
        raise MalformedError(f"a transaction's {len(steps)} steps were answered as others would be")
    return done


def result_bound(transaction: Transaction) -> int | None:
    """How long the packed result can be, None if it may hold whole values."""
    return _longest((_branch_bound(transaction.then), _branch_bound(transaction.otherwise)))


def _longest(bounds: Sequence[int | None]) -> int | None:
    known = [bound for bound in bounds if bound is not None]
    return max(known) if len(known) == len(bounds) else None


def _branch_bound(steps: Sequence[Step]) -> int | None:
    bound = 16
    for step in steps:
        if isinstance(step, GetStep | GetRangeStep):
            return None
        bound += 11 if isinstance(step, DeleteRangeStep) else 3
    return bound


def objection(transaction: Transaction) -> str | None:
    """Why the transaction cannot be done, whatever the store holds. (What its types say is checked by its decoder.)"""
    for condition in transaction.when:
        if (condition.target == VALUE) is not (type(condition.operand) is bytes):
            return "a transaction compares a value with a number, or a number with a value"
        if condition.target == LEASE and condition.relation > NOT_EQUAL:
            return "a transaction compares leases by size: they are equal or not"
    for step in (*transaction.then, *transaction.otherwise):
        if isinstance(step, HeldPutStep):
            found = hold_objection(step.hold, step.number)
            if found is not None:
                return found
    return _written_twice(transaction.then) or _written_twice(transaction.otherwise)


def _written_twice(steps: Sequence[Step]) -> str | None:
    keys = [step.key for step in steps if isinstance(step, PutStep | HeldPutStep | DeleteStep)]
    if len(set(keys)) != len(keys):
        twice = next(key for position, key in enumerate(keys) if key in keys[:position])
        return f"a transaction writes the key {twice!r} twice"
    ranges = [step for step in steps if type(step) is DeleteRangeStep]
    for deleted in ranges:
        for key in keys:
            if in_range(key, deleted.start, deleted.end):
                return f"a transaction writes the key {key!r} and deletes a range that holds it"
    for one, other in combinations(ranges, 2) if ranges else ():
        if overlap(one.start, one.end, other.start, other.end):
            return f"a transaction deletes ranges from {one.start!r} and {other.start!r}, which overlap"
    return None
