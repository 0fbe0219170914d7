"""The bank checker: silent on legal histories, loud on every planted wrong."""

from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d_engine.testing.checkers import (
    BankAction,
    BankRead,
    BankTransfer,
    Consistency,
    HistoryError,
    check_bank,
    require,
)
from tests.testing.checkers.generate import CALM, ROUGH, Answer, Fates, Run, Script

Bank = Script[BankAction]
ACCOUNTS = ("a", "b", "c", "d")
FIRST = dict.fromkeys(ACCOUNTS, 10)
TWO = {"a": 10, "b": 10}
EVENTUAL = BankRead(Consistency.EVENTUAL)


class Vault:
    """A right bank, which remembers all its states for eventual reads."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.states = [FIRST]

    def choose(self, client: str) -> BankAction:
        if self.rng.random() < 0.3:
            return BankRead(self.rng.choice(list(Consistency)))
        source, target = self.rng.sample(ACCOUNTS, 2)
        return BankTransfer(source, target, self.rng.randrange(1, 9))

    def apply(self, action: BankAction, client: str) -> Answer:
        balances = self.states[-1]
        if isinstance(action, BankRead):
            return (self.rng.choice(self.states) if action == EVENTUAL else balances), None
        if balances[action.source] < action.amount:
            return False, None
        after = dict(balances)
        after[action.source] -= action.amount
        after[action.target] += action.amount
        self.states.append(after)
        return True, None


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.sampled_from((CALM, ROUGH, Fates(0.1, 0.4))))
def test_legal_histories_pass(rng: Random, fates: Fates) -> None:
    vault = Vault(rng)
    require(check_bank(Run(rng, vault, vault.choose, fates).work(60).finish(BankRead()), FIRST))


@pytest.mark.parametrize("seed", range(15))
def test_longer_legal_histories_pass(seed: int) -> None:
    rng = Random(seed)
    served = Vault(rng)
    require(check_bank(Run(rng, served, served.choose, ROUGH).work(500).finish(BankRead()), FIRST))


def test_a_long_history() -> None:
    rng = Random(1)
    vault = Vault(rng)
    require(check_bank(Run(rng, vault, vault.choose, ROUGH).work(20_000).finish(BankRead()), FIRST))


def moved() -> Bank:
    """5 from a to b."""
    return Bank().ok(BankTransfer("a", "b", 5), 0, 1, True)


PLANTED: dict[str, tuple[Bank, str]] = {
    "total off": (Bank().ok(EVENTUAL, 0, 1, {"a": 10, "b": 11}), "the total is 21, not 20"),
    "torn read": (moved().ok(BankRead(), 2, 3, {"a": 5, "b": 10}), "the total is 15, not 20"),
    "account missing": (Bank().ok(BankRead(), 0, 1, {"a": 20}), "['b']"),
    "account too many": (Bank().ok(BankRead(), 0, 1, {"a": 10, "b": 10, "z": 0}), "['z']"),
    "overdrawn": (
        Bank().ok(BankTransfer("a", "b", 15), 0, 1, True).ok(BankRead(), 2, 3, {"a": -5, "b": 25}),
        "overdrawn: ['a']",
    ),
    "lost transfer": (moved().ok(BankRead(), 2, 3, TWO), "account 'a' has 10, but"),
    "transfer done twice": (moved().ok(BankRead(), 2, 3, {"a": 0, "b": 20}), "leave between 5 and 5"),
    "failed transfer done": (
        Bank().failed(BankTransfer("a", "b", 5), 0, 1).ok(BankRead(), 2, 3, {"a": 5, "b": 15}),
        "leave between 10 and 10",
    ),
    "refused transfer done": (
        Bank().ok(BankTransfer("a", "b", 5), 0, 1, False).ok(BankRead(), 2, 3, {"a": 5, "b": 15}),
        "leave between 10 and 10",
    ),
    "transfer seen before it was asked for": (
        Bank().ok(EVENTUAL, 0, 1, {"a": 5, "b": 15}).ok(BankTransfer("a", "b", 5), 2, 3, True),
        "leave between 10 and 10",
    ),
    "unknown transfer done twice": (
        Bank().unknown(BankTransfer("a", "b", 5), 0).ok(BankRead(), 2, 3, {"a": 0, "b": 20}),
        "leave between 5 and 10",
    ),
}


@pytest.mark.parametrize("name", PLANTED)
def test_planted_violation_is_found(name: str) -> None:
    script, message = PLANTED[name]
    violations = check_bank(script.operations, TWO)
    assert any(message in violation.message and violation.operations for violation in violations), violations


def test_near_misses_pass() -> None:
    after = {"a": 5, "b": 15}
    require(check_bank(moved().ok(BankRead(), 1, 3, TWO).ok(BankRead(), 1, 3, after).operations, TWO))
    require(check_bank(moved().ok(EVENTUAL, 5, 6, TWO).operations, TWO))
    unknown = Bank().unknown(BankTransfer("a", "b", 5), 0)
    require(check_bank(unknown.ok(BankRead(), 1, 3, after).ok(BankRead(), 4, 5, TWO).operations, TWO))
    touching = Bank().ok(BankRead(), 1, 3, after).unknown(BankTransfer("a", "b", 5), 3)
    require(check_bank(touching.operations, TWO))
    overdrawn = Bank().ok(BankTransfer("a", "b", 15), 0, 1, True).ok(BankRead(), 2, 3, {"a": -5, "b": 25})
    require(check_bank(overdrawn.operations, TWO, allow_negative=True))
    require(check_bank(Bank().unknown(BankRead(), 0).operations, TWO))


def test_no_more_violations_than_asked_for() -> None:
    script = Bank()
    for _ in range(50):
        script.ok(BankRead(), 0, 1, {"a": 10, "b": 11})
    assert len(check_bank(script.operations, TWO)) == 20
    assert len(check_bank(script.operations, TWO, max_violations=5)) == 5


def test_faults_of_the_test_are_told_apart() -> None:
    with pytest.raises(ValueError, match="at least 1"):
        BankTransfer("a", "b", 0)
    with pytest.raises(HistoryError, match="no initial balance"):
        check_bank(Bank().ok(BankTransfer("a", "z", 5), 0, 1, True).operations, TWO)
    with pytest.raises(HistoryError, match="True or False"):
        check_bank(Bank().ok(BankTransfer("a", "b", 5), 0, 1).operations, TWO)
    with pytest.raises(HistoryError, match="mapping"):
        check_bank(Bank().ok(BankRead(), 0, 1, [10, 10]).operations, TWO)
