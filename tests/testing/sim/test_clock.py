"""The three clocks of a machine (scenarios 32 and 33)."""

import pytest

from d_engine.testing.sim.clock import STANDING, MachineClocks
from d_engine.testing.sim.events import SECOND


def test_a_suspended_machine() -> None:
    clocks = MachineClocks(boot=100, wall=5)
    clocks.suspend(10 * SECOND)
    assert clocks.monotonic(15 * SECOND) == 100 + 10 * SECOND
    assert clocks.boot(15 * SECOND) == 100 + 15 * SECOND
    clocks.resume(20 * SECOND)
    assert clocks.monotonic(25 * SECOND) == 100 + 15 * SECOND
    assert clocks.boot(25 * SECOND) == 100 + 25 * SECOND


def test_drift_begins_where_the_clock_stands() -> None:
    clocks = MachineClocks()
    clocks.drift(10 * SECOND, 100_000)
    assert clocks.boot(10 * SECOND) == 10 * SECOND
    assert clocks.boot(20 * SECOND) == 21 * SECOND


def test_wall_time_is_apart() -> None:
    clocks = MachineClocks()
    clocks.drift_wall(SECOND, STANDING)
    clocks.set_wall(-3600 * SECOND)
    assert clocks.wall(9 * SECOND) == -3599 * SECOND
    assert clocks.boot(9 * SECOND) == 9 * SECOND


@pytest.mark.parametrize("rate", [-100_000, -7, 0, 3, 100_000])
def test_true_time_is_the_first_moment(rate: int) -> None:
    clocks = MachineClocks(boot=12345)
    clocks.drift(1000, rate)
    for boot in (20_000, 999_999_999, 10**12 + 1):
        moment = clocks.true_time(boot)
        assert clocks.boot(moment) >= boot
        assert clocks.boot(moment - 1) < boot
