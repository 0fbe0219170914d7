"""Histories of concurrent clients, made by running their requests on simple objects, right or broken on purpose.

A loop lets requests overlap, get lost, arrive late, or be answered after other things have happened. `Script` writes
histories by hand, where the exact interleaving matters.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random
from typing import Generic, Protocol, TypeVar

from d_engine.testing.checkers import Handle, History, Operation, Outcome

ActionT = TypeVar("ActionT")
ActionT_contra = TypeVar("ActionT_contra", contravariant=True)

Answer = tuple[object, int | None]


class Refused(Exception):  # noqa: N818 - an answer, not a fault
    """The request had no effect, and the client is told so."""


class Served(Protocol[ActionT_contra]):
    """What the clients talk to."""

    def apply(self, action: ActionT_contra, client: str) -> Answer: ...


@dataclass(frozen=True)
class Fates:
    """How likely a request fails without effect, or ends unknown (most of those take effect, now or later)."""

    failed: float = 0.0
    unknown: float = 0.0


CALM = Fates()
ROUGH = Fates(failed=0.05, unknown=0.08)


@dataclass
class Flight(Generic[ActionT]):
    """A request under way; `answer` once it was done."""

    handle: Handle
    action: ActionT
    answer: Answer | None = None


def ignore(client: str, action: object, result: object) -> None:
    """A client that does not care what it is told."""


@dataclass
class Run(Generic[ActionT]):
    """Clients at work. `choose` gives a client's next action, `learn` tells it the answer to the last."""

    rng: Random
    served: Served[ActionT]
    choose: Callable[[str], ActionT]
    fates: Fates = CALM
    clients: int = 4
    learn: Callable[[str, ActionT, object], None] = ignore
    history: History[ActionT] = field(default_factory=History)
    under_way: dict[str, Flight[ActionT]] = field(default_factory=dict)
    late: list[tuple[str, ActionT]] = field(default_factory=list)

    def work(self, operations: int) -> "Run[ActionT]":
        names = [f"c{number}" for number in range(self.clients)]
        while operations or self.under_way:
            client = self.rng.choice(names)
            if self.late and self.rng.random() < 0.1:
                self.deliver_late()
            if client in self.under_way:
                self.advance(client, self.under_way[client])
            elif operations:
                operations -= 1
                action = self.choose(client)
                self.under_way[client] = Flight(self.history.invoke(client, action), action)
        return self

    def advance(self, client: str, flight: Flight[ActionT]) -> None:
        if flight.answer is not None:
            del self.under_way[client]
            if self.rng.random() < self.fates.unknown / 2:
                self.history.unknown(flight.handle)
            else:
                self.history.ok(flight.handle, *flight.answer)
                self.learn(client, flight.action, flight.answer[0])
        elif self.rng.random() < self.fates.failed:
            del self.under_way[client]
            self.history.fail(flight.handle)
        elif self.rng.random() < self.fates.unknown / 2:
            del self.under_way[client]
            self.history.unknown(flight.handle)
            if self.rng.random() < 0.7:
                self.late.append((client, flight.action))
        else:
            try:
                flight.answer = self.served.apply(flight.action, client)
            except Refused:
                del self.under_way[client]
                self.history.fail(flight.handle)

    def deliver_late(self) -> None:
        client, action = self.late.pop(self.rng.randrange(len(self.late)))
        try:
            self.served.apply(action, client)
        except Refused:
            return

    def finish(self, *actions: ActionT) -> tuple[Operation[ActionT], ...]:
        """What is late arrives; then final actions, one after the other."""
        while self.late:
            self.deliver_late()
        for action in actions:
            handle = self.history.invoke("last", action)
            self.history.ok(handle, *self.served.apply(action, "last"))
        return self.history.operations()


class Script(Generic[ActionT]):
    """A history by hand: times are given, and each operation is by a client of its own."""

    def __init__(self) -> None:
        self.operations: list[Operation[ActionT]] = []

    def ok(
        self,
        action: ActionT,
        invoked: int,
        completed: int,
        result: object = None,
        revision: int | None = None,
        client: str | None = None,
    ) -> "Script[ActionT]":
        return self._add(action, invoked, completed, Outcome.OK, result, revision, client)

    def failed(self, action: ActionT, invoked: int, completed: int) -> "Script[ActionT]":
        return self._add(action, invoked, completed, Outcome.FAILED, None, None, None)

    def unknown(self, action: ActionT, invoked: int) -> "Script[ActionT]":
        return self._add(action, invoked, None, Outcome.UNKNOWN, None, None, None)

    def _add(
        self,
        action: ActionT,
        invoked: int,
        completed: int | None,
        outcome: Outcome,
        result: object,
        revision: int | None,
        client: str | None,
    ) -> "Script[ActionT]":
        index = len(self.operations)
        name = f"c{index}" if client is None else client
        self.operations.append(
            Operation(index, name, 0, action, invoked, completed, outcome, result, revision)
        )
        return self
