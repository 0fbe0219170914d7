"""Every scenario of `tests/raft/scenarios` still happens as written down."""

from pathlib import Path

import pytest

from tests.raft.scenario_runner import run_text, scenario_files


@pytest.mark.parametrize("path", scenario_files(), ids=lambda path: path.stem)
def test_happens_as_written_down(path: Path) -> None:
    text = path.read_text()

    assert run_text(text) == text


def test_there_are_scenarios() -> None:
    assert len(scenario_files()) >= 30
