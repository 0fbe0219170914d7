"""The lock checker: silent on legal histories, loud on every planted wrong."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d_engine.testing.checkers import (
    HistoryError,
    LockAcquire,
    LockAction,
    LockRelease,
    LockUse,
    check_locks,
    require,
)
from tests.testing.checkers.generate import CALM, ROUGH, Answer, Fates, Refused, Run, Script

Locks = Script[LockAction]
ACQUIRE = LockAcquire("x")


class LockService:
    """A right one, with the resource that it protects. `expiring` locks are lost at random."""

    def __init__(self, rng: Random, expiring: bool) -> None:
        self.rng = rng
        self.expiring = expiring
        self.holder: int | None = None
        self.granted = 0
        self.seen = 0
        self.uses = 0
        self.believed: dict[str, int] = {}

    def choose(self, client: str) -> LockAction:
        token = self.believed.get(client)
        if token is None:
            return ACQUIRE
        if self.rng.random() < 0.3:
            del self.believed[client]
            return LockRelease("x", token)
        return LockUse("x", token)

    def learn(self, client: str, action: LockAction, result: object) -> None:
        if isinstance(action, LockAcquire) and isinstance(result, int):
            self.believed[client] = result

    def apply(self, action: LockAction, client: str) -> Answer:
        match action:
            case LockAcquire():
                if self.holder is not None and not (self.expiring and self.rng.random() < 0.3):
                    return None, None
                self.granted += 1
                self.holder = self.granted
                return self.granted, None
            case LockRelease():
                if self.holder == action.token:
                    self.holder = None
                return None, None
            case LockUse():
                if action.token < self.seen:
                    raise Refused
                self.seen = action.token
                self.uses += 1
                return None, self.uses


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from((CALM, ROUGH)), st.booleans())
def test_legal_histories_pass(rng: Random, fates: Fates, expiring: bool) -> None:
    service = LockService(rng, expiring)
    run = Run(rng, service, service.choose, fates, learn=service.learn).work(100)
    require(check_locks(run.finish(), expiring=expiring))


@pytest.mark.parametrize("seed", range(20))
def test_longer_legal_histories_pass(seed: int) -> None:
    rng, expiring = Random(seed), seed % 2 == 0
    service = LockService(rng, expiring)
    run = Run(rng, service, service.choose, ROUGH if seed % 3 else CALM, learn=service.learn).work(500)
    require(check_locks(run.finish(), expiring=expiring))


def two_grants() -> Locks:
    """Tokens 1 to client a and 2 to client b."""
    return Locks().ok(ACQUIRE, 0, 1, 1, client="a").ok(ACQUIRE, 2, 3, 2, client="b")


def use(
    script: Locks, token: int, invoked: int, completed: int, client: str, place: int | None = None
) -> Locks:
    return script.ok(LockUse("x", token), invoked, completed, None, place, client)


PLANTED: dict[str, tuple[Locks, str]] = {
    "token granted twice": (
        Locks().ok(ACQUIRE, 0, 1, 1).ok(ACQUIRE, 0, 9, 1),
        "token 1 was granted twice",
    ),
    "tokens fall": (Locks().ok(ACQUIRE, 0, 1, 2).ok(ACQUIRE, 2, 3, 1), "token 1 was granted after 2"),
    "two holders overlap": (
        use(use(use(two_grants(), 1, 4, 5, "a"), 2, 6, 7, "b"), 1, 8, 9, "a"),
        "token 1 was accepted after 2: two holders overlap",
    ),
    "two holders overlap in the resource's order": (
        use(use(use(two_grants(), 1, 4, 20, "a", 1), 2, 4, 20, "b", 2), 1, 4, 20, "a", 3),
        "token 1 was accepted after 2: two holders overlap",
    ),
    "token never granted": (use(two_grants(), 3, 4, 5, "a"), "token 3 was accepted but never granted"),
    "token of another": (use(two_grants(), 1, 4, 5, "b"), "from another than its owner"),
    "token before it was granted": (
        use(Locks().ok(ACQUIRE, 4, 5, 1, client="a"), 1, 0, 1, "a"),
        "from another than its owner",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_violation_is_found(name: str) -> None:
    script, message = PLANTED[name]
    (violation,) = check_locks(script.operations)
    assert (violation.checker, violation.invariant) == ("locks", "I6")
    assert message in violation.message
    assert violation.operations


RELEASE = LockRelease("x", 1)

HELD_BY_TWO: dict[str, Locks] = {
    "not released": two_grants(),
    "released too late": two_grants().ok(RELEASE, 4, 5, client="a"),
    "release failed": two_grants().failed(RELEASE, 1, 2),
    "an earlier holder still": (
        Locks()
        .ok(ACQUIRE, 0, 1, 1)
        .ok(ACQUIRE, 2, 3, 2)
        .ok(LockRelease("x", 2), 3, 4)
        .ok(ACQUIRE, 5, 6, 3)
        .ok(RELEASE, 20, 21)
    ),
}


@pytest.mark.parametrize("name", HELD_BY_TWO)
def test_locks_that_do_not_expire_have_one_holder(name: str) -> None:
    script = HELD_BY_TWO[name]
    require(check_locks(script.operations))
    violations = check_locks(script.operations, expiring=False)
    assert len(violations) == (2 if name == "an earlier holder still" else 1)
    assert all("held the lock at one time" in violation.message for violation in violations)


def test_near_misses_pass() -> None:
    require(check_locks([]))
    in_turn = Locks().ok(ACQUIRE, 0, 1, 1, client="a").ok(RELEASE, 1, 5).ok(ACQUIRE, 2, 3, 2, client="b")
    require(check_locks(use(use(in_turn, 1, 0, 9, "a"), 2, 4, 9, "b").operations, expiring=False))
    touching = Locks().ok(ACQUIRE, 0, 1, 1).ok(RELEASE, 3, 5).ok(ACQUIRE, 2, 3, 2)
    require(check_locks(touching.operations, expiring=False))
    unknown_release = Locks().ok(ACQUIRE, 0, 1, 1).unknown(RELEASE, 2).ok(ACQUIRE, 3, 4, 2)
    require(check_locks(unknown_release.operations, expiring=False))
    refused = Locks().ok(ACQUIRE, 0, 1, 1).ok(ACQUIRE, 2, 3, None).failed(LockUse("x", 9), 4, 5)
    require(check_locks(refused.unknown(LockUse("x", 9), 4).unknown(ACQUIRE, 5).operations, expiring=False))
    other_lock = two_grants().ok(LockAcquire("y"), 10, 11, 1, client="a")
    require(check_locks(other_lock.operations))


def test_no_more_violations_than_asked_for() -> None:
    script = Locks()
    for _ in range(50):
        script.ok(ACQUIRE, 0, 1, 1)
    assert len(check_locks(script.operations)) == 20
    assert len(check_locks(script.operations, max_violations=2)) == 2


def test_a_token_is_a_number() -> None:
    with pytest.raises(HistoryError, match="int"):
        check_locks(Locks().ok(ACQUIRE, 0, 1, "1").operations)
