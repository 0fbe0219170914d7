"""The search: right on everything small by comparison with all orders, quick on what is large, honest at its limits."""

from collections.abc import Collection, Hashable, Iterable, Sequence
from itertools import combinations, permutations
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d_engine.testing.checkers import (
    Action,
    CheckFailed,
    CompareAndSwap,
    Consistency,
    Delete,
    Get,
    History,
    HistoryError,
    KeyValueModel,
    Operation,
    Outcome,
    Put,
    Scan,
    Transaction,
    TransactionResult,
    Verdict,
    check_linearizability,
    require,
)
from tests.testing.checkers.generate import CALM, ROUGH, Fates, Run, Script
from tests.testing.checkers.stores import LongStore, Store, Workload

KV = Script[Action]
K, L = b"k", b"l"


def verdict(script: KV) -> Verdict:
    return check_linearizability(script.operations).verdict


# --- small histories, where all orders can be tried ------------------------------------------------------------------


def some_order_explains(operations: Sequence[Operation[Action]]) -> bool:
    """The definition, taken literally."""
    certain = [operation for operation in operations if operation.outcome is Outcome.OK]
    possible = [operation for operation in operations if operation.outcome is Outcome.UNKNOWN]
    return any(
        explains(order)
        for number in range(len(possible) + 1)
        for chosen in combinations(possible, number)
        for order in permutations([*certain, *chosen])
    )


def explains(order: Sequence[Operation[Action]]) -> bool:
    if any(late.precedes(early) for early, late in combinations(order, 2)):
        return False
    value: Hashable | None = None
    for operation in order:
        action, answer = operation.action, operation.result
        expected: object = None
        match action:
            case Put():
                value, answer = action.value, None
            case Get():
                expected = value
            case Delete():
                expected, value = value is not None, None
            case CompareAndSwap():
                expected = value == action.expected
                value = action.value if expected else value
            case _:
                raise NotImplementedError
        if operation.outcome is Outcome.OK and answer != expected:
            return False
    return True


values = st.integers(0, 2)
register_actions = st.one_of(
    st.builds(Put, st.just(K), values),
    st.builds(Get, st.just(K)),
    st.builds(Delete, st.just(K)),
    st.builds(CompareAndSwap, st.just(K), st.none() | values, values),
)


@st.composite
def small_histories(draw: st.DrawFn) -> list[Operation[Action]]:
    """At most six operations on one key with arbitrary answers."""
    operations: list[Operation[Action]] = []
    for index in range(draw(st.integers(1, 6))):
        action = draw(register_actions)
        outcome = draw(st.sampled_from((Outcome.OK, Outcome.OK, Outcome.OK, Outcome.UNKNOWN, Outcome.FAILED)))
        invoked = draw(st.integers(0, 12))
        completed = None if outcome is Outcome.UNKNOWN else invoked + draw(st.integers(0, 6))
        result = draw(st.none() | values if isinstance(action, Get) else st.booleans())
        operations.append(Operation(index, "c", 0, action, invoked, completed, outcome, result))
    return operations


@settings(max_examples=250, deadline=None)
@given(small_histories())
def test_the_verdict_is_that_of_all_orders(operations: list[Operation[Action]]) -> None:
    report = check_linearizability(operations)
    assert (report.verdict is Verdict.LINEARIZABLE) is some_order_explains(operations)
    for part in report.parts:
        assert explains([operations[operation.index] for operation in part.order])


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from((CALM, ROUGH, Fates(0.1, 0.4))))
def test_one_wrong_answer_is_judged_as_by_all_orders(rng: Random, fates: Fates) -> None:
    workload = Workload(rng, keys=1, values=2, eventual=False, weights=(3, 4, 2, 3, 0, 0))
    operations = list(Run(rng, Store(rng), workload.choose, fates, clients=3).work(5).finish())
    for place, operation in enumerate(operations):
        if operation.outcome is Outcome.OK and isinstance(operation.action, Get):
            wrong = Operation(
                place, "x", 0, operation.action, operation.invoked, operation.completed, Outcome.OK, 1
            )
            changed = [*operations[:place], wrong, *operations[place + 1 :]]
            found = check_linearizability(changed).verdict is Verdict.LINEARIZABLE
            assert found is some_order_explains(changed)


# --- generated legal histories ---------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from((CALM, ROUGH)), st.sampled_from((None, 3)))
def test_legal_histories_pass(rng: Random, fates: Fates, values: int | None) -> None:
    workload = Workload(rng, values=values)
    run = Run(rng, Store(rng), workload.choose, fates, clients=5).work(60)
    report = check_linearizability(run.finish(Get(b"k00"), Get(b"k01")))
    require(report.violations)
    for part in report.parts:
        assert sorted(operation.index for operation in part.order) == sorted(
            {operation.index for operation in part.order}
        )
        for early, late in combinations(part.order, 2):
            assert not late.precedes(early)


@pytest.mark.parametrize("seed", range(20))
def test_longer_legal_histories_pass(seed: int) -> None:
    rng = Random(seed)
    workload = Workload(rng, keys=1 + seed % 6, values=None if seed % 2 else 4)
    run = Run(rng, Store(rng), workload.choose, ROUGH if seed % 3 else CALM, clients=2 + seed % 7).work(150)
    require(check_linearizability(run.finish(Get(b"k00"), Scan())).violations)


@pytest.mark.parametrize("fates", [CALM, Fates(0.02, 0.05)])
def test_ten_thousand_operations_take_about_a_step_each(fates: Fates) -> None:
    rng = Random(7)
    workload = Workload(rng, keys=50, eventual=False, weights=(3, 3, 1, 3, 0, 0))
    operations = Run(rng, LongStore(rng), workload.choose, fates, clients=8).work(10_000).finish()
    report = check_linearizability(operations)
    assert report.verdict is Verdict.LINEARIZABLE
    assert len(report.parts) == 50
    assert sum(part.steps for part in report.parts) < 20_000


def test_eight_clients_on_one_key() -> None:
    rng = Random(3)
    workload = Workload(rng, keys=1, values=5, eventual=False, weights=(3, 3, 1, 3, 0, 0))
    operations = Run(rng, LongStore(rng), workload.choose, CALM, clients=8).work(3_000).finish()
    report = check_linearizability(operations)
    assert report.verdict is Verdict.LINEARIZABLE
    assert sum(part.steps for part in report.parts) < 50 * len(operations)


# --- planted violations ----------------------------------------------------------------------------------------------

PLANTED: dict[str, KV] = {
    "stale read": KV().ok(Put(K, 1), 0, 1).ok(Put(K, 2), 2, 3).ok(Get(K), 4, 5, 1),
    "stale lease read": KV().ok(Put(K, 1), 0, 1).ok(Get(K, Consistency.LEASE), 4, 5, None),
    "lost write": KV().ok(Put(K, 1), 0, 1).ok(Get(K), 2, 3, None),
    "write applied twice": KV()
    .ok(Put(K, 1), 0, 1)
    .ok(Put(K, 2), 2, 3)
    .ok(Get(K), 4, 5, 2)
    .ok(Get(K), 6, 7, 1),
    "unknown write applied twice": KV()
    .unknown(Put(K, 1), 0)
    .ok(Get(K), 1, 2, 1)
    .ok(Put(K, 2), 3, 4)
    .ok(Get(K), 5, 6, 2)
    .ok(Get(K), 7, 8, 1),
    "both swaps succeed": KV()
    .ok(Put(K, 0), 0, 1)
    .ok(CompareAndSwap(K, 0, 1), 2, 9, True)
    .ok(CompareAndSwap(K, 0, 2), 3, 8, True),
    "swap refused for no reason": KV().ok(Put(K, 0), 0, 1).ok(CompareAndSwap(K, 0, 1), 2, 3, False),
    "both create the key": KV()
    .ok(CompareAndSwap(K, None, 1), 0, 9, True)
    .ok(CompareAndSwap(K, None, 2), 0, 9, True),
    "read of a value never written": KV().ok(Put(K, 1), 0, 9).ok(Get(K), 0, 9, 7),
    "read from the future": KV().ok(Get(K), 0, 1, 1).ok(Put(K, 1), 2, 3),
    "failed write is visible": KV().failed(Put(K, 1), 0, 1).ok(Get(K), 2, 3, 1),
    "two readers disagree on the order": KV()
    .ok(Put(K, 1), 0, 20)
    .ok(Put(K, 2), 0, 20)
    .ok(Get(K), 1, 2, 1)
    .ok(Get(K), 3, 4, 2)
    .ok(Get(K), 5, 6, 1),
    "deleted key comes back": KV()
    .ok(Put(K, 1), 0, 1)
    .ok(Delete(K), 2, 3, True)
    .ok(Get(K), 4, 5, None)
    .ok(Get(K), 6, 7, 1),
    "both delete the key": KV().ok(Put(K, 1), 0, 1).ok(Delete(K), 2, 9, True).ok(Delete(K), 2, 9, True),
    "half of a transaction": KV()
    .ok(Transaction((), (Put(K, 1), Put(L, 1))), 0, 1, TransactionResult(True, (None, None)))
    .ok(Get(K), 2, 3, 1)
    .ok(Get(L), 2, 3, None),
    "a transaction between two": KV()
    .ok(Put(K, 1), 0, 1)
    .ok(Transaction((), (Get(K), Get(L))), 0, 9, TransactionResult(True, (None, 1)))
    .ok(Put(L, 1), 2, 3),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_violation_is_found(name: str) -> None:
    report = check_linearizability(PLANTED[name].operations)
    assert report.verdict is Verdict.NOT_LINEARIZABLE
    with pytest.raises(CheckFailed, match=r"linearizability \(I6\): no order explains operation #"):
        require(report.violations)


def test_near_misses_pass() -> None:
    overlapping = KV().ok(Put(K, 1), 0, 1).ok(Put(K, 2), 2, 4).ok(Get(K), 4, 5, 1)
    assert verdict(overlapping) is Verdict.LINEARIZABLE
    eventual = KV().ok(Put(K, 1), 0, 1).ok(Get(K, Consistency.EVENTUAL), 4, 5, None)
    assert verdict(eventual) is Verdict.LINEARIZABLE
    late = KV().unknown(Put(K, 1), 0).ok(Put(K, 2), 1, 2).ok(Get(K), 3, 4, 2).ok(Get(K), 5, 6, 1)
    assert verdict(late) is Verdict.LINEARIZABLE
    scan = KV().ok(Scan(), 0, 1, ((K, 5),))
    assert verdict(scan) is Verdict.LINEARIZABLE
    assert check_linearizability([]).parts == ()


# --- what the report tells -------------------------------------------------------------------------------------------


def test_the_explanation_is_the_longest_prefix_and_what_has_no_place() -> None:
    script = KV().ok(Put(L, 9), 0, 1).ok(Put(K, 1), 0, 1).ok(Put(K, 2), 2, 3).ok(Get(K), 4, 7, 2)
    script.ok(Get(K), 5, 8, 1).ok(Put(K, 3), 6, 20).ok(Get(K), 10, 11, 3)
    report = check_linearizability(script.operations)
    fine, broken = report.parts
    assert (fine.part, fine.verdict, fine.unplaced) == ((L,), Verdict.LINEARIZABLE, ())
    assert (broken.part, broken.verdict) == ((K,), Verdict.NOT_LINEARIZABLE)
    assert [operation.index for operation in broken.order] == [1, 2, 3]
    assert [operation.index for operation in broken.unplaced] == [4, 5]
    (violation,) = report.violations
    assert "operation #4 on b'k'" in violation.message
    assert [operation.index for operation in violation.operations] == [4, 5, 1, 2, 3]


def test_a_large_state_is_shown_in_short() -> None:
    script = KV().ok(Put(K, "x" * 1000), 0, 1).ok(Get(K), 2, 3, 1)
    (violation,) = check_linearizability(script.operations).violations
    assert len(violation.message) < 500


def test_running_out_of_steps_counts_as_failure() -> None:
    script = KV().ok(Put(K, 1), 0, 1).ok(Get(K), 2, 3, 1)
    report = check_linearizability(script.operations, max_steps=1)
    assert report.verdict is Verdict.UNDECIDED
    with pytest.raises(
        CheckFailed, match="no verdict on b'k' within 1 steps; the search got as far as operation #1"
    ):
        require(report.violations)
    assert check_linearizability(script.operations, max_steps=2).verdict is Verdict.LINEARIZABLE


def test_a_violation_outweighs_a_missing_verdict() -> None:
    script = KV().ok(Get(L), 0, 1, 7).ok(Put(K, 1), 0, 1).ok(Get(K), 2, 3, 1)
    assert check_linearizability(script.operations, max_steps=1).verdict is Verdict.NOT_LINEARIZABLE


def test_many_unknown_writes_stay_cheap() -> None:
    script = KV()
    for number in range(60):
        script.unknown(Put(K, number), number)
    script.ok(Get(K), 100, 101, 30).ok(Get(K), 102, 103, 59).ok(Get(K), 104, 105, 30)
    report = check_linearizability(script.operations)
    assert report.verdict is Verdict.NOT_LINEARIZABLE
    ways_at_each_read = 60 * 61
    assert sum(part.steps for part in report.parts) < 3 * ways_at_each_read


def test_the_same_history_takes_the_same_steps() -> None:
    reports = []
    for _ in range(2):
        rng = Random(11)
        workload = Workload(rng, values=3)
        operations = Run(rng, Store(rng), workload.choose, ROUGH).work(200).finish()
        reports.append(check_linearizability(operations))
    assert reports[0] == reports[1]


# --- models of one's own ---------------------------------------------------------------------------------------------


class Counter:
    """Counts and answers with the new count."""

    def footprint(self, operation: Operation[str]) -> Collection[Hashable]:
        return ("counter",)

    def initial(self, part: Collection[Hashable]) -> int:
        return 0

    def step(self, state: int, operation: Operation[str]) -> Iterable[int]:
        count = state + 1
        return (count,) if operation.outcome is Outcome.UNKNOWN or operation.result == count else ()


class Chooser:
    """Takes one of several tickets and does not say which: a nondeterministic object."""

    def footprint(self, operation: Operation[str]) -> Collection[Hashable]:
        return ("tickets",)

    def initial(self, part: Collection[Hashable]) -> frozenset[str]:
        return frozenset("abc")

    def step(self, state: frozenset[str], operation: Operation[str]) -> Iterable[frozenset[str]]:
        if operation.action == "take":
            return [state - {ticket} for ticket in sorted(state)]
        return (state,) if operation.result == "".join(sorted(state)) else ()


def test_a_model_of_ones_own() -> None:
    history: History[str] = History()
    first, second = history.invoke("a", "count"), history.invoke("b", "count")
    history.ok(second, 1)
    history.ok(first, 2)
    third = history.invoke("a", "count")
    history.ok(third, 3)
    assert check_linearizability(history.operations(), Counter()).verdict is Verdict.LINEARIZABLE
    fourth = history.invoke("a", "count")
    history.ok(fourth, 3)
    assert check_linearizability(history.operations(), Counter()).verdict is Verdict.NOT_LINEARIZABLE


@pytest.mark.parametrize(
    ("left", "verdict"),
    [("a", Verdict.LINEARIZABLE), ("c", Verdict.LINEARIZABLE), ("ab", Verdict.NOT_LINEARIZABLE)],
)
def test_a_nondeterministic_model(left: str, verdict: Verdict) -> None:
    script = Script[str]().ok("take", 0, 1).ok("take", 2, 3).ok("look", 4, 5, left)
    assert check_linearizability(script.operations, Chooser()).verdict is verdict


def test_initial_contents() -> None:
    script = KV().ok(Get(K), 0, 1, 5)
    assert check_linearizability(script.operations, KeyValueModel({K: 5})).verdict is Verdict.LINEARIZABLE
    assert verdict(script) is Verdict.NOT_LINEARIZABLE


def test_mixed_histories_are_refused() -> None:
    script = KV().ok(Get(K), 0, 1)
    with pytest.raises(HistoryError, match="index 0"):
        check_linearizability(script.operations * 2)
