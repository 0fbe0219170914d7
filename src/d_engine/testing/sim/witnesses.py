"""Witnesses: for each rare scenario a recorded run that reaches it, so that a batch of any size has seen them all.

Lines of the file are `profile seed counter`; `#` begins a comment. A change of the engine or of the simulator changes
what a seed stands for, so a witness may go *stale*: it is reported, and nothing fails, as long as some other run has
reached the scenario. If none has, others are searched, and `renew` writes down those that do.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from d_engine.testing.sim.batch import Summary, Task, run_batch
from d_engine.testing.sim.scenarios import RARELY, SCENARIOS, Scenario

SEARCH_RUNS = 600
"""So many runs of its profile are tried for a scenario that nothing has reached."""

_HEAD = """\
# For each rare scenario of docs/design/simulation.md a run that reaches it: profile, seed, counter.
# `make sim` makes them all, and says which have gone stale; `make witnesses` searches others for these.
"""


@dataclass(frozen=True, slots=True)
class Witness:
    """A run that counts `counter`."""

    profile: str
    seed: int
    counter: str

    @property
    def task(self) -> Task:
        """To be made again."""
        return Task(self.seed, self.profile, witness=self.counter)


def read_witnesses(path: Path) -> tuple[Witness, ...]:
    """All of them. Raises `ValueError` for a line that is none."""
    found: list[Witness] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.partition("#")[0].split(maxsplit=2)
        if not words:
            continue
        if len(words) != 3 or not words[1].isdecimal():
            raise ValueError(f"{path}, line {number}: expected `profile seed counter`, found {line!r}")
        found.append(Witness(words[0], int(words[1]), words[2].strip()))
    return tuple(found)


def rare_scenarios() -> list[Scenario]:
    """Those that need a witness."""
    return [scenario for scenario in SCENARIOS if scenario.runs == RARELY]


def search(
    scenario: Scenario, summary: Summary, jobs: int | None, progress: Callable[[Summary], None]
) -> Task | None:
    """Make runs of the scenario's profile, from seed 0 on, until one has reached it or there were enough."""

    def tasks() -> Iterator[Task]:
        for seed in range(SEARCH_RUNS):
            if scenario.counter in summary.reached:
                return
            yield Task(seed, scenario.profile)

    run_batch(tasks(), jobs, progress=progress, summary=summary)
    return summary.reached.get(scenario.counter)


def renew(
    path: Path, jobs: int | None, tell: Callable[[str], object], progress: Callable[[Summary], None]
) -> Summary:
    """Make all recorded runs; search others for those that are stale or missing, and write the file. What comes back
    counts all of these runs."""
    known = read_witnesses(path) if path.exists() else ()
    summary = run_batch((witness.task for witness in known), jobs, progress=progress)
    lines: list[str] = []
    for scenario in rare_scenarios():
        task = summary.reached.get(scenario.counter)
        if task is None:
            task = search(scenario, summary, jobs, progress)
            found = "nothing" if task is None else f"{task.profile} {task.seed}"
            tell(f"{found} reaches scenario {scenario.number}: {scenario.what}\n")
        if task is not None:
            lines.append(f"{task.profile} {task.seed} {scenario.counter}\n")
    path.write_text(_HEAD + "".join(lines))
    return summary
