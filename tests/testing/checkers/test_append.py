"""The list-append checker: silent on legal histories, loud on every planted wrong."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d_engine.testing.checkers import (
    Consistency,
    HistoryError,
    ListAction,
    ListAppend,
    ListRead,
    check_append,
    require,
)
from tests.testing.checkers.generate import CALM, ROUGH, Answer, Fates, Run, Script

Lists = Script[ListAction]
READ, EVENTUAL = ListRead("x"), ListRead("x", Consistency.EVENTUAL)


class GrowingLists:
    """Right ones."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.lists: dict[object, list[object]] = {"x": [], "y": [], "z": []}
        self.appended = 0

    def choose(self, client: str) -> ListAction:
        key = self.rng.choice(tuple(self.lists))
        if self.rng.random() < 0.4:
            return ListRead(key, self.rng.choice(list(Consistency)))
        self.appended += 1
        return ListAppend(key, self.appended)

    def apply(self, action: ListAction, client: str) -> Answer:
        elements = self.lists[action.key]
        if isinstance(action, ListAppend):
            elements.append(action.element)
            return None, None
        eventual = action.consistency is Consistency.EVENTUAL
        return elements[: self.rng.randrange(len(elements) + 1)] if eventual else tuple(elements), None


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from((CALM, ROUGH, Fates(0.1, 0.4))))
def test_legal_histories_pass(rng: Random, fates: Fates) -> None:
    served = GrowingLists(rng)
    run = Run(rng, served, served.choose, fates).work(60)
    require(check_append(run.finish(ListRead("x"), ListRead("y"), ListRead("z"))))


@pytest.mark.parametrize("seed", range(15))
def test_longer_legal_histories_pass(seed: int) -> None:
    rng = Random(seed)
    served = GrowingLists(rng)
    run = Run(rng, served, served.choose, ROUGH).work(500)
    require(check_append(run.finish(ListRead("x"), ListRead("y"), ListRead("z"))))


def two_appended() -> Lists:
    return Lists().ok(ListAppend("x", 1), 0, 1).ok(ListAppend("x", 2), 2, 3)


PLANTED: dict[str, tuple[Lists, str, str]] = {
    "lost append": (two_appended().ok(READ, 4, 5, (2,)), "I5", "1 was acknowledged, but 'x' has lost it"),
    "lost the last": (two_appended().ok(READ, 4, 5, (1,)), "I5", "2 was acknowledged, but 'x' has lost it"),
    "append applied twice": (two_appended().ok(READ, 4, 5, (1, 2, 1)), "I6", "1 twice"),
    "two orders": (
        Lists()
        .ok(ListAppend("x", 1), 0, 9)
        .ok(ListAppend("x", 2), 0, 9)
        .ok(EVENTUAL, 0, 9, (2,))
        .ok(READ, 10, 11, (1, 2)),
        "I6",
        "no prefix of the longest",
    ),
    "order against real time": (
        two_appended().ok(READ, 4, 5, (2, 1)),
        "I6",
        "the append to 'x' came in at place 1, though 2 were known",
    ),
    "unknown append against real time": (
        Lists().ok(ListAppend("x", 1), 0, 1).unknown(ListAppend("x", 2), 2).ok(READ, 4, 5, (2, 1)),
        "I6",
        "the append to 'x' came in at place 1, though 2 were known",
    ),
    "stale read": (
        two_appended().ok(READ, 4, 5, (1,)).ok(READ, 6, 7, (1, 2)),
        "I6",
        "has 1 elements, though it was known to have 2",
    ),
    "read goes back": (
        Lists().unknown(ListAppend("x", 1), 0).ok(EVENTUAL, 1, 2, (1,)).ok(READ, 3, 4, ()),
        "I6",
        "has 0 elements, though it was known to have 1",
    ),
    "insertion below what was seen": (
        Lists()
        .unknown(ListAppend("x", 1), 0)
        .ok(READ, 1, 2, (1,))
        .unknown(ListAppend("x", 2), 3)
        .ok(READ, 4, 5, (2, 1)),
        "I6",
        "no prefix of the longest",
    ),
    "never appended": (two_appended().ok(READ, 4, 5, (1, 2, 3)), "I6", "3, which was never appended"),
    "appended to another list": (
        two_appended().ok(ListRead("y"), 4, 5, (1,)).ok(READ, 4, 5, (1, 2)),
        "I6",
        "1, which was never appended",
    ),
    "failed append is visible": (
        Lists().failed(ListAppend("x", 1), 0, 1).ok(READ, 2, 3, (1,)),
        "I6",
        "whose append failed",
    ),
    "from the future": (
        Lists().ok(READ, 0, 1, (1,)).ok(ListAppend("x", 1), 2, 3).ok(READ, 4, 5, (1,)),
        "I6",
        "appended only later",
    ),
    "never read": (two_appended(), "I5", "no linearizable read of 'x' came after it"),
    "only read eventually": (two_appended().ok(EVENTUAL, 4, 5, (1, 2)), "I5", "came after it"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_violation_is_found(name: str) -> None:
    script, invariant, message = PLANTED[name]
    violations = check_append(script.operations)
    assert any(
        violation.invariant == invariant and message in violation.message and violation.operations
        for violation in violations
    ), violations


def test_near_misses_pass() -> None:
    require(check_append([]))
    require(check_append(two_appended().ok(EVENTUAL, 4, 5, ()).ok(READ, 6, 7, [1, 2]).operations))
    require(check_append(Lists().unknown(ListAppend("x", 1), 0).ok(READ, 6, 7, ()).operations))
    touching = Lists().ok(ListAppend("x", 1), 0, 2).ok(ListAppend("x", 2), 2, 3).ok(READ, 4, 5, (2, 1))
    require(check_append(touching.operations))


def test_no_more_violations_than_asked_for() -> None:
    script = Lists()
    for element in range(50):
        script.ok(ListAppend("x", element), 0, 1)
    assert len(check_append(script.operations)) == 20
    assert len(check_append(script.operations, max_violations=4)) == 4


def test_faults_of_the_test_are_told_apart() -> None:
    with pytest.raises(HistoryError, match="appended twice"):
        check_append(two_appended().ok(ListAppend("x", 1), 4, 5).operations)
    with pytest.raises(HistoryError, match="sequence"):
        check_append(Lists().ok(READ, 0, 1, {1}).operations)
