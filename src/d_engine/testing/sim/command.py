"""The command line `d-engine sim`."""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path

from d_engine.testing.sim.batch import REPEAT_EVERY, Summary, Task, run_batch
from d_engine.testing.sim.corpus import read_corpus
from d_engine.testing.sim.profiles import PROFILES
from d_engine.testing.sim.report import describe_failure, describe_success, lanes
from d_engine.testing.sim.run import run_script
from d_engine.testing.sim.script import DEFAULT_STEPS, Script, draw_script, script_from_json
from d_engine.testing.sim.shrink import shrink
from d_engine.testing.sim.trace import TraceEvent

MIX = (*["general"] * 4, *(name for name in PROFILES if name not in ("general", "calm")))
"""The profiles that a mixed batch takes in turn."""
Write = Callable[[str], object]


def main(arguments: Sequence[str], write: Write = sys.stdout.write) -> int:
    """Run what the arguments say. Returns the exit code: 1 if an invariant was broken."""
    options = _parser().parse_args(arguments)
    commit = current_commit()
    if options.seeds is None and options.minutes is None and options.corpus is None:
        return _run_one(options, commit, write)
    summary = run_batch(
        _tasks(options, commit),
        options.jobs,
        60 * options.minutes if options.minutes is not None else float("inf"),
        _progress(write) if sys.stdout.isatty() else _silence,
    )
    return _conclude(summary, write)


def current_commit() -> str:
    """The commit of the working directory's repository, "unknown" outside of one."""
    command = ("git", "rev-parse", "HEAD")
    try:
        found = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return found.stdout.strip()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="d-engine sim", description="Simulate whole clusters under faults.")
    parser.add_argument("--seed", type=int, default=0, help="run this seed")
    parser.add_argument("--seeds", help="run the seeds A:B (B excluded) over all cores")
    parser.add_argument("--minutes", type=float, help="run seeds drawn from the commit for so long")
    parser.add_argument(
        "--at-least", type=int, default=0, help="with --minutes: so many runs, however long they take"
    )
    parser.add_argument("--corpus", type=Path, help="run every seed of this file first")
    parser.add_argument(
        "--profile", default="general", choices=(*PROFILES, "mix"), help="a family of faults and loads"
    )
    parser.add_argument("--nodes", type=int, help="so many nodes instead of what the seed draws")
    parser.add_argument(
        "--steps", type=int, default=DEFAULT_STEPS, help="events before the faults are healed"
    )
    parser.add_argument("--faults", help="only these faults, by name, with commas between")
    parser.add_argument("--trace", type=Path, help="with --seed: write every event into this file")
    parser.add_argument("--script", type=Path, help="run a script that was kept instead of a seed")
    parser.add_argument(
        "--shrink", type=Path, help="if it fails, make it small and keep the script in this file"
    )
    parser.add_argument("--jobs", type=int, help="processes; all cores by default")
    return parser


def _faults(options: argparse.Namespace) -> tuple[str, ...] | None:
    return tuple(options.faults.split(",")) if options.faults is not None else None


def _script(options: argparse.Namespace) -> Script:
    if options.script is not None:
        return script_from_json(options.script.read_bytes())
    profile = "general" if options.profile == "mix" else options.profile
    return draw_script(options.seed, profile, options.nodes, options.steps, _faults(options))


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
    corpus = (Task(entry.seed, entry.profile, entry.nodes, commit=commit) for entry in kept)
    if options.seeds is not None:
        first, _, end = options.seeds.partition(":")
        seeds: Iterator[int] = iter(range(int(first), int(end)))
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
            _faults(options),
            commit,
            number % REPEAT_EVERY == 0,
        )
        for number, seed in enumerate(seeds)
    )
    return chain(corpus, fresh)


def _conclude(summary: Summary, write: Write) -> int:
    write("\n")
    for ending in summary.failures:
        write(ending.failure + "\n\n")
    write("\n".join(summary.lines()) + "\n")
    silent = summary.silent_faults()
    if silent:
        write(f"these faults never fired, the batch proves nothing about them: {', '.join(silent)}\n")
    for ending in summary.failures:
        write(f"failed: {ending.task.profile} {ending.task.seed} {ending.invariant}\n")
    return 1 if summary.failures or silent else 0


def _progress(write: Write) -> Callable[[Summary], None]:
    def show(summary: Summary) -> None:
        rate = summary.events / summary.seconds if summary.seconds else 0
        write(f"\r{summary.runs} runs, {rate:,.0f} events a second, {len(summary.failures)} failures ")
        sys.stdout.flush()

    return show


def _silence(summary: Summary) -> None:
    """Nobody is looking."""
