"""Somebody's own state machine and workload in the simulated world, instead of the key-value store and its clients."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

from d_engine.client.reader import BatchReader
from d_engine.client.writer import GroupWriter
from d_engine.format.errors import DEngineError, NotAppliedError
from d_engine.format.requests import LINEARIZABLE
from d_engine.format.state_machine import StateMachine
from d_engine.testing.checkers.history import Handle, History, Operation
from d_engine.testing.sim.events import MILLISECOND, EventQueue
from d_engine.testing.sim.loop import SimLoop
from d_engine.testing.sim.paths import ClientPath
from d_engine.testing.sim.work.workload import Workload


@dataclass(frozen=True, slots=True)
class Command:
    """A write, as the state machine gets it. Its result is what the state machine's `apply` returned for it."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Query:
    """A linearizable read. Its result is what the state machine's `query` answered."""

    data: bytes


Asked = Command | Query


class Application(Protocol):
    """What is to be tried under faults. `command` and `query` say what a client does next (`rng` is the only source of
    chance that may be used); `final_query` is asked on every node when all faults are over. `check` gets everything
    that all clients asked and were told, in the order in which it was asked, and raises `AssertionError` if that cannot
    be: acknowledged operations took effect once, failed ones never, those of unknown outcome once or never."""

    def state_machine(self) -> StateMachine: ...

    def command(self, rng: Random) -> bytes: ...

    def query(self, rng: Random) -> bytes: ...

    def final_query(self) -> bytes: ...

    def check(self, operations: Sequence[Operation[Asked]]) -> None: ...


@dataclass(slots=True)
class Trial:
    """An application in one run, and what its clients saw."""

    application: Application
    history: History[Asked] = field(default_factory=History)


class ApplicationClient:
    """One client in one life, as `d_engine.testing.sim.clients.SimClient` is for the key-value store."""

    def __init__(
        self,
        name: str,
        path: ClientPath,
        events: EventQueue,
        loop: SimLoop,
        rng: Random,
        workload: Workload,
        trial: Trial,
        budget: int,
    ) -> None:
        self.path = path
        self.busy = 0
        self.budget = budget
        self._name = name
        self._events = events
        self._rng = rng
        self._workload = workload
        self._trial = trial
        timeout = workload.timeout_ms / 1000
        self._writer = GroupWriter(loop.as_event_loop(), path, timeout)
        self._reader = BatchReader(loop.as_event_loop(), path, timeout)
        self._closed = False

    def begin(self) -> None:
        """Start all lines."""
        for line in range(self._workload.lines):
            self._pause(line)

    def crash(self) -> None:
        """The client is gone; what it had asked for stays open."""
        self._closed = True
        self.path.crash()

    def write_something(self, then: Callable[[bool], None]) -> None:
        """A write that must succeed."""
        self._write(0, self._trial.application.command(self._rng), then)

    def read_everything(self, then: Callable[[bool], None]) -> None:
        """The final read."""
        self._read(0, self._trial.application.final_query(), then)

    def _pause(self, line: int) -> None:
        mean = self._workload.pause_ms * MILLISECOND
        self._events.after(int(self._rng.expovariate(1.0) * mean), self._next, line)

    def _next(self, line: int) -> None:
        if self._closed or self.budget <= 0:
            return
        self.budget -= 1
        self.busy += 1
        application = self._trial.application
        if self._rng.random() < 0.6:
            self._write(line, application.command(self._rng), lambda known: self._done(line))
        else:
            self._read(line, application.query(self._rng), lambda known: self._done(line))

    def _done(self, line: int) -> None:
        self.busy -= 1
        self._pause(line)

    def _write(self, line: int, data: bytes, then: Callable[[bool], None]) -> None:
        self._ask(line, Command(data), lambda: self._writer.write(data), then)

    def _read(self, line: int, data: bytes, then: Callable[[bool], None]) -> None:
        self._ask(line, Query(data), lambda: self._reader.read(LINEARIZABLE, 0, data), then)

    def _ask(
        self,
        line: int,
        asked: Asked,
        ask: "Callable[[], asyncio.Future[bytes]]",
        then: Callable[[bool], None],
    ) -> None:
        handle = self._trial.history.invoke(self._name, asked, session=line)
        try:
            future = ask()
        except DEngineError as error:
            self._ended(handle, b"", error, then)
            return

        def answered(future: "asyncio.Future[bytes]") -> None:
            error = future.exception()
            if isinstance(error, DEngineError):
                self._ended(handle, b"", error, then)
            else:
                self._ended(handle, future.result(), None, then)

        future.add_done_callback(answered)

    def _ended(
        self, handle: Handle, result: bytes, error: DEngineError | None, then: Callable[[bool], None]
    ) -> None:
        if self._closed:
            return
        history = self._trial.history
        if error is None:
            history.ok(handle, result)
        elif isinstance(error, NotAppliedError):
            history.fail(handle)
        else:
            history.unknown(handle)
        then(error is None)
