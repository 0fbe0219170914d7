"""The replica's `Host` port over an event loop: time, turns, one timer, chance.

Deadlines are of the boot-time clock, the loop sleeps by another one. So the loop's timer is only a reminder: when it
fires, the clock is read again and the timer set anew if it was early. A deadline that is put off, which is what every
heartbeat does to an election timer, costs nothing but an assignment; the reminder finds out when it fires.
"""

import asyncio
import random
from collections.abc import Callable
from functools import partial

from d_engine.format.ids import Nanoseconds
from d_engine.runtime.clock import boot_time_ns
from d_engine.runtime.turn import run_turn

_MIN_SECONDS = 0.001
"""Timers of the loop have the resolution of a millisecond; sleeping less would mean to spin."""


class LoopHost:
    """Use on the loop's thread only. `start` names the function that `set_timer` is about: `Replica.tick`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._tick: Callable[[], None] | None = None
        self._deadline: Nanoseconds | None = None
        self._armed: Nanoseconds = 0
        self._handle: asyncio.TimerHandle | None = None
        self._at_once: list[Callable[[], None]] | None = None
        """Inside of `run`: what it has asked for."""
        self.now: Callable[[], Nanoseconds] = boot_time_ns
        self.random_bits: Callable[[int], int] = random.SystemRandom().getrandbits

    def start(self, tick: Callable[[], None]) -> None:
        """From now on call `tick` when the timer's deadline has come."""
        self._tick = tick
        if self._deadline is not None:
            self._arm(self._deadline)

    def stop(self) -> None:
        """Never call `tick` again."""
        self._tick = None
        self._disarm()

    def call_soon(self, function: Callable[[], None]) -> None:
        if self._at_once is None:
            self._loop.call_soon(run_turn, function)
        else:
            self._at_once.append(function)

    def post(self, function: Callable[[], None]) -> None:
        """From any thread: `run` it, soon. Raises `RuntimeError` when the loop is closed."""
        self._loop.call_soon_threadsafe(self.run, function)

    def run(self, function: Callable[[], None]) -> None:
        """Run what brings a whole batch, and then at once the turn that it asks for: there is nothing to wait for. For
        those who put something off to its end all of it is one turn. What a turn asks for comes with the loop's next
        iteration, as does what sockets bring, because more may come from another one.

        When the timer is overdue there is something to wait for. The loop stood still, and what arrived meanwhile is
        still to be read: a turn before that would take everybody for silent."""
        run_turn(partial(self._run, function))

    def _run(self, function: Callable[[], None]) -> None:
        turns = self._at_once = []
        try:
            function()
        finally:
            self._at_once = None
            overdue = self._deadline is not None and self._deadline <= self.now()
            for turn in turns:
                if overdue:
                    self.call_soon(turn)
                else:
                    turn()

    def set_timer(self, deadline: Nanoseconds) -> None:
        self._deadline = deadline
        if self._handle is None or deadline < self._armed:
            self._arm(deadline)

    def _arm(self, deadline: Nanoseconds) -> None:
        self._disarm()
        if self._tick is not None:
            seconds = max((deadline - self.now()) / 1e9, 0.0)
            self._armed = deadline
            self._handle = self._loop.call_later(seconds, self._fire)

    def _disarm(self) -> None:
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def _fire(self) -> None:
        self._handle = None
        deadline, tick = self._deadline, self._tick
        if deadline is None or tick is None:
            return
        left = deadline - self.now()
        if left > 0:
            self._armed = deadline
            self._handle = self._loop.call_later(max(left / 1e9, _MIN_SECONDS), self._fire)
        else:
            self._deadline = None
            tick()
