"""The key-value model agrees with a store that is plainly right, and says no to every other answer."""

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d_engine.testing.checkers import (
    Action,
    Compare,
    CompareAndSwap,
    Consistency,
    Delete,
    Get,
    HistoryError,
    KeyValueModel,
    Operation,
    Outcome,
    Put,
    Relation,
    Scan,
    Target,
    Transaction,
    TransactionResult,
)
from tests.testing.checkers.stores import Store, Workload


def done(action: Action, result: object = None) -> Operation[Action]:
    return Operation(0, "a", 0, action, 0, 1, Outcome.OK, result)


def unknown(action: Action) -> Operation[Action]:
    return Operation(0, "a", 0, action, 0, None, Outcome.UNKNOWN)


@given(st.randoms(use_true_random=False))
def test_the_model_follows_the_store(rng: Random) -> None:
    store, workload, model = Store(rng), Workload(rng, values=3, eventual=False), KeyValueModel()
    state = model.initial((b"k00", b"k01", b"k02", b"k03"))
    for _ in range(30):
        action = workload.choose("a")
        result, _ = store.apply(action, "a")
        present = tuple((key, value) for key, (value, _) in sorted(store.contents.items()))
        assert present in model.step(state, unknown(action))
        assert tuple(model.step(state, done(action, result))) == (present,)
        state = present


@pytest.mark.parametrize(
    ("action", "right", "wrong"),
    [
        (Get(b"k"), 1, 2),
        (Get(b"k"), 1, None),
        (Get(b"absent"), None, 1),
        (Delete(b"k"), True, False),
        (Delete(b"absent"), False, True),
        (CompareAndSwap(b"k", 1, 2), True, False),
        (CompareAndSwap(b"k", 3, 2), False, True),
        (CompareAndSwap(b"absent", None, 2), True, False),
        (
            Transaction((Compare(b"k", 1),), (Get(b"k"),)),
            TransactionResult(True, (1,)),
            TransactionResult(True, (2,)),
        ),
        (
            Transaction((Compare(b"k", 1, Relation.NOT_EQUAL),), (), (Delete(b"k"),)),
            TransactionResult(False, (True,)),
            TransactionResult(False, (False,)),
        ),
        (Transaction((Compare(b"k", 1),)), TransactionResult(True), TransactionResult(False)),
        (
            Transaction((Compare(b"absent", 0, target=Target.MOD_REVISION),)),
            TransactionResult(True),
            TransactionResult(False),
        ),
        (
            Transaction((Compare(b"k", 0, target=Target.MOD_REVISION),)),
            TransactionResult(False),
            TransactionResult(True),
        ),
        (
            Transaction((), (Put(b"absent", 5), Get(b"absent"))),
            TransactionResult(True, (None, 5)),
            TransactionResult(True, (None, None)),
        ),
    ],
)
def test_only_right_answers_are_possible(action: Action, right: object, wrong: object) -> None:
    model = KeyValueModel({b"k": 1})
    state = model.initial((b"k", b"absent"))
    assert len(tuple(model.step(state, done(action, right)))) == 1
    assert not tuple(model.step(state, done(action, wrong)))


def test_what_depends_on_revisions_is_left_open() -> None:
    model = KeyValueModel({b"k": 1})
    state = model.initial((b"k",))
    action = Transaction((Compare(b"k", 7, target=Target.MOD_REVISION),), (Put(b"k", 2),), (Put(b"k", 3),))
    assert tuple(model.step(state, done(action, TransactionResult(True, (None,))))) == (((b"k", 2),),)
    assert tuple(model.step(state, done(action, TransactionResult(False, (None,))))) == (((b"k", 3),),)
    assert tuple(model.step(state, unknown(action))) == (((b"k", 2),), ((b"k", 3),))


def test_footprints_are_the_keys_that_are_judged() -> None:
    model = KeyValueModel()
    assert model.footprint(done(Put(b"a", 1))) == (b"a",)
    assert model.footprint(done(Get(b"a", Consistency.LEASE))) == (b"a",)
    assert model.footprint(done(Get(b"a", Consistency.EVENTUAL))) == ()
    assert model.footprint(done(Scan())) == ()
    transaction = Transaction((Compare(b"a", 1),), (Put(b"b", 1), Scan()), (Delete(b"a"),))
    assert model.footprint(done(transaction)) == (b"a", b"b")


def test_initial_contents_are_those_of_the_part() -> None:
    assert KeyValueModel({b"a": 1, b"b": 2}).initial((b"b",)) == ((b"b", 2),)


@pytest.mark.parametrize(
    ("action", "result"),
    [
        (Delete(b"k"), None),
        (CompareAndSwap(b"k", 1, 2), 1),
        (Transaction(), True),
        (Transaction((), (Get(b"k"),)), TransactionResult(True, ())),
    ],
)
def test_answers_of_the_wrong_shape_are_the_tests_fault(action: Action, result: object) -> None:
    model = KeyValueModel()
    with pytest.raises(HistoryError):
        tuple(model.step(model.initial(()), done(action, result)))
