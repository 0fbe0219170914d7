"""The regression gate: is this tree slower than an earlier commit?

    make bench-gate                           against the commit that origin/main names
    make bench-gate ARGS='--baseline 1a2b3c'  against another one

The baseline's sources are checked out beside, and both are run in alternation by the benchmarks of *this* tree, five
times each. Compared are the medians of processor seconds per 10,000 operations, over all three nodes and the load: on
a shared machine they say more than rates. A case that costs 15 % more than the baseline fails the gate.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median

from benchmarks.cases import Case, Work
from benchmarks.control import ROOT, BenchmarkError
from benchmarks.embedded import Embedded
from benchmarks.machine import default_parent

PAIRS = 5
LIMIT = 0.15
_SECONDS = 1.5
_CASES = (
    Case("embedded", Work("put", "overwrites"), 1),
    Case("embedded", Work("put", "overwrites"), 100),
    Case("embedded", Work("put", "overwrites"), 1000),
    Case("embedded", Work("get", "linearizable"), 100),
    Case("embedded", Work("get", "eventual"), 1),
)

Costs = Mapping[str, float]


def measure(directory: Path, seconds: float) -> Costs:
    """Processor seconds per 10,000 operations of each case, with the sources that this process has imported."""
    subject = Embedded()
    costs = {}
    try:
        subject.start(directory)
        for case in _CASES:
            sample = subject.run(case.work, case.tasks, seconds)
            costs[case.name] = sum(sample.cpu_us.values()) / 100
    finally:
        subject.stop()
    return costs


def run_tree(sources: Path, parent: Path, seconds: float) -> Costs:
    """`measure` in a process that imports these sources."""
    command = [sys.executable, "-m", "benchmarks.gate", "--measure", "--seconds", str(seconds)]
    command += ["--directory", str(parent)]
    environment = {**os.environ, "PYTHONPATH": str(sources)}
    ended = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    if ended.returncode:
        raise BenchmarkError(f"the run with {sources} failed: {ended.stderr[-1000:]}")
    costs: Costs = json.loads(ended.stdout.splitlines()[-1])
    return costs


def check_out(commit: str, folder: Path) -> None:
    """The commit's `src`, in a folder of its own."""
    archive = subprocess.run(
        ["git", "archive", "--format=tar", commit, "src"], cwd=ROOT, capture_output=True, check=False
    )
    if archive.returncode:
        raise BenchmarkError(f"{commit} cannot be checked out: {archive.stderr.decode()}")
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)


def verdict(before: Sequence[Costs], after: Sequence[Costs]) -> tuple[list[str], bool]:
    """A line for each case, and whether all are within the limit."""
    lines, good = [], True
    for case in _CASES:
        old = median(costs[case.name] for costs in before)
        new = median(costs[case.name] for costs in after)
        change = new / old - 1
        within = change <= LIMIT
        good = good and within
        lines.append(
            f"{case.name:34} {old:8.3f} -> {new:8.3f} s per 10,000  {change:+.0%}  {'' if within else 'TOO MUCH'}"
        )
    return lines, good


def main(argv: Sequence[str]) -> int:
    """Exit code 0 if nothing costs more than the limit, 1 if something does or cannot be measured."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--baseline", default="origin/main", help="the commit to compare with")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--seconds", type=float, default=_SECONDS, help="of each case")
    parser.add_argument("--directory", type=Path, default=default_parent())
    parser.add_argument("--measure", action="store_true", help="only measure; for the gate's own processes")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(dir=options.directory, prefix="d-engine-gate-") as name:
        folder = Path(name)
        if options.measure:
            print(json.dumps(measure(folder, options.seconds)))
            return 0
        before: list[Costs] = []
        after: list[Costs] = []
        try:
            check_out(options.baseline, folder)
            for pair in range(options.pairs):
                # The order changes from pair to pair: whoever comes second finds a warmer machine.
                for is_old in (True, False) if pair % 2 == 0 else (False, True):
                    sources = folder / "src" if is_old else ROOT / "src"
                    (before if is_old else after).append(run_tree(sources, folder, options.seconds))
                print(f"pair {pair + 1} of {options.pairs}", file=sys.stderr, flush=True)
        except BenchmarkError as error:
            print(f"the gate failed: {error}", file=sys.stderr)
            return 1
    lines, good = verdict(before, after)
    print("\n".join(lines))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
