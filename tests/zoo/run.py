"""The zoo's rounds: every animal must be caught.

`python -m tests.zoo.run` replays each animal's recorded run, which must catch it, and `--new` further ones drawn from
the commit (they show how easily it is caught; they may miss it). If the recorded run no longer catches, because the
code has changed what a seed stands for, others are tried until the time is over. `--full` searches all of them anew and
writes what it found into the animals' files and the page.

A run that breaks something in the sources as they are catches nothing: it is a bug of the engine or of the simulator,
and is reported as such.
"""

import argparse
import hashlib
import os
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.zoo.animals import ROOT, Animal, Catch, load_animals
from tests.zoo.keeper import Outcome, keep
from tests.zoo.page import write_page

SEARCH_RUNS = 500


@dataclass(frozen=True, slots=True)
class Orders:
    """What is to be done: `new` further runs an animal, or a full search. `deadline` is by the monotonic clock."""

    full: bool
    new: int
    commit: str
    deadline: float


@dataclass(frozen=True, slots=True)
class Visit:
    """What became of one animal. `remarks` are for people."""

    animal: Animal
    caught: Catch | None
    remarks: tuple[str, ...]
    seconds: float


def visit(animal: Animal, orders: Orders) -> Visit:
    """See whether the animal is caught."""
    began = time.monotonic()
    remarks: list[str] = []
    with TemporaryDirectory(prefix="zoo-") as directory:
        copy = Path(directory) / "src"
        animal.bring_into(copy)
        caught, known = None, animal.caught
        if not orders.full and known is not None:
            caught = _search(animal, copy, [(known.profile, known.seed)], orders, remarks)
            if caught is None:
                remarks.append(f"{known.profile} {known.seed} catches it no more: `make zoo-full` is due")
            elif orders.new:
                remarks.append(_count_new(animal, copy, orders))
        if caught is None:
            caught = _search(animal, copy, map(animal.run, range(SEARCH_RUNS)), orders, remarks)
    return Visit(animal, caught, tuple(remarks), time.monotonic() - began)


def _search(
    animal: Animal, copy: Path, runs: Iterable[tuple[str, int]], orders: Orders, remarks: list[str]
) -> Catch | None:
    """The first of these runs that catches the animal."""
    for tried, outcome in enumerate(keep(copy, runs), 1):
        if outcome.invariant and _is_catch(animal, outcome, remarks):
            return Catch(outcome.profile, outcome.seed, outcome.invariant, tried)
        if time.monotonic() > orders.deadline:
            remarks.append(f"no time for more than {tried} runs")
            break
    return None


def _is_catch(animal: Animal, outcome: Outcome, remarks: list[str]) -> bool:
    where, what = f"{outcome.profile} {outcome.seed}", outcome.text.partition("\n")[0][:300]
    (healthy,) = keep(ROOT / "src", [(outcome.profile, outcome.seed)])
    if healthy.invariant:
        remarks.append(f"{where} breaks {healthy.invariant} WITHOUT the bug: {healthy.text[:300]}")
        return False
    if outcome.invariant not in animal.invariants:
        remarks.append(f"{where} breaks {outcome.invariant}, which was not expected: {what}")
        return False
    remarks.append(what)
    return True


def _count_new(animal: Animal, copy: Path, orders: Orders) -> str:
    """Run what the commit draws: how many of them caught it."""
    drawn = hashlib.blake2b(f"{orders.commit} {animal.name}".encode(), digest_size=4).digest()
    first = int.from_bytes(drawn, "big") * len(animal.profiles)
    outcomes = list(keep(copy, (animal.run(first + number) for number in range(orders.new))))
    caught = sum(outcome.invariant in animal.invariants for outcome in outcomes)
    return f"and by {caught} of {len(outcomes)} new ones"


def commit_of_tree() -> str:
    """The commit that is checked out; "" if this is no repository."""
    done = subprocess.run(("git", "rev-parse", "HEAD"), cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip()


def _report(found: Visit) -> None:
    caught = found.caught
    where = "NOT CAUGHT" if caught is None else f"{caught.invariant} by {caught.profile} {caught.seed}"
    if caught is not None and caught.runs > 1:
        where += f" after {caught.runs} runs"
    print(f"{found.animal.name:40} {where}, {found.seconds:.1f} s", flush=True)
    for remark in found.remarks:
        print(f"    {remark}", flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Visit them all; 1 if one is at large."""
    parser = argparse.ArgumentParser(prog="make zoo", description="every historic bug must be caught")
    parser.add_argument("names", nargs="*", help="only these animals")
    parser.add_argument("--full", action="store_true", help="search anew and record what is found")
    parser.add_argument("--new", type=int, default=5, help="runs an animal that the commit draws (5)")
    parser.add_argument("--minutes", type=float, default=9.0, help="stop searching after so long (9)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes (all cores)")
    chosen = parser.parse_args(arguments)
    animals = [animal for animal in load_animals() if not chosen.names or animal.name in chosen.names]
    deadline = time.monotonic() + (float("inf") if chosen.full else 60 * chosen.minutes)
    orders = Orders(chosen.full, chosen.new, commit_of_tree(), deadline)
    print(f"{len(animals)} animals, commit {orders.commit[:12] or 'unknown'}", flush=True)
    free = []
    with ThreadPoolExecutor(chosen.jobs) as pool:
        visits = [pool.submit(visit, animal, orders) for animal in animals]
        for done in as_completed(visits):
            found = done.result()
            _report(found)
            if found.caught is None:
                free.append(found.animal.name)
            elif chosen.full:
                found.animal.record(found.caught)
    if chosen.full:
        write_page()
    print(f"at large: {', '.join(sorted(free))}" if free else "all are caught")
    return 1 if free or not animals else 0


if __name__ == "__main__":
    sys.exit(main())
