"""A failing script becomes a small one that fails in the same way."""

import pytest

from d_engine.testing.sim.durable import DiskOracle
from d_engine.testing.sim.run import run_script
from d_engine.testing.sim.script import draw_script, script_from_json
from d_engine.testing.sim.shrink import shrink


def forget_syncs(self: DiskOracle, name: str) -> None:
    """An oracle that misses that anything became durable: the first promise of a node fails."""


def test_a_small_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DiskOracle, "synced", forget_syncs)
    script = draw_script(3, "general", steps=2000)
    small = shrink(script, max_runs=60)
    assert small.invariant == run_script(script).invariant == "I7"
    assert len(small.script.faults) < len(script.faults) // 10
    assert small.script.steps < script.steps
    kept = script_from_json(small.script.to_json())
    assert kept == small.script
    again = run_script(kept)
    assert (again.invariant, again.trace_hash) == (small.invariant, small.trace_hash)


def test_a_script_that_does_not_fail() -> None:
    with pytest.raises(ValueError, match="nothing to shrink"):
        shrink(draw_script(1, "calm", steps=200))
