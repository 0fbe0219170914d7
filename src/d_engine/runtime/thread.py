"""The engine's own thread with its own event loop.

An application that blocks its loop for seconds must not cost the cluster its leader; so the engine does not live on it.
The engine is a guest in the process: the loop is made here directly, without the event-loop policy, and nothing is
set that other threads could notice.

Life: `start` makes the loop and the thread, the thread runs `main` until it returns, fails, or is cancelled by `stop`.
Any exception that nobody caught on this loop, in `main` or in a callback, is a failure: the engine ends. Ending means,
in this order: every other task is cancelled and waited for, the loop is closed (from now on nothing can be handed to
it), and whoever registered with `on_end` is told, on this thread, with the cause. Work handed over before the loop
was closed but never looked at is therefore always followed by that call; work handed over later fails at once.
"""

import asyncio
import logging
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import suppress
from typing import Any, TypeVar

from d_engine.format.errors import DEngineError, EngineStoppedError, InvariantViolation, check
from d_engine.runtime.courtesy import Pulse
from d_engine.runtime.fork import ForkGuard

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_TASKS_SECONDS = 5.0

OnEnd = Callable[[BaseException | None], None]
"""Gets the cause, None if the engine was stopped by request. Runs on the engine's thread; must not raise."""


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop of the fastest kind that is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.SelectorEventLoop()
    return uvloop.new_event_loop()


class EngineThread:
    """Start once. All methods may be called from any thread."""

    def __init__(self, name: str = "d-engine") -> None:
        self.loop: asyncio.AbstractEventLoop
        """Valid after `start`. From other threads, only `call_soon_threadsafe` may be used on it."""
        self.pulse: Pulse
        """Valid after `start`. Every loop that uses the engine should `accompany` it."""
        self.failure: BaseException | None = None
        """Why the engine ended, if not by request. Set before those of `on_end` are told."""
        self._name = name
        self._guard = ForkGuard()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._main: asyncio.Task[None] | None = None
        self._stopping = False
        self._closing = False
        self._ended = False
        self._on_end: dict[OnEnd, None] = {}
        self._waiting: dict[Future[Any], Coroutine[Any, Any, Any] | None] = {}  # None: a task runs it

    # --- from any thread -----------------------------------------------------------------------------------------

    @property
    def running(self) -> bool:
        """True from `start` until the end, in the process that started it."""
        return self._thread is not None and not self._ended and not self._guard.forked

    def check(self) -> None:
        """Raise `ForkedError` or `EngineStoppedError` unless it runs."""
        self._guard.check()
        if self._thread is None:
            raise EngineStoppedError("the engine has not been started")
        if self._ended:
            raise self.stopped_error()

    def stopped_error(self) -> EngineStoppedError:
        """What a call gets that came too late, or was waiting."""
        return EngineStoppedError(cause=self.failure)

    def start(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run `main` on the new thread. A daemon: a program that ends without stopping its engine does end."""
        check(self._thread is None, "an engine thread is started once")
        self._guard.check()
        self.loop = new_loop()
        self.pulse = Pulse(self.loop, lambda: self.running)
        self._thread = threading.Thread(target=self._run, args=(main,), name=self._name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            self._thread = None
            self.loop.close()
            raise

    def stop(self) -> None:
        """Cancel `main`, which cleans up after itself. Returns at once; harmless when repeated."""
        self._guard.check()
        if self._thread is None:
            return
        with suppress(RuntimeError):  # the loop has been closed since
            self.loop.call_soon_threadsafe(self._cancel)

    def join(self, timeout: float | None = None) -> bool:
        """Wait for the end. False if it has not come within `timeout` seconds."""
        self._guard.check()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return thread is None
        thread.join(timeout)
        return not thread.is_alive()

    def run(self, work: Coroutine[Any, Any, _T]) -> "Future[_T]":
        """Run a coroutine on the engine's loop. Wait for it with `Future.result`, or `asyncio.wrap_future`. Cancelling
        the future cancels the coroutine. Raises what `check` raises."""
        try:
            self.check()
        except DEngineError:
            work.close()
            raise
        future: Future[_T] = Future()
        with self._lock:
            self._waiting[future] = work
        try:
            self.loop.call_soon_threadsafe(self._begin, work, future)
        except RuntimeError:  # the loop has been closed since
            work.close()
            self._forget(future)
            raise self.stopped_error() from None
        return future

    def on_end(self, callback: OnEnd) -> None:
        """Register. Raises what `check` raises: then the callback will not be called."""
        self._guard.check()
        with self._lock:
            self.check()
            self._on_end[callback] = None

    def off_end(self, callback: OnEnd) -> None:
        """Take back `on_end`."""
        self._guard.check()
        with self._lock:
            self._on_end.pop(callback, None)

    # --- on the engine's thread ----------------------------------------------------------------------------------

    def fail(self, error: BaseException) -> None:
        """End the engine because of this. The first cause stays."""
        if self.failure is None:
            self.failure = error
            # What is wrong with the disk or with this node's place in the cluster is said in the text. Where in the
            # code it was noticed only helps with what should not happen.
            told = isinstance(error, DEngineError) and not isinstance(error, InvariantViolation)
            _log.error("the engine stops: %s", error, exc_info=None if told else error)
        self._cancel()

    def _run(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        loop = self.loop
        loop.set_exception_handler(self._unhandled)
        try:
            loop.run_until_complete(self._supervise(main))
        except BaseException as error:
            self.failure = self.failure or error
            _log.exception("the engine's loop ended")
        try:
            loop.close()
        finally:
            self._end()

    async def _supervise(self, main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self.pulse.beat()
        self._main = asyncio.ensure_future(main())
        if self._stopping:
            self._main.cancel()
        try:
            await self._main
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            self.fail(error)
        self._closing = True
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        if others:
            done, stuck = await asyncio.wait(others, timeout=_TASKS_SECONDS)
            for task in stuck:
                _log.warning("a task did not end with the engine: %r", task)
            for task in done:
                if not task.cancelled() and (problem := task.exception()) is not None:
                    _log.warning("a task failed while the engine ended", exc_info=problem)
        await asyncio.get_running_loop().shutdown_asyncgens()
        await asyncio.sleep(0)  # the answers given in this turn still go out

    def _cancel(self) -> None:
        self._stopping = True
        if self._main is not None:
            self._main.cancel()

    def _unhandled(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        about_socket = isinstance(error, OSError) and not isinstance(error, DEngineError)
        about_socket = about_socket and ("transport" in context or "socket" in context)
        future = context.get("future")
        unread = future is not None and not isinstance(future, asyncio.Task)
        if error is None or about_socket or unread:
            _log.warning("%s", context.get("message"), exc_info=error)
        else:
            self.fail(error)

    def _begin(self, work: Coroutine[Any, Any, _T], future: "Future[_T]") -> None:
        if future.cancelled():
            work.close()
            self._forget(future)
        if future.cancelled() or self._closing:  # who still waits is told when the loop is closed
            return
        with self._lock:
            self._waiting[future] = None
        task = self.loop.create_task(work)
        task.add_done_callback(lambda task: self._finish(task, future))
        future.add_done_callback(lambda future: self._pass_on_cancel(task, future))

    def _pass_on_cancel(self, task: asyncio.Task[_T], future: "Future[_T]") -> None:
        if future.cancelled() and not self._ended:
            try:
                self.loop.call_soon_threadsafe(task.cancel)
            except RuntimeError:
                return  # the loop has been closed since, and the task with it

    def _finish(self, task: asyncio.Task[_T], future: "Future[_T]") -> None:
        self._forget(future)
        error = CancelledError() if task.cancelled() else task.exception()
        if not future.set_running_or_notify_cancel():
            return
        if isinstance(error, CancelledError) and self._stopping:
            error = self.stopped_error()
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(task.result())

    def _forget(self, future: "Future[Any]") -> None:
        with self._lock:
            self._waiting.pop(future, None)

    def _end(self) -> None:
        with self._lock:
            self._ended = True
            callbacks, self._on_end = list(self._on_end), {}
            waiting, self._waiting = self._waiting, {}
        for future, work in waiting.items():
            if work is not None:
                work.close()
            if future.set_running_or_notify_cancel():
                future.set_exception(self.stopped_error())
        for callback in callbacks:
            callback(self.failure)
