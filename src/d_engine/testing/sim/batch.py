"""Many runs, over all cores, and what they showed together."""

import multiprocessing
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from d_engine.testing.sim.profiles import PROFILES
from d_engine.testing.sim.report import describe_failure
from d_engine.testing.sim.run import Report, run_script
from d_engine.testing.sim.scenarios import SCENARIOS, Scenario
from d_engine.testing.sim.script import DEFAULT_STEPS, Script, draw_script

REPEAT_EVERY = 25
"""One run in so many is made twice: the same seed must give the same trace."""
ENOUGH_RUNS = 50
"""So many runs that may have a fault, none of which had it, are no proof of anything."""
MAX_FAILURES = 20
"""After so many it is known that something is wrong."""


@dataclass(frozen=True, slots=True)
class Task:
    """One run. The fields are those of `run_seed`; `script` replaces them. `witness`: the counter for whose sake
    the run was recorded."""

    seed: int
    profile: str
    nodes: int | None = None
    steps: int = DEFAULT_STEPS
    faults: tuple[str, ...] | None = None
    commit: str = "unknown"
    twice: bool = False
    script: Script | None = None
    witness: str = ""


@dataclass(frozen=True, slots=True)
class Ending:
    """What is told of one run across processes. `failure` is "" or the whole story."""

    task: Task
    invariant: str
    failure: str
    events: int
    operations: int
    virtual: float
    seconds: float
    counters: dict[str, int]


@dataclass(slots=True)
class Summary:
    """All runs of a batch. `reached`: the first run of its profile that reached a scenario, by counter; `stale`:
    recorded runs that no longer reach what they were recorded for."""

    runs: int = 0
    events: int = 0
    operations: int = 0
    virtual: float = 0.0
    cpu_seconds: float = 0.0
    seconds: float = 0.0
    counters: Counter[str] = field(default_factory=Counter)
    profiles: Counter[str] = field(default_factory=Counter)
    failures: list[Ending] = field(default_factory=list)
    reached: dict[str, Task] = field(default_factory=dict)
    stale: list[Task] = field(default_factory=list)

    def add(self, ending: Ending) -> None:
        """One more run."""
        self.runs += 1
        self.events += ending.events
        self.operations += ending.operations
        self.virtual += ending.virtual
        self.cpu_seconds += ending.seconds
        self.counters.update(ending.counters)
        self.profiles[ending.task.profile] += 1
        for scenario in SCENARIOS:
            if scenario.profile == ending.task.profile and ending.counters.get(scenario.counter):
                self.reached.setdefault(scenario.counter, ending.task)
        if ending.task.witness and not ending.counters.get(ending.task.witness):
            self.stale.append(ending.task)
        if ending.failure:
            self.failures.append(ending)

    def silent_faults(self) -> list[str]:
        """Faults that should have fired in so many runs and did not."""
        chances: Counter[str] = Counter()
        for profile, runs in self.profiles.items():
            chances.update(dict.fromkeys(PROFILES[profile].faults, runs))
        return sorted(
            name
            for name, runs in chances.items()
            if runs >= ENOUGH_RUNS and not self.counters[f"fault: {name}"]
        )

    def silent_scenarios(self) -> list[Scenario]:
        """Scenarios that should have been seen in so many runs and were not."""
        return [
            scenario
            for scenario in self.unseen_scenarios()
            if self.profiles[scenario.profile] >= scenario.runs
        ]

    def unseen_scenarios(self) -> list[Scenario]:
        """Scenarios that no run has reached."""
        return [scenario for scenario in SCENARIOS if not self.counters[scenario.counter]]

    def lines(self) -> Iterator[str]:
        """In words."""
        rate = self.events / self.cpu_seconds if self.cpu_seconds else 0
        yield (
            f"{self.runs} runs, {self.events} events ({rate:,.0f} a second and core), {self.operations} operations, "
            f"{self.virtual / 3600:.2f} simulated hours in {self.seconds:.0f} s, {len(self.failures)} failures"
        )
        for name, times in sorted(self.counters.items()):
            if not name.startswith("no place for"):
                yield f"    {times:>10,}  {name}"


def run_task(task: Task) -> Ending:
    """One run, in whatever process."""
    script = task.script or draw_script(task.seed, task.profile, task.nodes, task.steps, task.faults)
    report = run_script(script)
    invariant, failure = report.invariant, describe_failure(report, task.commit) if report.failed else ""
    if not failure and task.twice:
        invariant, failure = _compare(report, run_script(script))
    return Ending(
        task,
        invariant,
        failure,
        report.events,
        report.operations,
        report.virtual,
        report.seconds,
        report.counters,
    )


def _compare(first: Report, second: Report) -> tuple[str, str]:
    if first.trace_hash == second.trace_hash:
        return "", ""
    script = first.script
    text = f"seed {script.seed}, profile {script.profile}: traces {first.trace_hash} and {second.trace_hash}"
    return "determinism", text


def run_batch(
    tasks: Iterable[Task],
    jobs: int | None = None,
    time_limit: float = float("inf"),
    at_least: int = 0,
    progress: Callable[[Summary], None] = lambda summary: None,
    summary: Summary | None = None,
) -> Summary:
    """Run the tasks over all cores; stop taking new ones after `time_limit` seconds and `at_least` runs, or when there
    is nothing more to learn from failures. With a `summary`, this goes on with it."""
    summary = Summary() if summary is None else summary
    began = time.monotonic() - summary.seconds

    def within_time() -> Iterator[Task]:
        for number, task in enumerate(tasks):
            out_of_time = time.monotonic() - began > time_limit and number >= at_least
            if out_of_time or len(summary.failures) >= MAX_FAILURES:
                return
            yield task

    def take(endings: Iterable[Ending]) -> None:
        for ending in endings:
            summary.add(ending)
            summary.seconds = time.monotonic() - began
            progress(summary)

    count = jobs or len(os.sched_getaffinity(0))
    if count == 1:
        take(map(run_task, within_time()))
        return summary
    with multiprocessing.Pool(count, maxtasksperchild=200) as pool:
        take(_bounded(pool, within_time(), 2 * count))
    return summary


def _bounded(pool: "multiprocessing.pool.Pool", tasks: Iterator[Task], limit: int) -> Iterator[Ending]:
    """Like `imap`, but tasks are taken only when there is somebody to run them."""
    waiting = [pool.apply_async(run_task, (task,)) for _, task in zip(range(limit), tasks, strict=False)]
    while waiting:
        ready = waiting.pop(0)
        yield ready.get()
        waiting.extend(pool.apply_async(run_task, (task,)) for _, task in zip(range(1), tasks, strict=False))
