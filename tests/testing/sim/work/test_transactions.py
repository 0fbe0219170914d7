"""The workload over many keys: it does what it should, and what is planted in the state machine shows."""

from collections.abc import Callable
from typing import TypeAlias

import pytest

from d_engine.kv import transacting
from d_engine.kv.key_value import KeyValue
from d_engine.kv.store import Store
from d_engine.kv.transactions import Condition
from d_engine.testing.checkers.actions import Transaction, TransactionResult
from d_engine.testing.checkers.bank import BankTransfer
from d_engine.testing.sim.run import run_seed
from d_engine.testing.sim.script import draw_script
from d_engine.testing.sim.trace import Trace
from d_engine.testing.sim.world import World

STEPS = 4000
SEEDS = range(6)

Plant: TypeAlias = Callable[[pytest.MonkeyPatch], None]


def test_a_run_does_what_it_is_for() -> None:
    world = World(draw_script(1, "txn", 3, STEPS, ()), Trace())
    with world.fleet.loop.running():
        world.begin()
        world.events.run(10**15, STEPS)
    histories = world.fleet.histories
    answers = [
        operation.result
        for operation in histories.store.operations()
        if isinstance(operation.action, Transaction) and isinstance(operation.result, TransactionResult)
    ]
    assert {answer.succeeded for answer in answers} == {True, False}
    transfers = [
        operation.result
        for operation in histories.bank.operations()
        if isinstance(operation.action, BankTransfer)
    ]
    assert transfers.count(True) > 10


@pytest.mark.parametrize("seed", range(3))
def test_the_profile_holds(seed: int) -> None:
    report = run_seed(seed, "txn", steps=STEPS)
    assert not report.failed, report.text


def conditions_always_hold(patch: pytest.MonkeyPatch) -> None:
    def holds(condition: Condition, entry: KeyValue | None) -> bool:
        return True

    patch.setattr(transacting, "holds", holds)


def one_put_is_forgotten(patch: pytest.MonkeyPatch) -> None:
    put = Store.put_in_change

    def forgetful(self: Store, key: bytes, value: bytes) -> None:
        if key != b"b/1" or self.revision % 4:
            put(self, key, value)

    patch.setattr(Store, "put_in_change", forgetful)


def a_range_keeps_its_last_key(patch: pytest.MonkeyPatch) -> None:
    delete_range = Store.delete_range_in_change

    def sparing(self: Store, start: bytes, end: bytes | None) -> int:
        return delete_range(self, start, b"t/3")

    patch.setattr(Store, "delete_range_in_change", sparing)


def every_write_makes_two_revisions(patch: pytest.MonkeyPatch) -> None:
    end_change = Store.end_change

    def twice(self: Store, wrote: bool) -> None:
        end_change(self, wrote)
        self.revision += wrote

    patch.setattr(Store, "end_change", twice)


@pytest.mark.parametrize(
    "plant",
    [
        conditions_always_hold,
        one_put_is_forgotten,
        a_range_keeps_its_last_key,
        every_write_makes_two_revisions,
    ],
)
def test_what_is_planted_shows(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert any(run_seed(seed, "txn", steps=STEPS).invariant in ("I5", "I6") for seed in SEEDS)
