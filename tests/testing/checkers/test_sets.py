"""The set checker: silent on legal histories, loud on every planted wrong."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d_engine.testing.checkers import (
    Consistency,
    HistoryError,
    SetAction,
    SetAdd,
    SetRead,
    check_set,
    require,
)
from tests.testing.checkers.generate import CALM, ROUGH, Answer, Fates, Run, Script

Sets = Script[SetAction]
EVENTUAL = SetRead(Consistency.EVENTUAL)


class GrowingSet:
    """A right one, with some memory for eventual reads."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.elements: list[object] = []
        self.added = 0

    def choose(self, client: str) -> SetAction:
        if self.rng.random() < 0.3:
            return SetRead(self.rng.choice(list(Consistency)))
        self.added += 1
        return SetAdd(self.added)

    def apply(self, action: SetAction, client: str) -> Answer:
        if isinstance(action, SetAdd):
            self.elements.append(action.element)
            return None, None
        if action == EVENTUAL:
            return self.elements[: self.rng.randrange(len(self.elements) + 1)], None
        return tuple(self.elements), None


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from((CALM, ROUGH, Fates(0.1, 0.4))))
def test_legal_histories_pass(rng: Random, fates: Fates) -> None:
    served = GrowingSet(rng)
    require(check_set(Run(rng, served, served.choose, fates).work(60).finish(SetRead())))


@pytest.mark.parametrize("seed", range(15))
def test_longer_legal_histories_pass(seed: int) -> None:
    rng = Random(seed)
    served = GrowingSet(rng)
    require(check_set(Run(rng, served, served.choose, ROUGH).work(500).finish(SetRead())))


def test_a_long_history() -> None:
    rng = Random(1)
    served = GrowingSet(rng)
    actions = iter([SetRead() if number % 100 == 0 else SetAdd(number) for number in range(10_000)])
    run = Run(rng, served, lambda client: next(actions), ROUGH, clients=8).work(10_000)
    require(check_set(run.finish(SetRead())))


def one_added() -> Sets:
    return Sets().ok(SetAdd(1), 0, 1)


PLANTED: dict[str, tuple[Sets, str, str]] = {
    "lost add": (one_added().ok(SetRead(), 2, 3, ()), "I5", "1 was known to be in the set and is lost"),
    "lost after it was seen": (
        Sets().unknown(SetAdd(1), 0).ok(SetRead(), 1, 2, [1]).ok(SetRead(), 3, 4, []),
        "I5",
        "is lost",
    ),
    "lost after an eventual read saw it": (
        Sets().unknown(SetAdd(1), 0).ok(EVENTUAL, 1, 2, {1}).ok(SetRead(), 3, 4, set()),
        "I5",
        "is lost",
    ),
    "stale read": (
        one_added().ok(SetRead(), 2, 3, ()).ok(SetRead(), 4, 5, (1,)),
        "I6",
        "the read misses 1, which was known before it",
    ),
    "never added": (one_added().ok(SetRead(), 2, 3, (1, 2)), "I6", "2, which was never added"),
    "failed add is visible": (
        Sets().failed(SetAdd(1), 0, 1).ok(SetRead(), 2, 3, (1,)),
        "I6",
        "whose add failed",
    ),
    "from the future": (
        Sets().ok(EVENTUAL, 0, 1, (1,)).ok(SetAdd(1), 2, 3).ok(SetRead(), 4, 5, (1,)),
        "I6",
        "later",
    ),
    "added twice": (one_added().ok(SetRead(), 2, 3, (1, 1)), "I6", "more than once"),
    "never read": (one_added(), "I5", "nothing is proven"),
    "read too early": (one_added().ok(SetRead(), 0, 5, (1,)), "I5", "nothing is proven"),
    "only read eventually": (one_added().ok(EVENTUAL, 2, 3, (1,)), "I5", "nothing is proven"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_violation_is_found(name: str) -> None:
    script, invariant, message = PLANTED[name]
    (violation,) = check_set(script.operations)
    assert violation.invariant == invariant
    assert message in violation.message
    assert violation.operations


def test_near_misses_pass() -> None:
    require(check_set([]))
    require(check_set(one_added().ok(EVENTUAL, 2, 3, ()).ok(SetRead(), 4, 5, (1,)).operations))
    require(check_set(one_added().ok(SetRead(), 1, 3, ()).ok(SetRead(), 4, 5, (1,)).operations))
    require(check_set(Sets().unknown(SetAdd(1), 0).ok(SetRead(), 4, 5, ()).operations))
    require(check_set(Sets().unknown(SetRead(), 0).failed(SetRead(), 0, 1).operations))


def test_no_more_violations_than_asked_for() -> None:
    script = Sets()
    for element in range(50):
        script.ok(SetAdd(element), 0, 1)
    script.ok(SetRead(), 2, 3, ())
    assert len(check_set(script.operations)) == 20
    assert len(check_set(script.operations, max_violations=7)) == 7


def test_faults_of_the_test_are_told_apart() -> None:
    with pytest.raises(HistoryError, match="added twice"):
        check_set(one_added().ok(SetAdd(1), 2, 3).operations)
    for result in (None, "abc"):
        with pytest.raises(HistoryError, match="collection"):
            check_set(Sets().ok(SetRead(), 2, 3, result).operations)
