"""What watches that do not match cost each write: counted in instructions, which no noise hides.

    python -m benchmarks.watchers          all cases, about three minutes; needs valgrind
    python -m benchmarks.watchers --show   what is watched and what is written

A whole replica alone on one thread, with its log in memory and without clients (see `benchmarks.counts`), carries out
groups of 100 puts of 256 bytes, under `valgrind --tool=cachegrind`: once 1,000 of them and once 6,000. The difference
is what 5,000 writes cost, without the start of the process and of the watches. Python's garbage collector is off: one
of its rare full collections would fall into one run and not into another. There are 9,999 watches, a third each on
keys, on prefixes and on ranges; none selects any key that is written, and that is checked.
"""

import argparse
import gc
import os
import random
import re
import subprocess
import sys
from collections.abc import Sequence

from benchmarks.control import ROOT, BenchmarkError
from benchmarks.counts import CountedCluster
from d_engine.format.errors import DEngineError
from d_engine.kv.events import Event
from d_engine.kv.ranges import prefix_end
from d_engine.kv.watching import Selection

ITEMS = 3333
"""Of each, one key is written, and of each there are three watches."""
GROUP = 100
FEW, MANY = 1_000, 6_000
CASES = {
    "none": "nobody watches",
    "elsewhere": "other prefixes than what is written",
    "between": "every written key lies between two watched ranges",
    "beside": "the same, and the ranges begin like the key, which has to be bisected",
}


def key(item: int) -> bytes:
    """What is written."""
    return b"item/%05d/value" % item


def selections(case: str) -> list[Selection]:
    """What is watched: for each item a key, a prefix and a range."""
    found: list[Selection] = []
    for item in range(ITEMS if case != "none" else 0):
        stem = (b"other/%05d/" if case == "elsewhere" else b"item/%05d/") % item
        tags = stem + b"tags/"
        low, high = (b"a", b"m") if case == "beside" else (b"log/1", b"log/5")
        found += [
            Selection(stem + b"owner", stem + b"owner\x00"),
            Selection(tags, prefix_end(tags)),
            Selection(stem + low, stem + high),
        ]
    return found


class Nobody:
    """Owns the watches, and is told nothing."""

    def events(self, number: int, revision: int, events: list[Event]) -> None:
        raise BenchmarkError(f"watch {number} was told of {events[0].key!r}")

    def progress(self, numbers: list[int], revision: int) -> None:
        """Nothing is missing."""

    def ended(self, number: int, error: DEngineError) -> None:
        raise error


def write(case: str, writes: int) -> None:
    """The work whose instructions are counted."""
    cluster = CountedCluster((1,))
    watches = cluster.leader.replica.executor.watches
    owner = Nobody()
    for number, selection in enumerate(selections(case)):
        watches.open(owner, number, selection, None)
    cluster.settle()
    gc.disable()
    items = random.Random(1)
    for _ in range(writes // GROUP):
        cluster.put_keys([key(items.randrange(ITEMS)) for _ in range(GROUP)])
    if cluster.leader.replica.applier.state_machine.revision != writes:
        raise BenchmarkError("not everything was written")


def instructions(case: str, writes: int) -> int:
    """Of a process that does `write`."""
    command = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    command += [sys.executable, "-m", "benchmarks.watchers", "--write", str(writes), "--case", case]
    ended = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    counted = re.search(r"I\s+refs:\s+([\d,]+)", ended.stderr)
    if ended.returncode or counted is None:
        raise BenchmarkError(f"the run under valgrind failed: {ended.stderr[-1000:]}")
    return int(counted[1].replace(",", ""))


def main(argv: Sequence[str]) -> int:
    """Exit code 0, or 1 if it cannot be counted."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--case", choices=tuple(CASES), help="only this one, beside none")
    parser.add_argument("--show", action="store_true", help="say what is watched and what is written")
    parser.add_argument("--write", type=int, help="only write; for the benchmark's own processes")
    options = parser.parse_args(argv)
    if options.write:
        write(options.case, options.write)
        return 0
    if options.show:
        for case in CASES:
            print(case, key(0), *selections(case)[:3], sep="\n    ")
        return 0
    none = 0.0
    try:
        for case in ("none", options.case) if options.case else CASES:
            each = (instructions(case, MANY) - instructions(case, FEW)) / (MANY - FEW)
            none = none or each
            print(f"{CASES[case]:74} {each:8,.0f} instructions a write  {each / none - 1:+.1%}", flush=True)
    except (BenchmarkError, OSError) as error:
        print(f"cannot be counted: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
