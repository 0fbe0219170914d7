"""The engine's thread runs beside a loop that is busy with short callbacks (architecture, section 9)."""

import asyncio
import time
from collections.abc import Callable

import pytest
import uvloop

from d_engine.runtime.courtesy import LOOK_SECONDS, Pulse
from d_engine.runtime.thread import EngineThread

_SECONDS = 2.0
_STEP = 0.02


async def _never_ending() -> None:
    await asyncio.Event().wait()


async def _busy(slice_seconds: float) -> int:
    """How often a timer of the engine's loop fired meanwhile, at most every `_STEP` seconds."""
    thread = EngineThread()
    thread.start(_never_ending)
    fired = 0

    def fire() -> None:
        nonlocal fired
        fired += 1
        thread.loop.call_later(_STEP, fire)

    thread.loop.call_soon_threadsafe(fire)
    thread.pulse.accompany()
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        until = time.monotonic() + slice_seconds
        while time.monotonic() < until:
            pass
        await asyncio.sleep(0)
    thread.stop()
    assert await asyncio.get_running_loop().run_in_executor(None, thread.join, 10)
    return fired


@pytest.mark.slow
@pytest.mark.parametrize("run", [asyncio.run, uvloop.run], ids=["asyncio", "uvloop"])
@pytest.mark.parametrize("slice_seconds", [0.0001, 0.001, 0.004])
def test_a_busy_loop_lets_the_engines_thread_in(run: Callable[..., int], slice_seconds: float) -> None:
    # Without courtesy, on a machine with nothing else to do, it is seldom more than a dozen of a hundred times.
    assert run(_busy(slice_seconds)) > 25


@pytest.mark.slow
async def test_a_loop_is_looked_after_once_and_only_while_it_is_needed() -> None:
    looks = 0

    def needed() -> bool:
        nonlocal looks
        looks += 1
        return looks < 3

    pulse = Pulse(asyncio.get_running_loop(), needed)
    pulse.accompany()
    pulse.accompany()
    await asyncio.sleep(10 * LOOK_SECONDS)
    assert looks == 3
