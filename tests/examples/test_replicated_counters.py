"""The example of a custom state machine: it runs, survives faults, and its check can fail."""

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from examples.replicated_counters import Counters, CountersUnderFaults

from d_engine.format.state_machine import ApplyContext
from d_engine.testing import SimulationFailed, simulate

EXAMPLE = Path(__file__).parents[2] / "examples" / "replicated_counters.py"


def test_it_runs() -> None:
    result = subprocess.run([sys.executable, str(EXAMPLE)], capture_output=True, timeout=60, check=False)
    assert (result.stderr, result.stdout) == (b"", b"10 apples\n")


@simulate(seeds=8, nodes=3, steps=4000)
def test_counters_under_faults() -> CountersUnderFaults:
    return CountersUnderFaults()


class ForgetfulCounters(Counters):
    """Forgets one count in fifty."""

    def apply(self, commands: Sequence[bytes], context: ApplyContext) -> list[bytes]:
        results = super().apply(commands, context)
        if context.index % 50 == 0:
            super().restore(iter(()))
        return results


class Forgetful(CountersUnderFaults):
    def state_machine(self) -> Counters:
        return ForgetfulCounters()


def test_a_failure_names_its_seed() -> None:
    @simulate(seeds=[77], nodes=3, profile="calm", steps=4000)
    def trial() -> CountersUnderFaults:
        return Forgetful()

    with pytest.raises(SimulationFailed, match="77"):
        trial()
