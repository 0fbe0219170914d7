"""The command line `d-engine sim`."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, count
from pathlib import Path

from d_engine.testing.sim.batch import REPEAT_EVERY, Summary, Task, run_batch
from d_engine.testing.sim.corpus import read_corpus
from d_engine.testing.sim.faults import FAULTS
from d_engine.testing.sim.profiles import PROFILES
from d_engine.testing.sim.report import describe_failure, describe_success, lanes
from d_engine.testing.sim.run import run_script
from d_engine.testing.sim.script import DEFAULT_STEPS, Script, draw_script, script_from_json
from d_engine.testing.sim.shrink import shrink
from d_engine.testing.sim.trace import TraceEvent
from d_engine.testing.sim.witnesses import read_witnesses, renew, search

MIX = (*["general"] * 4, *(name for name in PROFILES if name not in ("general", "calm")))
"""The profiles that a mixed batch takes in turn."""
Write = Callable[[str], object]


def main(arguments: Sequence[str], write: Write = sys.stdout.write) -> int:
    """Run what the arguments say. Returns the exit code: 1 if an invariant was broken."""
    parser = _parser()
    options = parser.parse_args(arguments)
    commit = current_commit()
    progress = Progress(write, sys.stdout.isatty()).show
    if options.renew is not None:
        return _conclude(renew(options.renew, options.jobs, write, progress), write, demanding=True)
    batch = (options.seeds, options.minutes, options.corpus, options.witnesses)
    if all(each is None for each in batch):
        if options.profile == "mix":
            parser.error("a single seed needs one profile; mix is for --seeds and --minutes")
        return _run_one(options, commit, write)
    summary = run_batch(
        _tasks(options, commit),
        options.jobs,
        60 * options.minutes if options.minutes is not None else float("inf"),
        options.at_least,
        progress,
    )
    if options.witnesses is not None:
        _search_unseen(summary, options.jobs, write, progress)
    return _conclude(summary, write, demanding=options.witnesses is not None)


def current_commit() -> str:
    """The commit of the working directory's repository, "unknown" outside of one."""
    command = ("git", "rev-parse", "HEAD")
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="d-engine sim",
        description="Simulate whole clusters under faults. Exit code 1: an invariant was broken; 2: bad usage.",
        epilog="profiles:\n" + "\n".join(f"  {name:12} {known.about}" for name, known in PROFILES.items()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seed", type=int, default=0, help="run this seed")
    parser.add_argument(
        "--seeds", type=_range, metavar="A:B", help="run the seeds A:B (B excluded) over all cores"
    )
    parser.add_argument("--minutes", type=_positive_float, help="run seeds drawn from the commit for so long")
    parser.add_argument(
        "--at-least", type=int, default=0, help="with --minutes: so many runs, however long they take"
    )
    parser.add_argument("--corpus", type=Path, help="run every seed of this file first")
    parser.add_argument(
        "--witnesses",
        type=Path,
        help="run every seed of this file first; a scenario that the whole batch has not reached fails it",
    )
    parser.add_argument("--renew", type=Path, help="bring a file of witnesses up to date, nothing else")
    parser.add_argument(
        "--profile",
        default="general",
        choices=(*PROFILES, "mix"),
        metavar="NAME",
        help="a family of faults and loads, or mix: all in turn",
    )
    parser.add_argument("--nodes", type=_positive, help="so many nodes instead of what the seed draws")
    parser.add_argument(
        "--steps", type=_positive, default=DEFAULT_STEPS, help="events before the faults are healed"
    )
    parser.add_argument(
        "--faults", type=_faults, metavar="A,B", help="only these faults, by name, with commas between"
    )
    parser.add_argument("--trace", type=Path, help="with --seed: write every event into this file")
    parser.add_argument("--script", type=Path, help="run a script that was kept instead of a seed")
    parser.add_argument(
        "--shrink", type=Path, help="if it fails, make it small and keep the script in this file"
    )
    parser.add_argument("--jobs", type=_positive, help="processes; all cores by default")
    return parser


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1")
    return int(text)


def _positive_float(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return number


def _range(text: str) -> range:
    first, _, end = text.partition(":")
    if not first.isdecimal() or not end.isdecimal() or int(first) >= int(end):
        raise argparse.ArgumentTypeError(f"{text!r} is not a range A:B with A below B, like 0:1000")
    return range(int(first), int(end))


def _faults(text: str) -> tuple[str, ...]:
    names = tuple(text.split(","))
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        raise argparse.ArgumentTypeError(
            f"unknown: {', '.join(unknown)}. There are: {', '.join(sorted(FAULTS))}"
        )
    return names


def _script(options: argparse.Namespace) -> Script:
    if options.script is not None:
        return script_from_json(options.script.read_bytes())
    return draw_script(options.seed, options.profile, options.nodes, options.steps, options.faults)


def _run_one(options: argparse.Namespace, commit: str, write: Write) -> int:
    script = _script(options)
    if options.trace is None:
        report = run_script(script)
    else:
        with options.trace.open("w") as file:

            def sink(event: TraceEvent) -> None:
                file.writelines(f"{line}\n" for line in lanes((event,), script.nodes))

            report = run_script(script, sink)
    if not report.failed:
        write(describe_success(report) + "\n")
        return 0
    write(describe_failure(report, commit) + "\n")
    if options.shrink is not None:
        small = shrink(script, progress=lambda best: None)
        options.shrink.write_bytes(small.script.to_json())
        write(f"\nshrunk to {len(small.script.faults)} faults, {small.events} events: {options.shrink}\n")
    return 1


def _tasks(options: argparse.Namespace, commit: str) -> Iterator[Task]:
    kept = read_corpus(options.corpus) if options.corpus is not None else ()
    corpus = [Task(entry.seed, entry.profile, entry.nodes, commit=commit) for entry in kept]
    if options.witnesses is not None:
        corpus += [replace(witness.task, commit=commit) for witness in read_witnesses(options.witnesses)]
    if options.seeds is not None:
        seeds: Iterator[int] = iter(options.seeds)
    elif options.minutes is not None:
        seeds = count(int(commit[:12], 16) if commit != "unknown" else 0)
    else:
        seeds = iter(())
    fresh = (
        Task(
            seed,
            MIX[number % len(MIX)] if options.profile == "mix" else options.profile,
            options.nodes,
            options.steps,
            options.faults,
            commit,
            number % REPEAT_EVERY == 0,
        )
        for number, seed in enumerate(seeds)
    )
    return chain(corpus, fresh)


def _search_unseen(
    summary: Summary, jobs: int | None, write: Write, progress: Callable[[Summary], None]
) -> None:
    """What the batch has not reached, its witness being stale perhaps, is to be reached by other runs."""
    for scenario in summary.unseen_scenarios():
        task = search(scenario, summary, jobs, progress)
        found = "nothing" if task is None else f"{task.profile} {task.seed}"
        write(f"{found} reaches scenario {scenario.number}, {scenario.what}, which no other run did\n")


def _conclude(summary: Summary, write: Write, demanding: bool = False) -> int:
    """`demanding`: every scenario must have been reached, however few runs there were."""
    write("\n".join(summary.lines()) + "\n")
    for task in summary.stale:
        write(f'a stale witness: {task.profile} {task.seed} no longer counts "{task.witness}". ')
        write("Make new ones with `make witnesses`, and commit them\n")
    silent = summary.silent_faults()
    if silent:
        write(f"these faults never fired, the batch proves nothing about them: {', '.join(silent)}\n")
    unseen = summary.unseen_scenarios() if demanding else summary.silent_scenarios()
    for scenario in unseen:
        write(f'scenario {scenario.number} was never seen: {scenario.what} (no "{scenario.counter}")\n')
    for ending in summary.failures:
        write(f"failed: {ending.task.profile} {ending.task.seed} {ending.invariant}\n")
    return 1 if summary.failures or silent or unseen else 0


class Progress:
    """Tells what a batch does: each failure at once, and on a terminal how far it is."""

    def __init__(self, write: Write, on_terminal: bool) -> None:
        self._write = write
        self._on_terminal = on_terminal
        self._told = 0

    def show(self, summary: Summary) -> None:
        """After each run."""
        start = "\r" if self._on_terminal else ""
        for ending in summary.failures[self._told :]:
            self._write(f"{start}{ending.failure}\n\n")
        self._told = len(summary.failures)
        if self._on_terminal:
            rate = summary.events / summary.seconds if summary.seconds else 0
            self._write(f"\r{summary.runs} runs, {rate:,.0f} events a second, {self._told} failures ")
            sys.stdout.flush()
