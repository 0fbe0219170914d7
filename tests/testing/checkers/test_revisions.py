"""The revision checker: silent on every legal history, loud on every planted wrong."""

from dataclasses import replace
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d_engine.testing.checkers import (
    Action,
    Compare,
    CompareAndSwap,
    Consistency,
    Delete,
    Get,
    HistoryError,
    Operation,
    Outcome,
    Put,
    Relation,
    Scan,
    Target,
    Transaction,
    TransactionResult,
    Verdict,
    check_linearizability,
    check_revisions,
    require,
)
from tests.testing.checkers.generate import CALM, ROUGH, Fates, Run, Script
from tests.testing.checkers.stores import BROKEN_STORES, BrokenStore, LongStore, Store, Workload

KV = Script[Action]
K, L, M = b"k", b"l", b"m"
EVENTUAL = Consistency.EVENTUAL
YES, NO = TransactionResult(True), TransactionResult(False)


def history_of(
    rng: Random, store: Store, fates: Fates, operations: int, values: int | None = None
) -> tuple[Operation[Action], ...]:
    workload = Workload(rng, values=values)
    return Run(rng, store, workload.choose, fates, clients=5).work(operations).finish(Scan(), Get(b"k00"))


# --- legal histories -------------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(
    st.randoms(use_true_random=False),
    st.sampled_from((CALM, ROUGH, Fates(0.1, 0.4))),
    st.sampled_from((None, 2, 4)),
)
def test_legal_histories_pass(rng: Random, fates: Fates, values: int | None) -> None:
    require(check_revisions(history_of(rng, Store(rng), fates, 60, values)))


@pytest.mark.parametrize("seed", range(30))
def test_longer_legal_histories_pass(seed: int) -> None:
    rng = Random(seed)
    fates = (CALM, ROUGH, Fates(0.1, 0.4))[seed % 3]
    require(check_revisions(history_of(rng, Store(rng), fates, 400, None if seed % 2 else 4)))


@pytest.mark.slow
@pytest.mark.parametrize("fates", [CALM, Fates(0.01, 0.02)])
def test_a_hundred_thousand_operations(fates: Fates) -> None:
    rng = Random(5)
    workload = Workload(rng, keys=50, eventual=False)
    operations = Run(rng, LongStore(rng), workload.choose, fates, clients=8).work(100_000).finish(Scan())
    require(check_revisions(operations))


LEGAL: dict[str, KV] = {
    "nothing": KV(),
    "reads of nothing": KV().ok(Get(K), 0, 1, None, 0).ok(Scan(), 0, 1, (), 0).ok(Delete(K), 0, 1, False, 0),
    "read that touches a write": KV()
    .ok(Put(K, 1), 0, 1, revision=1)
    .ok(Put(K, 2), 2, 4, revision=2)
    .ok(Get(K), 4, 5, 1, 1),
    "old eventual read": KV()
    .ok(Put(K, 1), 0, 1, revision=1)
    .ok(Put(K, 2), 2, 3, revision=2)
    .ok(Get(K, EVENTUAL, 1), 4, 5, 1, 1),
    "unknown write seen late": KV()
    .unknown(Put(K, 9), 0)
    .ok(Put(K, 1), 1, 2, revision=1)
    .ok(Get(K), 3, 4, 9, 2),
    "unknown write hidden behind another": KV()
    .unknown(Put(K, 9), 0)
    .ok(Put(K, 1), 1, 2, revision=2)
    .ok(Get(K), 3, 4, 1, 2),
    "unknown swap refuses another": KV()
    .ok(Put(K, 1), 0, 1, revision=1)
    .unknown(CompareAndSwap(K, 1, 2), 2)
    .ok(CompareAndSwap(K, 1, 3), 3, 4, False, 2)
    .ok(Get(K), 5, 6, 2, 2),
    "unknown transaction over two keys": KV()
    .unknown(Transaction((), (Put(K, 1), Put(L, 1))), 0)
    .ok(Scan(), 1, 2, ((K, 1), (L, 1)), 1),
    "unknown expiry": KV()
    .ok(Put(K, 1), 0, 1, revision=1)
    .unknown(Transaction((), (Delete(K),)), 0)
    .ok(Get(K), 2, 3, None, 2),
    "transaction sees its own writes": KV().ok(
        Transaction((), (Put(K, 1), Get(K), Scan(limit=1), Delete(K), Get(K), Scan(), Delete(K))),
        0,
        1,
        TransactionResult(True, (None, 1, ((K, 1),), True, None, (), False)),
        1,
    ),
    "transaction that writes nothing": KV()
    .ok(Put(K, 1), 0, 1, revision=1)
    .ok(Transaction((Compare(K, 2),), (Put(K, 3),)), 2, 3, NO, 1),
    "compare with the revision": KV()
    .ok(Put(K, 1), 0, 1, revision=1)
    .ok(Put(L, 1), 2, 3, revision=2)
    .ok(Transaction((Compare(K, 1, target=Target.MOD_REVISION),)), 4, 5, YES, 2)
    .ok(Transaction((Compare(M, 0, target=Target.MOD_REVISION),)), 4, 5, YES, 2)
    .ok(Transaction((Compare(L, 1, Relation.NOT_EQUAL, Target.MOD_REVISION),)), 4, 5, YES, 2),
    "compare with a revision that is not known": KV()
    .unknown(Put(K, 1), 0)
    .ok(Get(K), 1, 2, 1, 1)
    .ok(Transaction((Compare(K, 1, target=Target.MOD_REVISION),)), 3, 4, YES, 1),
    "compare with a revision that an unknown write renewed": KV()
    .ok(Put(K, 1), 0, 1, revision=1)
    .unknown(Put(K, 1), 2)
    .ok(Get(K), 3, 4, 1, 2)
    .ok(Transaction((Compare(K, 2, target=Target.MOD_REVISION),)), 5, 6, YES, 2),
    "compare with a revision before the one that showed the value": KV()
    .unknown(Put(K, 1), 0)
    .ok(Put(L, 1), 1, 2, revision=2)
    .ok(Get(K), 3, 4, 1, 2)
    .ok(Transaction((Compare(K, 1, target=Target.MOD_REVISION),)), 5, 6, YES, 2),
    "scan with a limit": KV()
    .ok(Put(K, 1), 0, 1, revision=1)
    .ok(Put(L, 1), 2, 3, revision=2)
    .ok(Scan(limit=1), 4, 5, ((K, 1),), 2)
    .ok(Scan(L, M), 4, 5, [(L, 1)], 2),
}


@pytest.mark.parametrize("name", LEGAL)
def test_legal_script_passes(name: str) -> None:
    require(check_revisions(LEGAL[name].operations))


# --- broken stores ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("broken", BROKEN_STORES)
@pytest.mark.parametrize("fates", [CALM, ROUGH])
def test_a_broken_store_is_caught(broken: type[BrokenStore], fates: Fates) -> None:
    """Not every wrong shows (what is overwritten unread does not), but in a few runs it must."""
    struck = caught = 0
    for seed in range(12):
        rng = Random(seed)
        store = broken(rng)
        operations = history_of(rng, store, fates, 150)
        if store.broken > 0:
            struck += 1
            caught += bool(check_revisions(operations))
    assert struck > 0
    assert caught >= struck / 2


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from(BROKEN_STORES))
def test_what_passes_is_linearizable(rng: Random, broken: type[BrokenStore]) -> None:
    """Where no outcome is unknown the check is complete."""
    operations = history_of(rng, broken(rng, chance=0.05), CALM, 40)
    if not check_revisions(operations):
        assert check_linearizability(operations).verdict is Verdict.LINEARIZABLE


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_other_answer_is_caught(rng: Random) -> None:
    """Where no outcome is unknown, only one answer is right at a given revision."""
    operations = list(history_of(rng, Store(rng), CALM, 30))
    place = rng.randrange(len(operations))
    operation, wrong = operations[place], None
    match operation.action:
        case Get():
            wrong = replace(operation, result="?")
        case Scan(start=start):
            pairs = operation.result
            wrong = replace(
                operation, result=pairs[1:] if isinstance(pairs, tuple) and pairs else ((start, "?"),)
            )
        case Delete() | CompareAndSwap():
            wrong = replace(operation, result=not operation.result)
        case Put():
            wrong = replace(operation, revision=(operation.revision or 0) + rng.choice((-1, 1)))
    if wrong is not None:
        operations[place] = wrong
        assert check_revisions(operations)


# --- planted violations ----------------------------------------------------------------------------------------------


def put_twice() -> KV:
    """The key `k` is 1, then 2."""
    return KV().ok(Put(K, 1), 0, 1, revision=1).ok(Put(K, 2), 2, 3, revision=2)


BOTH = TransactionResult(True, (None, None))

PLANTED: dict[str, tuple[KV, str, str]] = {
    "stale read": (put_twice().ok(Get(K), 4, 5, 1, 1), "I6", "though 2 had been seen before"),
    "stale lease read": (
        put_twice().ok(Get(K, Consistency.LEASE), 4, 5, 1, 1),
        "I6",
        "though 2 had been seen before",
    ),
    "stale data under a new revision": (put_twice().ok(Get(K), 4, 5, 1, 2), "I5", "write #1 is missing"),
    "lost write": (
        KV().ok(Put(K, 1), 0, 1, revision=1).ok(Get(K), 2, 3, None, 1),
        "I5",
        "write #0 is missing",
    ),
    "lost write, its revision taken again": (
        KV().ok(Put(K, 1), 0, 9, revision=1).ok(Put(K, 2), 0, 9, revision=1),
        "I5",
        "two acknowledged writes claim revision 1",
    ),
    "write applied twice": (
        KV().ok(Put(K, 1), 0, 1, revision=1).ok(Put(L, 1), 2, 3, revision=3),
        "I6",
        "too few writes for revision 2",
    ),
    "unknown write applied twice": (
        KV().unknown(Put(K, 1), 0).ok(Get(K), 1, 2, 1, 2),
        "I6",
        "too few writes for revision 2",
    ),
    "unknown write comes back": (
        KV()
        .unknown(Put(K, 9), 0)
        .unknown(Put(L, 9), 0)
        .ok(Get(K), 1, 2, 9, 1)
        .ok(Put(K, 1), 3, 4, revision=2)
        .ok(Get(K), 5, 6, 9, 3),
        "I5",
        "b'k' has 1, but the answer shows 9",
    ),
    "two unknown writes in one revision": (
        KV().unknown(Put(K, 9), 0).unknown(Put(L, 9), 0).ok(Scan(), 1, 2, ((K, 9), (L, 9)), 1),
        "I6",
        "b'l' has no value, but the answer shows 9",
    ),
    "unknown write before it was asked for": (
        KV().ok(Get(M), 0, 1, None, 1).unknown(Put(K, 9), 2),
        "I6",
        "too few writes for revision 1",
    ),
    "unknown write without a revision": (
        KV().unknown(Put(K, 9), 0).ok(Put(L, 1), 1, 2, revision=1).ok(Get(K), 3, 4, 9, 1),
        "I6",
        "b'k' has no value, but the answer shows 9",
    ),
    "unknown write seen before it has a revision": (
        KV()
        .unknown(Put(K, 9), 0)
        .unknown(Put(K, 9), 0)
        .ok(Put(L, 1), 1, 2, revision=1)
        .ok(Get(K), 3, 4, 9, 1)
        .ok(Put(L, 2), 5, 6, revision=3),
        "I6",
        "b'k' has no value, but the answer shows 9",
    ),
    "two values at one revision": (
        KV()
        .ok(Put(K, 1), 0, 1, revision=1)
        .unknown(Put(K, 9), 2)
        .ok(Get(K), 3, 4, 1, 2)
        .ok(Get(K), 5, 6, 9, 2),
        "I6",
        "b'k' has 1, but the answer shows 9",
    ),
    "there and not there at one revision": (
        KV().unknown(Put(K, 9), 0).ok(Get(K), 1, 2, None, 1).ok(Get(K), 3, 4, 9, 1),
        "I6",
        "b'k' has no value, but the answer shows 9",
    ),
    "swap refused, though an unknown write leaves its value": (
        KV()
        .ok(Put(K, 1), 0, 1, revision=1)
        .unknown(Put(K, 1), 2)
        .ok(CompareAndSwap(K, 1, 2), 3, 4, False, 2),
        "I6",
        "a swap that expects it was refused",
    ),
    "both swaps succeed": (
        KV()
        .ok(Put(K, 0), 0, 1, revision=1)
        .ok(CompareAndSwap(K, 0, 1), 2, 9, True, 2)
        .ok(CompareAndSwap(K, 0, 2), 3, 8, True, 3),
        "I5",
        "a swap that expects 0 was done",
    ),
    "swap refused for no reason": (
        KV().ok(Put(K, 0), 0, 1, revision=1).ok(CompareAndSwap(K, 0, 1), 2, 3, False, 1),
        "I6",
        "a swap that expects it was refused",
    ),
    "read of a value never written": (
        put_twice().ok(Get(K), 4, 5, 7, 2),
        "I6",
        "has 2, but the answer shows 7, which was never written",
    ),
    "failed write is visible": (
        KV().failed(Put(K, 1), 0, 1).ok(Get(K), 2, 3, 1, 0),
        "I6",
        "which only failed operations would have written",
    ),
    "failed write made a revision": (
        KV().failed(Put(K, 1), 0, 1).ok(Get(K), 2, 3, None, 1),
        "I6",
        "too few writes for revision 1",
    ),
    "revisions fall": (
        KV().ok(Put(K, 1), 0, 1, revision=2).ok(Put(K, 2), 2, 3, revision=1),
        "I6",
        "the answer is of revision 1, though 2 had been seen",
    ),
    "write under a revision that was seen": (
        KV().ok(Get(L), 0, 1, None, 1).ok(Put(K, 2), 2, 3, revision=1),
        "I6",
        "the write made revision 1, which had been seen",
    ),
    "eventual read undone": (
        KV().ok(Put(K, 1), 0, 9, revision=1).ok(Get(K, EVENTUAL), 1, 2, 1, 1).ok(Get(K), 3, 4, None, 0),
        "I6",
        "though 1 had been seen before",
    ),
    "eventual read below the revision asked for": (
        put_twice().ok(Get(K, EVENTUAL, 2), 4, 5, 1, 1),
        "I6",
        "below the 2 asked for",
    ),
    "torn scan": (
        KV()
        .ok(Transaction((), (Put(K, 1), Put(L, 1))), 0, 1, BOTH, 1)
        .ok(Transaction((), (Put(K, 2), Put(L, 2))), 2, 9, BOTH, 2)
        .ok(Scan(consistency=EVENTUAL), 3, 8, ((K, 2), (L, 1)), 2),
        "I5",
        "b'l' has 2, but the answer shows 1",
    ),
    "scan with a key too many": (put_twice().ok(Scan(), 4, 5, ((K, 2), (L, 2)), 2), "I6", "never written"),
    "scan with a key too few": (put_twice().ok(Scan(), 4, 5, (), 2), "I6", "the answer shows no value"),
    "scan out of order": (
        put_twice().ok(Put(L, 3), 4, 5, revision=3).ok(Scan(), 6, 7, ((L, 3), (K, 2)), 3),
        "I6",
        "out of order",
    ),
    "scan with a key twice": (put_twice().ok(Scan(), 6, 7, ((K, 2), (K, 2)), 2), "I6", "repeated"),
    "scan beyond its range": (put_twice().ok(Scan(L), 6, 7, ((K, 2),), 2), "I6", "outside the range"),
    "scan beyond its limit": (
        put_twice().ok(Put(L, 3), 4, 5, revision=3).ok(Scan(limit=1), 6, 7, ((K, 2), (L, 3)), 3),
        "I6",
        "more than its limit",
    ),
    "scan with a limit skips a key": (
        put_twice().ok(Put(L, 3), 4, 5, revision=3).ok(Scan(limit=1), 6, 7, ((L, 3),), 3),
        "I6",
        "b'k' has 2, but the answer shows no value",
    ),
    "scan with a limit ends wrong": (
        put_twice().ok(Scan(limit=1), 4, 5, ((K, 7),), 2),
        "I6",
        "b'k' has 2, but the answer shows 7",
    ),
    "scan in a transaction blind to its own write": (
        KV().ok(Transaction((), (Put(K, 1), Scan())), 0, 1, TransactionResult(True, (None, ())), 1),
        "I6",
        "b'k' has 1, but the answer shows no value",
    ),
    "half of a transaction": (
        KV().ok(Transaction((), (Put(K, 1), Put(L, 1))), 0, 1, BOTH, 1).ok(Scan(), 2, 3, ((K, 1),), 1),
        "I5",
        "write #0 is missing",
    ),
    "transaction in spite of its compares": (
        put_twice().ok(Transaction((Compare(K, 1, Relation.NOT_EQUAL), Compare(L, 5))), 4, 5, YES, 2),
        "I6",
        "does not hold",
    ),
    "transaction refused for no reason": (
        put_twice().ok(Transaction((Compare(K, 2),)), 4, 5, NO, 2),
        "I6",
        "all compares hold",
    ),
    "transaction in spite of the revision": (
        put_twice().ok(Transaction((Compare(K, 1, target=Target.MOD_REVISION),)), 4, 5, YES, 2),
        "I6",
        "does not hold",
    ),
    "transaction blind to its own write": (
        KV().ok(Transaction((), (Put(K, 1), Get(K))), 0, 1, TransactionResult(True, (None, None)), 1),
        "I6",
        "b'k' has 1, but the answer shows no value",
    ),
    "transaction deletes twice": (
        put_twice().ok(
            Transaction((), (Delete(K), Delete(K))), 4, 5, TransactionResult(True, (True, True)), 3
        ),
        "I6",
        "b'k' is absent, but the answer says it was deleted",
    ),
    "delete of what is not there": (
        put_twice().ok(Delete(L), 4, 5, True, 3),
        "I6",
        "b'l' is absent, but the answer says it was deleted",
    ),
    "delete misses what is there": (
        put_twice().ok(Delete(K), 4, 5, False, 2),
        "I6",
        "b'k' has 2, but the answer shows no value",
    ),
    "deleted key comes back": (
        put_twice().ok(Delete(K), 4, 5, True, 3).ok(Get(K), 6, 7, 2, 3),
        "I5",
        "write #2 is missing",
    ),
    "write at the first revision": (
        KV().ok(Put(K, 1), 0, 1, revision=0),
        "I6",
        "claims revision 0, with which all began",
    ),
    "answer older than the first revision": (KV().ok(Get(K), 0, 1, None, -1), "I6", "older than revision 0"),
    "answer without a revision": (KV().ok(Put(K, 1), 0, 1), "I6", "carries no revision"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_violation_is_found(name: str) -> None:
    script, invariant, message = PLANTED[name]
    violations = check_revisions(script.operations)
    assert any(
        violation.invariant == invariant and message in violation.message and violation.operations
        for violation in violations
    ), violations


# --- where it starts, and its limits ---------------------------------------------------------------------------------


def test_initial_contents() -> None:
    script = KV().ok(Get(K), 0, 1, 5, 7).ok(Put(L, 1), 2, 3, revision=8).ok(Scan(), 4, 5, ((K, 5), (L, 1)), 8)
    require(check_revisions(script.operations, initial={K: 5}, initial_revision=7))
    assert check_revisions(script.operations, initial={K: 6}, initial_revision=7)
    assert check_revisions(script.operations, initial={K: 5}, initial_revision=8)
    assert check_revisions(script.operations, initial={K: 5}, initial_revision=6)


def test_no_more_violations_than_asked_for() -> None:
    script = KV()
    for time in range(0, 100, 2):
        script.ok(Get(K), time, time + 1, "?", 0)
    assert len(check_revisions(script.operations)) == 20
    assert len(check_revisions(script.operations, max_violations=3)) == 3


def test_an_absurd_revision_costs_nothing() -> None:
    script = put_twice().ok(Get(K), 4, 5, 2, 2**64 - 1)
    assert any("too few writes" in violation.message for violation in check_revisions(script.operations))


@pytest.mark.parametrize(
    ("action", "result"),
    [
        (Delete(K), None),
        (CompareAndSwap(K, None, 1), 1),
        (Scan(), None),
        (Scan(), b"k"),
        (Scan(), ((K,),)),
        (Scan(), ((K, None),)),
        (Transaction(), True),
        (Transaction((), (Put(K, 1),)), TransactionResult(True, ())),
    ],
)
def test_answers_of_the_wrong_shape_are_the_tests_fault(action: Action, result: object) -> None:
    with pytest.raises(HistoryError):
        check_revisions(KV().ok(action, 0, 1, result, 1).operations)


def test_mixed_histories_are_refused() -> None:
    operation: Operation[Action] = Operation(0, "a", 0, Get(K), 0, 1, Outcome.OK, None, 0)
    with pytest.raises(HistoryError, match="index 0"):
        check_revisions([operation, operation])
