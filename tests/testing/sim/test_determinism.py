"""One seed, one trace: twice in a process, and in processes that hash strings differently."""

import os
import subprocess
import sys

import pytest

from d_engine.testing.sim.run import run_seed

STEPS = 3000
PROFILES = ("general", "replication", "snapshot", "txn", "membership")
SCRIPT = """
import sys
from d_engine.testing.sim.run import run_seed
for profile in sys.argv[1:]:
    print(run_seed(7, profile, steps=3000).trace_hash)
"""


@pytest.mark.parametrize("profile", PROFILES)
def test_a_seed_gives_one_trace(profile: str) -> None:
    first, again = run_seed(7, profile, steps=STEPS), run_seed(7, profile, steps=STEPS)
    assert (first.trace_hash, first.events, first.counters) == (
        again.trace_hash,
        again.events,
        again.counters,
    )
    assert run_seed(8, profile, steps=STEPS).trace_hash != first.trace_hash


def test_under_any_hash_seed() -> None:
    traces = []
    for value in ("1", "4242"):
        command = (sys.executable, "-c", SCRIPT, *PROFILES)
        environment = {**os.environ, "PYTHONHASHSEED": value}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        traces.append(done.stdout.split())
    assert len(traces[0]) == len(PROFILES)
    assert traces[0] == traces[1]
    assert traces[0][0] == run_seed(7, PROFILES[0], steps=STEPS).trace_hash
