"""Simulated clients: the production clients' own code, on virtual time, with a record of everything
that they asked and were told.

A client has a few *lines*, each of which does one thing after the other, as a task would. What it does is drawn by
weight from the kinds of work in `d_engine.testing.sim.work`, each of which some checker looks at.
"""

from collections.abc import Callable
from random import Random

from d_engine.testing.checkers.actions import Consistency
from d_engine.testing.sim.asking import Asker
from d_engine.testing.sim.events import MILLISECOND, EventQueue
from d_engine.testing.sim.loop import SimLoop
from d_engine.testing.sim.paths import ClientPath
from d_engine.testing.sim.trace import Trace
from d_engine.testing.sim.work.bank import Bank
from d_engine.testing.sim.work.elements import Elements
from d_engine.testing.sim.work.kind import Hand, Kind, Line, Operation
from d_engine.testing.sim.work.leases import Leases
from d_engine.testing.sim.work.lists import Lists
from d_engine.testing.sim.work.registers import Registers
from d_engine.testing.sim.work.transactions import Transactions
from d_engine.testing.sim.work.watches import Watches
from d_engine.testing.sim.work.workload import Histories, Workload

KINDS: tuple[Callable[[Hand], Kind], ...] = (Registers, Elements, Lists, Transactions, Bank, Leases, Watches)


class SimClient:
    """One client in one life. `busy` counts its lines that wait for an answer."""

    def __init__(
        self,
        name: str,
        path: ClientPath,
        events: EventQueue,
        loop: SimLoop,
        rng: Random,
        trace: Trace,
        workload: Workload,
        histories: Histories,
        budget: int,
    ) -> None:
        self.path = path
        self.busy = 0
        self.budget = budget
        asker = Asker(name, path, loop, rng, trace, workload.timeout_ms, histories.store)
        self._hand = Hand(
            name, path, events, rng, trace, workload, histories, asker, self._done, self._is_over
        )
        self._kinds = [kind(self._hand) for kind in KINDS]
        offered = [(name, operation) for kind in self._kinds for name, operation in kind.operations.items()]
        self._operations: list[Operation] = [operation for _, operation in offered]
        self._weights = [workload.weights.get(name, 0.0) for name, _ in offered]

    def begin(self) -> None:
        """Start all lines."""
        for line in range(self._hand.workload.lines):
            self._pause(line)

    def crash(self) -> None:
        """The client is gone; what it had asked for stays open."""
        self._hand.asker.closed = True
        self.path.crash()

    def _pause(self, line: Line) -> None:
        mean = self._hand.workload.pause_ms * MILLISECOND
        self._hand.events.after(int(self._hand.rng.expovariate(1.0) * mean), self._next, line)

    def _next(self, line: Line) -> None:
        if self._hand.asker.closed or self.budget <= 0:
            return
        self.budget -= 1
        self.busy += 1
        self._hand.rng.choices(self._operations, self._weights)[0](line)

    def _done(self, line: Line) -> None:
        self.busy -= 1
        self._pause(line)

    def _is_over(self) -> bool:
        return self.budget <= 0

    def write_something(self, then: Callable[[bool], None]) -> None:
        """A write that must succeed."""
        Registers(self._hand).write_something(then)

    def read_everything(self, then: Callable[[bool], None]) -> None:
        """The final reads: every key at once, for all kinds of work."""
        reads = [kind.final_read() for kind in self._kinds]

        def ended(result: object, known: bool | None) -> None:
            pairs = dict(result) if isinstance(result, tuple) else {}
            for read in reads:
                read(pairs, known)
            then(known is True)

        self._hand.asker.read_prefix(0, b"", Consistency.LINEARIZABLE, ended)
