"""The command line: what it refuses, what it says, what it returns."""

from pathlib import Path

import pytest

from d_engine.testing.sim import command
from d_engine.testing.sim.batch import Ending, Summary, Task
from d_engine.testing.sim.command import Progress, main
from d_engine.testing.sim.durable import DiskOracle
from d_engine.testing.sim.profiles import PROFILES


def run(*arguments: str) -> tuple[int, str]:
    written: list[str] = []
    return main(arguments, written.append), "".join(written)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--faults", "kill_one,earthquake"), "unknown: earthquake. There are: "),
        (("--seeds", "5"), "'5' is not a range"),
        (("--seeds", "5:5"), "'5:5' is not a range"),
        (("--seeds", "a:b"), "'a:b' is not a range"),
        (("--nodes", "0"), "'0' is not a number from 1"),
        (("--steps", "-1"), "'-1' is not a number from 1"),
        (("--minutes", "nan"), "'nan' is not a number above 0"),
        (("--profile", "mix"), "a single seed needs one profile"),
        (("--profile", "chaos"), "invalid choice: 'chaos'"),
    ],
)
def test_bad_usage(arguments: tuple[str, ...], complaint: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(*arguments)
    assert stopped.value.code == 2
    assert complaint in capsys.readouterr().err


def test_help_lists_the_profiles(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run("--help")
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert all(f"{name} " in text and profile.about in text for name, profile in PROFILES.items())


def test_one_seed_and_its_trace(tmp_path: Path) -> None:
    path = tmp_path / "trace"
    arguments = ("--seed", "3", "--nodes", "3", "--steps", "500", "--faults", "kill_one,split")
    code, text = run(*arguments, "--trace", str(path))
    assert code == 0
    assert "seed 3 (general, 3 nodes)" in text
    assert (code, text.rpartition("trace")[2]) == (0, run(*arguments)[1].rpartition("trace")[2])
    lines = path.read_text().splitlines()
    assert len(lines) > 100
    assert "node 1 starts" in "\n".join(lines[:10])


def test_a_violation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(DiskOracle, "synced", lambda self, name: None)
    script = tmp_path / "script.json"
    code, text = run("--seed", "3", "--steps", "500", "--shrink", str(script))
    assert code == 1
    assert text.startswith("I7 is broken: node ")
    assert "d-engine sim --seed 3 --profile general" in text
    assert run("--script", str(script))[0] == 1
    code, text = run("--seeds", "0:3", "--steps", "500", "--jobs", "1")
    assert code == 1
    assert text.count("I7 is broken") == 3
    assert "failed: general 2 I7" in text


def test_a_batch_takes_the_corpus_first_and_then_seeds_of_the_commit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("# comment\ncalm 77\ncalm 78 2  # why\n")
    tasks: list[Task] = []

    def take(task: Task) -> Ending:
        tasks.append(task)
        return Ending(task, "", "", 10, 1, 1.0, 0.1, {})

    monkeypatch.setattr("d_engine.testing.sim.batch.run_task", take)
    monkeypatch.setattr(command, "current_commit", lambda: "00000000000aff")
    arguments = ("--corpus", str(corpus), "--minutes", "1e-12", "--at-least", "6", "--profile", "mix")
    assert run(*arguments, "--jobs", "1")[0] == 0
    assert [(task.seed, task.nodes) for task in tasks[:2]] == [(77, None), (78, 2)]
    assert [task.seed for task in tasks[2:]] == [0xA, 0xB, 0xC, 0xD]


def test_progress_on_a_terminal() -> None:
    written: list[str] = []
    progress, summary = Progress(written.append, on_terminal=True), Summary()
    summary.add(Ending(Task(1, "calm"), "I1", "I1 is broken", 10, 1, 1.0, 0.1, {}))
    progress.show(summary)
    progress.show(summary)
    assert "".join(written).count("I1 is broken") == 1
    assert written[-1].startswith("\r1 runs")
