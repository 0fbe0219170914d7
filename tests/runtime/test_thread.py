"""The engine's thread: it runs, stops, fails and ends as told, and the process does not notice."""

import asyncio
import gc
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future

import pytest
import uvloop

from d_engine.format.errors import EngineStoppedError, InvariantViolation
from d_engine.runtime import thread as thread_module
from d_engine.runtime.thread import EngineThread, new_loop


async def forever() -> None:
    await asyncio.Event().wait()


@pytest.fixture(params=["uvloop", "asyncio"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[EngineThread]:
    factory: Callable[[], asyncio.AbstractEventLoop] = (
        uvloop.new_event_loop if request.param == "uvloop" else asyncio.SelectorEventLoop
    )
    monkeypatch.setattr(thread_module, "new_loop", factory)
    engine = EngineThread()
    yield engine
    if engine.running:
        engine.stop()
        assert engine.join(10)


def test_runs_coroutines_on_its_own_thread(engine: EngineThread) -> None:
    engine.start(forever)
    assert engine.running

    async def who() -> str:
        assert asyncio.get_running_loop() is engine.loop
        return threading.current_thread().name

    assert engine.run(who()).result(10) == "d-engine"


def test_answers_and_errors_come_back_to_other_loops(engine: EngineThread) -> None:
    engine.start(forever)

    async def divide(number: int) -> float:
        return 1 / number

    async def caller() -> None:
        assert await asyncio.wrap_future(engine.run(divide(2))) == 0.5
        with pytest.raises(ZeroDivisionError):
            await asyncio.wrap_future(engine.run(divide(0)))

    asyncio.run(caller())


def test_cancelling_the_future_cancels_the_work(engine: EngineThread) -> None:
    engine.start(forever)
    started, cancelled = threading.Event(), threading.Event()

    async def work() -> None:
        started.set()
        try:
            await forever()
        finally:
            cancelled.set()

    future = engine.run(work())
    assert started.wait(10)
    assert future.cancel()
    assert cancelled.wait(10)
    assert engine.running


def test_work_that_cancels_itself(engine: EngineThread) -> None:
    engine.start(forever)

    async def work() -> None:
        raise asyncio.CancelledError

    with pytest.raises(CancelledError):
        engine.run(work()).result(10)


def test_stop_lets_main_clean_up_and_tells(engine: EngineThread) -> None:
    order: list[object] = []

    async def main() -> None:
        begun.set()
        try:
            await forever()
        finally:
            order.append("main")

    begun = threading.Event()
    engine.start(main)
    assert begun.wait(10)
    engine.on_end(order.append)
    engine.on_end(lambda cause: None)
    waiting = engine.run(forever())
    engine.stop()
    assert engine.join(10)
    assert order == ["main", None]
    with pytest.raises(EngineStoppedError):
        waiting.result(10)
    assert not engine.running
    assert engine.failure is None
    with pytest.raises(EngineStoppedError):
        engine.check()
    with pytest.raises(EngineStoppedError):
        engine.run(forever())
    with pytest.raises(EngineStoppedError):
        engine.on_end(order.append)
    engine.stop()


def test_main_that_returns_is_an_end(engine: EngineThread) -> None:
    async def main() -> None:
        return

    engine.start(main)
    assert engine.join(10)
    assert engine.failure is None


@pytest.mark.parametrize("where", ["main", "callback", "task", "protocol"])
def test_an_uncaught_exception_ends_the_engine(
    engine: EngineThread, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL + 1)
    broken = InvariantViolation("two leaders")
    causes: list[object] = []
    tasks: list[asyncio.Task[None]] = []

    def fail() -> None:
        raise broken

    async def failing() -> None:
        fail()

    class Failing(asyncio.Protocol):
        def data_received(self, data: bytes) -> None:
            fail()

    async def main() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.wait_for(told.wait(), 10)
        if where == "main":
            fail()
        elif where == "callback":
            loop.call_soon(fail)
        elif where == "task":
            tasks.append(loop.create_task(failing()))
            await asyncio.wait(tasks)
            tasks.clear()
            gc.collect()
        else:
            server = await loop.create_server(Failing, "127.0.0.1", 0)
            _, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
            writer.write(b"x")
            try:
                await forever()
            finally:
                writer.close()
                server.close()
        await forever()

    told = asyncio.Event()
    engine.start(main)
    engine.on_end(causes.append)
    waiting = engine.run(forever())
    engine.loop.call_soon_threadsafe(told.set)
    assert engine.join(10)
    assert causes == [broken]
    with pytest.raises(EngineStoppedError, match="two leaders") as caught:
        waiting.result(10)
    assert caught.value.cause is broken


def test_a_socket_that_breaks_is_no_failure(engine: EngineThread, caplog: pytest.LogCaptureFixture) -> None:
    engine.start(forever)
    context = {"message": "socket broke", "exception": OSError("no route"), "transport": object()}
    engine.loop.call_soon_threadsafe(lambda: engine.loop.call_exception_handler(context))
    engine.loop.call_soon_threadsafe(lambda: engine.loop.call_exception_handler({"message": "just so"}))

    async def nothing() -> None:
        return

    engine.run(nothing()).result(10)
    assert engine.running
    assert [record.message for record in caplog.records] == ["socket broke", "just so"]


def test_stop_before_main_has_begun(engine: EngineThread) -> None:
    engine.start(forever)
    engine.stop()
    assert engine.join(10)


def test_not_started() -> None:
    engine = EngineThread()
    assert not engine.running
    assert engine.join(0)
    with pytest.raises(EngineStoppedError):
        engine.run(forever())
    engine.stop()


def test_stop_races_with_calls(engine: EngineThread) -> None:
    """Every call ends: with its result, or with the engine."""
    engine.start(forever)
    outcomes: list[object] = []
    ready = threading.Barrier(5)

    async def work() -> int:
        await asyncio.sleep(0)
        return 1

    def caller() -> None:
        ready.wait(10)
        futures: list[Future[int]] = []
        for _ in range(1000):
            try:
                futures.append(engine.run(work()))
            except EngineStoppedError:
                outcomes.append("refused")
        for future in futures:
            try:
                outcomes.append(future.result(10))
            except EngineStoppedError:
                outcomes.append("stopped")

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=caller) for _ in range(4)]
        for thread in threads:
            thread.start()
        ready.wait(10)
        engine.stop()
        for thread in threads:
            thread.join(15)
    finally:
        sys.setswitchinterval(interval)
    assert len(outcomes) == 4000
    assert engine.join(10)


def test_guest_touches_nothing_of_the_process() -> None:
    def state() -> list[object]:
        return [
            asyncio.get_event_loop_policy(),
            sys.getswitchinterval(),
            gc.isenabled(),
            gc.get_threshold(),
            gc.get_freeze_count(),
            [signal.getsignal(number) for number in signal.valid_signals()],
            signal.set_wakeup_fd(signal.set_wakeup_fd(-1)),
            list(logging.getLogger().handlers),
            logging.getLogger().level,
            sys.excepthook,
            threading.excepthook,
            sys.get_asyncgen_hooks(),
        ]

    before = state()
    engine = EngineThread()
    engine.start(forever)

    async def nothing() -> None:
        return

    engine.run(nothing()).result(10)
    assert state() == before
    engine.stop()
    assert engine.join(10)
    assert state() == before


def test_fastest_loop_is_taken() -> None:
    loop = new_loop()
    assert isinstance(loop, uvloop.Loop)
    loop.close()


def test_who_stops_it_while_it_ends_is_not_told_of_a_closed_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the end of the loop and that of the thread."""
    stopped: list[bool] = []

    class Loop(asyncio.SelectorEventLoop):
        def close(self) -> None:
            super().close()
            thread.stop()
            stopped.append(thread.running)

    monkeypatch.setattr(thread_module, "new_loop", Loop)
    thread = EngineThread()
    thread.start(forever)
    thread.stop()
    assert thread.join(10)
    assert stopped == [True]
