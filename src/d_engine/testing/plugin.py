"""Try your own state machine under the simulator's faults, as a test.

Example::

    from d_engine.testing import simulate

    @simulate(seeds=200, nodes=3)
    def test_counters() -> CountersUnderFaults:  # of examples/replicated_counters.py
        return CountersUnderFaults()

The function makes the application (`d_engine.testing.sim.application.Application`) anew for each seed. A failure names
the seed, which repeats the run exactly: `@simulate(seeds=[1234])`.
"""

from collections.abc import Callable, Iterable
from functools import wraps

from d_engine.testing.sim.application import Application, Trial
from d_engine.testing.sim.command import current_commit
from d_engine.testing.sim.report import describe_failure
from d_engine.testing.sim.run import Report, run_script
from d_engine.testing.sim.script import DEFAULT_STEPS, draw_script


class SimulationFailed(AssertionError):  # noqa: N818 - a failed assertion, as test runners show it
    """A seed broke an invariant, or the application's own check. `report` holds the run."""

    def __init__(self, text: str, report: Report) -> None:
        super().__init__(text)
        self.report = report


def simulate(
    seeds: int | Iterable[int] = 200,
    nodes: int | None = None,
    profile: str = "general",
    steps: int = DEFAULT_STEPS,
) -> Callable[[Callable[[], Application]], Callable[[], None]]:
    """Make a test of a function that returns an application: `seeds` runs (so many, or these), on `nodes` nodes (None:
    each seed draws), under the faults of `profile`, each with about `steps` events before the faults are healed."""
    numbers = tuple(range(seeds)) if isinstance(seeds, int) else tuple(seeds)

    def decorate(make: Callable[[], Application]) -> Callable[[], None]:
        @wraps(make)
        def test() -> None:
            for seed in numbers:
                _run(make(), seed, nodes, profile, steps)

        # Test runners look at annotations, and through wrappers: the test takes and returns nothing.
        vars(test).pop("__wrapped__")
        test.__annotations__ = {"return": None}
        return test

    return decorate


def _run(application: Application, seed: int, nodes: int | None, profile: str, steps: int) -> None:
    trial = Trial(application)
    report = run_script(draw_script(seed, profile, nodes, steps, None), trial=trial)
    if report.failed:
        raise SimulationFailed(describe_failure(report, current_commit()), report)
    try:
        application.check(trial.history.operations())
    except AssertionError as error:
        text = (
            f"seed {seed} (profile {profile}): {str(error) or 'the application found its history impossible'}"
        )
        raise SimulationFailed(text, report) from error
