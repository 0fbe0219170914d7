"""The table of scenarios in the documents is the one that batches are held to, and figure 8 does happen."""

from pathlib import Path

import pytest

from d_engine.testing.sim.profiles import PROFILES
from d_engine.testing.sim.run import run_seed
from d_engine.testing.sim.scenarios import SCENARIOS

PAGE = Path(__file__).parents[3] / "docs" / "design" / "simulation.md"


def test_the_page_has_the_same_table() -> None:
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and line[2].isdigit()]
    listed = [tuple(cell.strip() for cell in row.strip("|").split("|")) for row in rows]
    assert listed == [(str(each.number), each.what, f"`{each.profile}`", each.counter) for each in SCENARIOS]


def test_figure_8_happens_and_nothing_is_lost() -> None:
    """Scenario 8: an entry of an old term on a majority is not committed, and may be replaced."""
    seen = 0
    for seed in range(6):
        report = run_seed(seed, "replication", nodes=3, faults=("figure_eight",))
        assert not report.failed, report.text
        seen += report.counters.get("seen: an entry that a majority had, and that is replaced", 0)
    assert seen


@pytest.mark.slow
@pytest.mark.parametrize("profile", sorted({scenario.profile for scenario in SCENARIOS}))
def test_most_of_a_profiles_scenarios_in_a_few_runs(profile: str) -> None:
    expected = [scenario.counter for scenario in SCENARIOS if scenario.profile == profile]
    counters: dict[str, int] = {}
    for seed in range(40):
        report = run_seed(seed, profile)
        assert not report.failed, report.text
        for name, times in report.counters.items():
            counters[name] = counters.get(name, 0) + times
        if len([name for name in expected if counters.get(name)]) * 2 > len(expected):
            break
    else:
        pytest.fail(f"in 40 runs not even half of {expected}")
    assert set(PROFILES[profile].faults) & {name.removeprefix("fault: ") for name in counters}
