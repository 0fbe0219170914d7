"""Every loop that a test may run on, and a way to run a coroutine on it without touching the process."""

import asyncio
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
import uvloop

Run = Callable[[Coroutine[Any, Any, None]], None]


@pytest.fixture(params=["uvloop", "asyncio"])
def run(request: pytest.FixtureRequest) -> Run:
    """Runs one coroutine on a fresh loop; what the loop reports as unhandled fails the test."""

    def run_coroutine(work: Coroutine[Any, Any, None]) -> None:
        unhandled: list[dict[str, Any]] = []
        factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.SelectorEventLoop
        with warnings.catch_warnings(), asyncio.Runner(loop_factory=factory) as runner:
            runner.get_loop().set_exception_handler(lambda loop, context: unhandled.append(context))
            try:
                runner.run(work)
            except BaseException:
                warnings.simplefilter("ignore")  # what the failed test left open is not the news
                raise
        assert not unhandled

    return run_coroutine
