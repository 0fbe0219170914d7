"""`python -m benchmarks`: run the cases round by round, print and save the medians."""

import argparse
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

from benchmarks import report
from benchmarks.cases import Case, Sample, Subject, all_cases
from benchmarks.control import BenchmarkError
from benchmarks.extras import all_tables
from benchmarks.machine import Usage, default_parent, describe, filesystem, is_in_memory
from benchmarks.plots import draw_all
from benchmarks.subjects import NOTES, SUBJECTS, absent

RESULTS = Path(__file__).parent / "results"
_PAUSE_SECONDS = 0.2
"""Between cases, so that none pays for what the one before left behind."""
_DISTURBED = 0.1


def arguments_of(argv: Sequence[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description="Measure this machine.")
    parser.add_argument("--rounds", type=int, default=3, help="how often each case runs (default 3)")
    parser.add_argument("--seconds", type=float, default=3.0, help="how long each case runs (default 3)")
    parser.add_argument(
        "--quick",
        action="store_true",
        help="one round of one second each, nothing saved: to see that it works",
    )
    parser.add_argument(
        "--only", action="append", default=[], help="part of a case's name, such as embedded/put"
    )
    parser.add_argument(
        "--attempts",
        type=int,
        default=3,
        help="a run that others disturb is repeated until there are so many of it (default 3)",
    )
    parser.add_argument(
        "--no-extras", action="store_true", help="only rates: no failover, memory, start and growth"
    )
    parser.add_argument("--list", action="store_true", help="list the cases' names and end")
    parser.add_argument(
        "--directory", type=Path, default=default_parent(), help="where data goes, on a real disk"
    )
    parser.add_argument(
        "--output", type=Path, help="the results' path without suffix (default benchmarks/results/...)"
    )
    arguments = parser.parse_args(argv)
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 1.0
    return arguments


@contextmanager
def running_subject(name: str, directory: Path) -> Iterator[Subject]:
    """The subject, started, with a directory of its own."""
    subject = SUBJECTS[name]()
    with tempfile.TemporaryDirectory(dir=directory, prefix=f"{name}-") as own:
        try:
            subject.start(Path(own))
            yield subject
        finally:
            subject.stop()


def run_round(
    cases: Sequence[Case], seconds: float, attempts: int, directory: Path
) -> Iterator[tuple[Case, Sample | BenchmarkError]]:
    """Every case once, on fresh subjects. A case that fails does not keep the others from being measured."""
    with ExitStack() as stack:
        subjects: dict[str, Subject] = {}
        for case in cases:
            if case.subject not in subjects:
                subjects[case.subject] = stack.enter_context(running_subject(case.subject, directory))
            try:
                yield case, run_undisturbed(subjects[case.subject], case, seconds, attempts)
            except BenchmarkError as error:
                yield case, error


def run_undisturbed(subject: Subject, case: Case, seconds: float, attempts: int) -> Sample:
    """One run. If others kept the machine busy meanwhile it is repeated, and the least disturbed one counts."""
    samples: list[Sample] = []
    while len(samples) < attempts and all(sample.disturbance > _DISTURBED for sample in samples):
        time.sleep(_PAUSE_SECONDS * (1 + 4 * len(samples)))
        usage = Usage()
        sample = subject.run(case.work, case.tasks, seconds)
        samples.append(replace(sample, disturbance=usage.disturbance()))
    return min(samples, key=lambda sample: sample.disturbance)


def main(argv: Sequence[str]) -> int:
    """Exit code 0, 1 if something failed, 2 if no case fits."""
    arguments = arguments_of(argv)
    wanted: list[str] = arguments.only
    missing = absent()
    cases = [case for case in all_cases() if not wanted or any(part in case.name for part in wanted)]
    cases = [case for case in cases if case.subject not in missing]
    for name, reason in missing.items():
        print(f"{name} is left out: {reason}", file=sys.stderr)
    if arguments.list or not cases:
        print("\n".join(case.name for case in cases or all_cases()))
        return 0 if cases else 2
    kind = filesystem(arguments.directory)
    if is_in_memory(kind):
        print(
            f"warning: {arguments.directory} is on {kind}: a sync there says nothing about a disk",
            file=sys.stderr,
        )
    machine = describe(arguments.directory) | {"time": time.strftime("%Y-%m-%d-%H%M%S")}
    try:
        results, failed = measure(cases, arguments)
        finish(results, {}, machine, missing | failed, arguments)
        if not (wanted or arguments.quick or arguments.no_extras):
            finish(results, measure_extras(arguments), machine, missing | failed, arguments)
    except BenchmarkError as error:
        print(f"the benchmark failed: {error}", file=sys.stderr)
        return 1
    return 1 if failed else 0


def measure_extras(arguments: argparse.Namespace) -> report.Extras:
    """What is no rate."""
    with tempfile.TemporaryDirectory(dir=arguments.directory, prefix="d-engine-bench-") as directory:
        return all_tables(Path(directory), arguments.seconds)


def finish(
    results: report.Results,
    extras: report.Extras,
    machine: dict[str, str],
    missing: dict[str, str],
    arguments: argparse.Namespace,
) -> None:
    """Print, save and draw what there is so far."""
    text = report.markdown(results, machine, NOTES, missing, extras)
    print(text, flush=True)
    if arguments.quick and not arguments.output:
        return
    output = arguments.output or RESULTS / machine["time"]
    settings = {"rounds": arguments.rounds, "seconds": arguments.seconds}
    report.save(results, machine, settings, extras, output)
    output.with_suffix(".md").write_text(text)
    print(f"saved as {output}.json and .md", file=sys.stderr)
    if find_spec("matplotlib") is None:
        print("no pictures: matplotlib is not installed", file=sys.stderr)
    else:
        print("\n".join(map(str, draw_all(output.with_suffix(".json")))), file=sys.stderr)


def measure(
    cases: Sequence[Case], arguments: argparse.Namespace
) -> tuple[dict[Case, list[Sample]], dict[str, str]]:
    """All rounds, with a line for each run on the standard error stream; then, by name, why cases failed. One that
    failed in one round is left out of all: rounds are compared with each other."""
    results: dict[Case, list[Sample]] = {case: [] for case in cases}
    failed: dict[str, str] = {}
    with tempfile.TemporaryDirectory(dir=arguments.directory, prefix="d-engine-bench-") as directory:
        for number in range(1, arguments.rounds + 1):
            for case, sample in run_round(
                list(results), arguments.seconds, arguments.attempts, Path(directory)
            ):
                if isinstance(sample, BenchmarkError):
                    failed[case.name] = f"it failed in round {number}: {sample}"
                    del results[case]
                    line = str(sample)
                else:
                    results[case].append(sample)
                    line = f"{sample.rate:12,.0f}/s   {report.latency([sample]):20}"
                    line += f" others {sample.disturbance:.0%}"
                print(f"round {number}  {case.name:40} {line}", file=sys.stderr, flush=True)
    return results, failed


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
