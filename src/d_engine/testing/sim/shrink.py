"""From a failing script to a small one that fails in the same way.

What a script decides (see `d_engine.testing.sim.script`) can be taken away: faults, operations, clients, nodes, events.
Every generator of a run has a seed of its own, so the rest stays as it was. A smaller script counts if it breaks the
same invariant. Faults are removed in ever smaller pieces (Zeller and Hildebrandt, "Simplifying and isolating
failure-inducing input", IEEE TSE 28(2), 2002), everything else by halves.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace

from d_engine.testing.sim.run import Report, run_script
from d_engine.testing.sim.script import Script

DEFAULT_RUNS = 300


def shrink(
    script: Script, max_runs: int = DEFAULT_RUNS, progress: Callable[[Report], None] = lambda report: None
) -> Report:
    """The report of the smallest script found within so many runs. Raises `ValueError` if the script does not fail."""
    best = run_script(script)
    if not best.failed:
        raise ValueError("the script does not fail, there is nothing to shrink")
    search = _Search(best, max_runs, progress)
    while search.round():
        pass
    return search.best


class _Search:
    """The smallest failing script so far."""

    def __init__(self, best: Report, runs_left: int, progress: Callable[[Report], None]) -> None:
        self.best = best
        self._runs_left = runs_left
        self._progress = progress

    def round(self) -> bool:
        """Try everything once. True if something could be taken away."""
        before = self.best.script
        self._cut_time()
        self._take_away_faults()
        for smaller in _simpler(self.best.script):
            self._try(smaller)
        return self.best.script != before and self._runs_left > 0

    def _try(self, script: Script) -> bool:
        if self._runs_left <= 0 or script == self.best.script:
            return False
        self._runs_left -= 1
        report = run_script(script)
        if report.invariant != self.best.invariant:
            return False
        self.best = report
        self._progress(report)
        return True

    def _cut_time(self) -> None:
        """What lies behind the failure is of no interest."""
        script = self.best.script
        end = int(self.best.virtual * 1e9)
        self._try(replace(script, faults=tuple(planned for planned in script.faults if planned.at <= end)))
        self._try(replace(self.best.script, steps=min(script.steps, self.best.events)))

    def _take_away_faults(self) -> None:
        size = max(1, len(self.best.script.faults) // 2)
        while True:
            start = 0
            while start < len(self.best.script.faults):
                faults = self.best.script.faults
                if not self._try(replace(self.best.script, faults=faults[:start] + faults[start + size :])):
                    start += size
            if size == 1:
                return
            size //= 2


def _simpler(script: Script) -> Iterator[Script]:
    for nodes in range(1, script.nodes):
        yield replace(script, nodes=nodes)
    for embedded in range(script.embedded):
        yield replace(script, embedded=embedded)
    for remote in range(script.remote):
        yield replace(script, remote=remote)
    for operations in (1, 2, 5, 10, 20, 50, 100, 200):
        if operations < script.operations:
            yield replace(script, operations=operations)
    for share in (8, 4, 2):
        yield replace(script, steps=script.steps * (share - 1) // share)
    yield replace(script, workload=replace(script.workload, lines=1, keys=1))
