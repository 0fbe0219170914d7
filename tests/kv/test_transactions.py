"""Transactions: each rule by an example, the codec by any bytes."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d_engine.format.errors import InvalidRequestError, MalformedError
from d_engine.format.state_machine import ApplyContext
from d_engine.kv import commands, results
from d_engine.kv.key_value import KeyValue
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.shards import Shards
from d_engine.kv.transacting import holds
from d_engine.kv.transactions import (
    CREATE_REVISION,
    EQUAL,
    GREATER,
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
    PutDone,
    PutStep,
    Step,
    Transaction,
    TransactionDone,
    objection,
    pack_transaction_done,
    result_bound,
    unpack_transaction,
    unpack_transaction_done,
)

CONTEXT = ApplyContext(index=1, term=1, log_time=0)
KEY = st.binary(max_size=3)
END = st.one_of(st.none(), KEY)
NUMBER = st.integers(0, 2**63 - 1)
CONDITION = st.one_of(
    st.builds(Condition, KEY, st.just(VALUE), st.integers(1, 4), KEY),
    st.builds(Condition, KEY, st.integers(VERSION, MOD_REVISION), st.integers(1, 4), NUMBER),
    st.builds(Condition, KEY, st.just(LEASE), st.integers(1, 2), NUMBER),
)
STEP = st.one_of(
    st.builds(PutStep, KEY, KEY),
    st.builds(DeleteStep, KEY),
    st.builds(DeleteRangeStep, KEY, END),
    st.builds(GetStep, KEY),
    st.builds(GetRangeStep, KEY, END, st.integers(1, 1000)),
)
STEPS = st.lists(STEP, max_size=4).map(tuple)
TRANSACTION = st.builds(Transaction, st.lists(CONDITION, max_size=3).map(tuple), STEPS, STEPS)


def machine_with(*pairs: tuple[bytes, bytes]) -> KvStateMachine:
    machine = KvStateMachine()
    machine.apply([commands.encode_put(key, value) for key, value in pairs], CONTEXT)
    return machine


def run(machine: KvStateMachine, transaction: Transaction) -> TransactionDone:
    (result,) = machine.apply([commands.encode_transaction(transaction)], CONTEXT)
    return results.decode_transaction_done(result, transaction)


def do(machine: KvStateMachine, *steps: Step) -> TransactionDone:
    return run(machine, Transaction((), steps, ()))


# --- one revision, or none ----------------------------------------------------------------------------------


def test_all_writes_share_one_revision() -> None:
    machine = machine_with((b"a", b"1"), (b"b", b"1"), (b"c", b"1"), (b"ca", b"1"))
    done = do(
        machine, PutStep(b"a", b"2"), PutStep(b"new", b""), DeleteStep(b"b"), DeleteRangeStep(b"c", b"d")
    )
    assert done == TransactionDone(True, 5, (PutDone(), PutDone(), DeleteDone(True), DeleteRangeDone(2)))
    assert list(machine.store.scan()) == [KeyValue(b"a", b"2", 1, 5, 2), KeyValue(b"new", b"", 5, 5, 1)]
    assert (machine.revision, machine.store.epoch) == (5, 2)


@pytest.mark.parametrize(
    "steps",
    [
        (),
        (GetStep(b"a"), GetRangeStep(b"", None, 5)),
        (DeleteStep(b"none"), DeleteRangeStep(b"x", None), DeleteRangeStep(b"b", b"a")),
    ],
)
def test_a_transaction_that_changes_nothing_has_no_revision(steps: tuple[Step, ...]) -> None:
    machine = machine_with((b"a", b"1"))
    before = machine.digest()
    assert do(machine, *steps).revision == 1
    assert machine.digest() == before


def test_steps_see_what_steps_before_them_wrote() -> None:
    machine = machine_with((b"a", b"old"), (b"b", b""))
    done = do(
        machine,
        GetStep(b"a"),
        PutStep(b"a", b"new"),
        GetStep(b"a"),
        DeleteStep(b"b"),
        GetStep(b"b"),
        GetRangeStep(b"", None, 9),
    )
    new = KeyValue(b"a", b"new", 1, 3, 2)
    assert done.steps == (
        Got(KeyValue(b"a", b"old", 1, 1, 1)),
        PutDone(),
        Got(new),
        DeleteDone(True),
        Got(None),
        GotRange((new,), False),
    )


def test_a_range_that_is_read_ends_at_its_limit() -> None:
    machine = machine_with(*((b"%d" % number, b"") for number in range(5)))
    (three, rest) = do(machine, GetRangeStep(b"1", None, 3), GetRangeStep(b"2", b"4", 2)).steps
    assert isinstance(three, GotRange)
    assert ([item.key for item in three.items], three.more) == ([b"1", b"2", b"3"], True)
    assert isinstance(rest, GotRange)
    assert ([item.key for item in rest.items], rest.more) == ([b"2", b"3"], False)


def test_the_epoch_is_odd_while_keys_change() -> None:
    machine = machine_with((b"a", b""), (b"b", b""), (b"c", b""))
    store = machine.store
    seen: list[tuple[bool, int]] = []

    class Watched(Shards):
        def put(
            self, key: bytes, value: bytes, revision: int, lease: int = 0
        ) -> tuple[KeyValue, KeyValue | None]:
            seen.append((store.epoch % 2 == 1, store.revision))
            return super().put(key, value, revision, lease)

        def pop(self, key: bytes) -> KeyValue | None:
            seen.append((store.epoch % 2 == 1, store.revision))
            return super().pop(key)

    watched = Watched()
    watched.adopt(store._shards)
    store._shards = watched
    do(machine, PutStep(b"a", b"1"), PutStep(b"b", b"1"))
    machine.apply([commands.encode_delete_range(b"a", b"c")], CONTEXT)
    assert seen == [(True, 3), (True, 3), (True, 4), (True, 4)]
    assert (store.epoch, store.revision) == (4, 5)


# --- conditions ---------------------------------------------------------------------------------------------

ENTRY = KeyValue(b"k", b"m", 3, 7, 4, 9)


@pytest.mark.parametrize(
    ("target", "actual", "less", "more"),
    [
        (VALUE, b"m", b"l", b"ma"),
        (VERSION, 4, 3, 5),
        (CREATE_REVISION, 3, 2, 4),
        (MOD_REVISION, 7, 6, 8),
    ],
)
def test_relations(target: int, actual: bytes | int, less: bytes | int, more: bytes | int) -> None:
    def true_of(operand: bytes | int) -> list[int]:
        relations = (EQUAL, NOT_EQUAL, LESS, GREATER)
        return [
            relation for relation in relations if holds(Condition(b"k", target, relation, operand), ENTRY)
        ]

    assert true_of(actual) == [EQUAL]
    assert true_of(less) == [NOT_EQUAL, GREATER]
    assert true_of(more) == [NOT_EQUAL, LESS]


def test_a_lease_is_the_same_or_another() -> None:
    assert holds(Condition(b"k", LEASE, EQUAL, 9), ENTRY)
    assert holds(Condition(b"k", LEASE, NOT_EQUAL, 0), ENTRY)
    assert holds(Condition(b"k", LEASE, EQUAL, 0), None)


def test_a_key_that_does_not_exist_has_zeros_and_no_value() -> None:
    for target in (VERSION, CREATE_REVISION, MOD_REVISION):
        assert holds(Condition(b"k", target, EQUAL, 0), None)
        assert holds(Condition(b"k", target, LESS, 1), None)
    assert [holds(Condition(b"k", VALUE, relation, b""), None) for relation in (1, 2, 3, 4)] == [
        False,
        True,
        False,
        False,
    ]


def test_all_conditions_must_hold() -> None:
    machine = machine_with((b"a", b"1"), (b"b", b"1"))
    true, false = Condition(b"a", VALUE, EQUAL, b"1"), Condition(b"b", VALUE, EQUAL, b"2")
    then, otherwise = (PutStep(b"then", b""),), (PutStep(b"otherwise", b""), GetStep(b"a"))
    assert run(machine, Transaction((true, true), then, otherwise)) == TransactionDone(True, 3, (PutDone(),))
    for when in ((true, false), (false, true), (false,)):
        assert not run(machine, Transaction(when, then, otherwise)).succeeded
    assert machine.store.get(b"otherwise") == KeyValue(b"otherwise", b"", 4, 6, 3)


# --- what is refused ----------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[tuple[Step, ...], str]] = {
    "two puts": ((PutStep(b"a", b""), GetStep(b"a"), PutStep(b"a", b"")), "the key b'a' twice"),
    "put and delete": ((DeleteStep(b"a"), PutStep(b"a", b"")), "the key b'a' twice"),
    "put in a range": ((DeleteRangeStep(b"a", b"c"), PutStep(b"b", b"")), "b'b' and deletes a range"),
    "delete in a range": ((DeleteStep(b"z"), DeleteRangeStep(b"a", None)), "b'z' and deletes a range"),
    "ranges": ((DeleteRangeStep(b"a", b"c"), DeleteRangeStep(b"b", None)), "which overlap"),
}


@pytest.mark.parametrize(("steps", "text"), REFUSED.values(), ids=REFUSED)
def test_no_key_is_written_twice(steps: tuple[Step, ...], text: str) -> None:
    for transaction in (Transaction((), steps, ()), Transaction((), (), steps)):
        assert text in (objection(transaction) or "")
        machine = machine_with((b"b", b""))
        before = machine.digest()
        with pytest.raises(InvalidRequestError, match=text):
            run(machine, transaction)
        assert (machine.digest(), machine.store.epoch) == (before, 0)


def test_neighbours_may_be_written_together_and_branches_apart() -> None:
    fine = (
        DeleteRangeStep(b"a", b"b"),
        PutStep(b"b", b""),
        DeleteRangeStep(b"c", b"d"),
        DeleteRangeStep(b"d", b"e"),
        DeleteRangeStep(b"b", b"a"),
        DeleteStep(b"e"),
    )
    assert objection(Transaction((), fine, fine)) is None


@pytest.mark.parametrize(
    "condition",
    [Condition(b"", VALUE, EQUAL, 1), Condition(b"", VERSION, EQUAL, b""), Condition(b"", 5, 3, 1)],
)
def test_conditions_that_make_no_sense(condition: Condition) -> None:
    machine = machine_with()
    with pytest.raises(InvalidRequestError, match="a transaction compares"):
        run(machine, Transaction((condition,), (PutStep(b"a", b""),), ()))
    assert machine.revision == 0


def test_at_most_128_of_each() -> None:
    steps = tuple(PutStep(b"%d" % number, b"") for number in range(129))
    machine = machine_with()
    assert len(do(machine, *steps[:128]).steps) == 128
    for wrong in (
        Transaction((), steps, ()),
        Transaction((), (), steps),
        Transaction((Condition(b"", VERSION, EQUAL, 0),) * 129, (), ()),
        Transaction((), (GetRangeStep(b"", None, 1001),), ()),
        Transaction((), (GetRangeStep(b"", None, 0),), ()),
    ):
        with pytest.raises(InvalidRequestError, match="does not decode"):
            run(machine, wrong)
    assert machine.revision == 1


def test_what_is_read_has_a_limit() -> None:
    half = bytes(MAX_RESULT_BYTES // 2)
    machine = machine_with((b"a", half), (b"b", half), (b"large", bytes(2 * MAX_RESULT_BYTES)))
    before = machine.digest()
    for steps in (
        (PutStep(b"x", b""), GetStep(b"a"), GetStep(b"b")),
        (GetStep(b"large"), GetStep(b"none")),
        (PutStep(b"x", half), GetStep(b"x"), GetStep(b"x")),
    ):
        with pytest.raises(InvalidRequestError, match=r"reads would find \d+ bytes, which may be at most"):
            do(machine, *steps)
    assert machine.digest() == before
    (got,) = do(machine, GetStep(b"large")).steps
    assert isinstance(got, Got)
    _, emptied, _ = do(machine, GetStep(b"a"), DeleteStep(b"b"), GetStep(b"b")).steps
    assert emptied == DeleteDone(True)
    _, cut = do(machine, GetStep(b"a"), GetRangeStep(b"", None, 9)).steps
    assert cut == GotRange((), True)


# --- the codec ----------------------------------------------------------------------------------------------


@given(TRANSACTION)
def test_a_transaction_decodes_to_what_was_encoded(transaction: Transaction) -> None:
    encoded = commands.encode_transaction(transaction)
    if objection(transaction) is None:
        assert commands.decode_command(encoded) == transaction
    else:
        with pytest.raises(MalformedError):
            commands.decode_command(encoded)


@given(TRANSACTION, st.lists(KEY, max_size=5))
def test_results_are_as_short_as_they_are_said_to_be(transaction: Transaction, keys: list[bytes]) -> None:
    bound = result_bound(transaction)
    if objection(transaction) is None and bound is not None:
        machine = machine_with(*((key, b"") for key in keys))
        machine.store.revision = 2**62
        (result,) = machine.apply([commands.encode_transaction(transaction)], CONTEXT)
        assert len(result) <= bound


def test_results_with_values_have_no_bound() -> None:
    assert result_bound(Transaction((), (), (GetStep(b""),))) is None
    assert result_bound(Transaction((), (PutStep(b"", b""),) * 10, ())) == 46


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda data: b"\x93\x90" + data)))
def test_any_bytes_are_a_transaction_or_malformed(data: bytes) -> None:
    with contextlib.suppress(MalformedError):
        assert objection(unpack_transaction(data)) is None


@given(TRANSACTION, st.data())
def test_a_damaged_transaction_is_answered(transaction: Transaction, data: st.DataObject) -> None:
    encoded = bytearray(commands.encode_transaction(transaction))
    at = data.draw(st.integers(0, len(encoded) - 1))
    encoded[at] ^= data.draw(st.integers(1, 255))
    machine = machine_with((b"a", b""))
    assert len(machine.apply([bytes(encoded)], CONTEXT)) == 1
    assert machine.store.epoch % 2 == 0


@given(TRANSACTION, st.one_of(st.binary(max_size=60), st.binary().map(lambda data: b"\x93\xc3\x01" + data)))
def test_any_bytes_are_a_result_or_malformed(transaction: Transaction, data: bytes) -> None:
    with contextlib.suppress(MalformedError, InvalidRequestError):
        results.decode_transaction_done(data, transaction)
    with contextlib.suppress(MalformedError, InvalidRequestError):
        results.decode_delete_range(data)
    with contextlib.suppress(MalformedError):
        unpack_transaction_done(data, transaction)


@pytest.mark.parametrize("steps", [(), (DeleteDone(True),), (PutDone(), PutDone())])
def test_a_result_of_another_transaction(steps: tuple[PutDone | DeleteDone, ...]) -> None:
    with pytest.raises(MalformedError, match="answered as others would be"):
        unpack_transaction_done(
            pack_transaction_done(TransactionDone(True, 1, steps)), Transaction((), (PutStep(b"", b""),), ())
        )


# --- ranges -------------------------------------------------------------------------------------------------


def test_a_range_is_deleted_at_one_revision() -> None:
    machine = machine_with(*((b"%d" % number, b"") for number in range(10)))
    deletions = [
        commands.encode_delete_range(start, end)
        for start, end in ((b"2", b"5"), (b"2", b"5"), (b"9", b"1"), (b"5", None))
    ]
    answers = [results.decode_delete_range(result) for result in machine.apply(deletions, CONTEXT)]
    assert [(answer.revision, answer.deleted) for answer in answers] == [(11, 3), (11, 0), (11, 0), (12, 5)]
    assert [entry.key for entry in machine.store.scan()] == [b"0", b"1"]


def test_results_of_range_deletions_are_told_from_others() -> None:
    machine = machine_with((b"a", b""))
    deleted, put = machine.apply(
        [commands.encode_delete_range(b"", None), commands.encode_put(b"a", b"")], CONTEXT
    )
    with pytest.raises(MalformedError):
        results.decode_put(deleted)
    with pytest.raises(MalformedError):
        results.decode_delete_range(put)
    with pytest.raises(MalformedError, match="no result of a transaction"):
        results.decode_transaction_done(put, Transaction((), (), ()))
    with pytest.raises(MalformedError, match="removed"):
        results.decode_delete_range(b"\x04" + b"\xff" * 16)
