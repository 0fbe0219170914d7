"""Batches: what they must have seen, when they stop, and runs that differ."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count

import pytest

from d_engine.testing.sim import batch
from d_engine.testing.sim.batch import ENOUGH_RUNS, MAX_FAILURES, Ending, Summary, Task, run_batch, run_task
from d_engine.testing.sim.profiles import PROFILES
from d_engine.testing.sim.run import Report, run_script
from d_engine.testing.sim.scenarios import OFTEN, RARELY, SCENARIOS
from d_engine.testing.sim.script import Script


def ending(profile: str, failure: str = "", counter: str = "client: ok") -> Ending:
    return Ending(Task(1, profile), "I1" if failure else "", failure, 10, 1, 1.0, 0.1, {counter: 1})


def endless(profile: str = "calm") -> Iterator[Task]:
    return (Task(seed, profile, steps=50) for seed in count())


def test_a_fault_that_never_fired() -> None:
    summary = Summary()
    for _ in range(ENOUGH_RUNS - 1):
        summary.add(ending("partitions"))
    assert summary.silent_faults() == []
    summary.add(ending("partitions", counter="fault: ring"))
    assert "split" in summary.silent_faults()
    assert "ring" not in summary.silent_faults()
    assert "bit_rot" not in summary.silent_faults()


def test_a_scenario_that_was_never_seen() -> None:
    summary = Summary()
    for _ in range(OFTEN):
        summary.add(ending("lease", counter="lease: granted"))
    assert [scenario.number for scenario in summary.silent_scenarios()] == [41]
    for _ in range(RARELY):
        summary.add(ending("replication", counter="seen: a long suffix that is replaced"))
    numbers = [scenario.number for scenario in summary.silent_scenarios()]
    assert (numbers.count(8), numbers.count(10)) == (2, 0)


def test_all_profiles_and_faults_of_scenarios_exist() -> None:
    for scenario in SCENARIOS:
        faults = PROFILES[scenario.profile].faults
        kind, _, name = scenario.counter.partition(": ")
        assert kind != "fault" or name in faults, scenario


def test_a_batch_ends_in_time_but_not_before_it_has_enough() -> None:
    assert run_batch(endless(), 1, time_limit=0.0, at_least=3).runs == 3
    assert run_batch(endless(), 1, time_limit=0.0).runs <= 1


def test_a_batch_gives_up_after_many_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "run_task", lambda task: ending(task.profile, "it is broken"))
    summary = run_batch(endless(), 1)
    assert (summary.runs, len(summary.failures)) == (MAX_FAILURES, MAX_FAILURES)


def test_a_run_that_does_not_repeat_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    assert run_task(Task(1, "calm", steps=100, twice=True)).failure == ""
    numbers = count()

    def other_each_time(script: Script) -> Report:
        return replace(run_script(script), trace_hash=str(next(numbers)))

    monkeypatch.setattr(batch, "run_script", other_each_time)
    assert run_task(Task(1, "calm", steps=100, twice=True)).invariant == "determinism"
