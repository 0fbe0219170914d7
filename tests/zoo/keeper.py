"""Makes runs in a process of its own, whose import path begins with a copy of the sources that may have a bug.

As a script it *is* that process: `python keeper.py COPY`, then one `PROFILE SEED` a line on its input, one JSON object
a line on its output.
"""

import contextlib
import faulthandler
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryFile

HANG_SECONDS = 60
"""A run takes less than a second. One that has not ended by then hangs within an event."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run broke: "" for nothing, "error" if it could not be made."""

    profile: str
    seed: int
    invariant: str
    text: str


def keep(copy: Path, runs: Iterable[tuple[str, int]]) -> Iterator[Outcome]:
    """The outcomes of these runs on these sources, in order. A process that dies of a run is replaced."""
    left = iter(runs)
    died = True
    while died:
        died = False
        for outcome in _keep_in_one_process(copy, left):
            yield outcome
            died = outcome.invariant == "error"


def _keep_in_one_process(copy: Path, runs: Iterator[tuple[str, int]]) -> Iterator[Outcome]:
    environment = {**os.environ, "PYTHONPATH": str(copy), "PYTHONHASHSEED": "0"}
    command = [sys.executable, __file__, str(copy)]
    pipe = subprocess.PIPE
    with (
        TemporaryFile("w+") as errors,
        subprocess.Popen(
            command, env=environment, text=True, stdin=pipe, stdout=pipe, stderr=errors
        ) as process,
    ):
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("the process has no pipes")
        try:
            for profile, seed in runs:
                with contextlib.suppress(BrokenPipeError):
                    process.stdin.write(f"{profile} {seed}\n")
                    process.stdin.flush()
                line = process.stdout.readline()
                if not line:
                    process.wait()
                    errors.seek(0)
                    yield Outcome(profile, seed, "error", errors.read()[-2000:])
                    return
                yield Outcome(**json.loads(line))
        finally:
            process.kill()


def _main(copy: str) -> None:
    import d_engine
    from d_engine.testing.sim.run import run_seed

    if not d_engine.__file__.startswith(copy):
        raise SystemExit(f"{d_engine.__file__} is not below {copy}")
    for line in sys.stdin:
        profile, _, seed = line.partition(" ")
        faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
        report = run_seed(int(seed), profile)
        faulthandler.cancel_dump_traceback_later()
        outcome = Outcome(profile, int(seed), report.invariant, report.text)
        print(json.dumps(asdict(outcome)), flush=True)


if __name__ == "__main__":
    _main(sys.argv[1])
