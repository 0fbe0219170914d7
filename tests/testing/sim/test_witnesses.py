"""Each rare scenario has a recorded run; a stale one is reported and renewed; what nothing reaches fails a batch."""

from pathlib import Path

import pytest

from d_engine.testing.sim import batch, command
from d_engine.testing.sim.batch import Ending, Task
from d_engine.testing.sim.scenarios import OFTEN, RARELY, Scenario
from d_engine.testing.sim.witnesses import Witness, rare_scenarios, read_witnesses

FILE = Path(__file__).parents[1] / "witnesses.txt"
COUNTER = "seen: what happens in run 3"
RARE = Scenario(98, "what happens in run 3", "calm", COUNTER, RARELY)
NEVER = Scenario(99, "what never happens", "calm", "seen: what never happens", OFTEN)


def test_there_is_one_for_each_rare_scenario() -> None:
    listed = [(witness.profile, witness.counter) for witness in read_witnesses(FILE)]
    assert listed == [(scenario.profile, scenario.counter) for scenario in rare_scenarios()]


def test_a_line_that_is_none(tmp_path: Path) -> None:
    file = tmp_path / "witnesses.txt"
    file.write_text("# nothing\n\ncalm 7 seen: it # and so on\n")
    assert read_witnesses(file) == (Witness("calm", 7, "seen: it"),)
    file.write_text("calm 7 seen: it\ncalm seven seen: it\n")
    with pytest.raises(ValueError, match="line 2"):
        read_witnesses(file)


def run_nothing(task: Task) -> Ending:
    counters = {COUNTER: 1} if task.seed == 3 else {}
    return Ending(task, "", "", 1, 1, 1.0, 0.0, counters)


def run(monkeypatch: pytest.MonkeyPatch, scenarios: tuple[Scenario, ...], *arguments: str) -> tuple[int, str]:
    for module in ("batch", "witnesses"):
        monkeypatch.setattr(f"d_engine.testing.sim.{module}.SCENARIOS", scenarios)
    monkeypatch.setattr(batch, "run_task", run_nothing)
    written: list[str] = []
    code = command.main([*arguments, "--jobs", "1"], written.append)
    return code, "".join(written)


def test_a_stale_witness_is_reported_and_renewed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "witnesses.txt"
    file.write_text(f"calm 0 {COUNTER}\n")
    code, told = run(monkeypatch, (RARE,), "--witnesses", str(file))
    assert code == 0, told
    assert "a stale witness: calm 0" in told
    assert "make witnesses" in told
    assert "calm 3 reaches scenario 98" in told
    code, told = run(monkeypatch, (RARE,), "--renew", str(file))
    assert code == 0, told
    assert read_witnesses(file) == (Witness("calm", 3, COUNTER),)
    code, told = run(monkeypatch, (RARE,), "--witnesses", str(file))
    assert code == 0, told
    assert "stale" not in told


def test_what_nothing_reaches_fails_however_small_the_batch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "witnesses.txt"
    file.write_text("")
    code, told = run(monkeypatch, (NEVER,), "--witnesses", str(file), "--seeds", "0:1", "--profile", "calm")
    assert code == 1
    assert "scenario 99 was never seen" in told
    assert run(monkeypatch, (NEVER,), "--seeds", "0:1", "--profile", "calm")[0] == 0
