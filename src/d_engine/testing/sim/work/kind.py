"""What every kind of work is made of: a hand to work with, and the operations that it offers.

To add a kind: a class that takes a `Hand` and has `operations` and `final_read` (see `Kind`), an entry in `KINDS` of
`d_engine.testing.sim.clients`, a weight for its operations in a profile, and, if it has a checker, a history in
`Histories` and a line in `d_engine.testing.sim.run.check_histories`. Its keys have a prefix that no other kind uses.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Protocol, TypeAlias, TypeVar

from d_engine.testing.checkers.actions import Consistency
from d_engine.testing.checkers.history import Handle, History
from d_engine.testing.sim.asking import Asker
from d_engine.testing.sim.events import EventQueue
from d_engine.testing.sim.paths import ClientPath
from d_engine.testing.sim.trace import Trace
from d_engine.testing.sim.work.workload import Histories, Workload

Line: TypeAlias = int
Operation: TypeAlias = Callable[[Line], None]
FinalRead: TypeAlias = Callable[[dict[bytes, bytes], bool | None], None]
_A = TypeVar("_A")


@dataclass(slots=True)
class Hand:
    """What a client's kinds of work share. `done` must be called once for each operation, when it has ended. When the
    client is gone, `asker.closed` is true; when it is to begin nothing new, `over()`: an operation of many steps ends
    then."""

    name: str
    path: ClientPath
    events: EventQueue
    rng: Random
    trace: Trace
    workload: Workload
    histories: Histories
    asker: Asker
    done: Callable[[Line], None]
    over: Callable[[], bool]
    _number: int = 0

    def unique(self) -> bytes:
        """A value that nobody else writes."""
        self._number += 1
        size = self.workload.value_bytes
        return b"%s.%d" % (self.name.encode(), self._number) + b"." * self.rng.randrange(size + 1)

    def consistency(self) -> Consistency:
        """For a read."""
        chance = self.rng.random()
        if chance < self.workload.lease_share:
            return Consistency.LEASE
        if chance < self.workload.lease_share + self.workload.eventual_share:
            return Consistency.EVENTUAL
        return Consistency.LINEARIZABLE


class Kind(Protocol):
    """One client's part in one kind of work. `operations`, by the name of their weight, are begun on a line.
    `final_read` is called when a read of everything begins, and returns what is to be told of its end: all pairs of
    keys and values, and True (they are so) or None or False (there was no answer)."""

    @property
    def operations(self) -> Mapping[str, Operation]: ...

    def final_read(self) -> FinalRead: ...


def end(history: History[_A], handle: Handle, result: object, known: bool | None) -> None:
    """Record how an operation has ended: `known` as in `d_engine.testing.sim.asking.Then`."""
    if known is None:
        history.unknown(handle)
    elif known:
        history.ok(handle, result)
    else:
        history.fail(handle)


def no_final_read() -> FinalRead:
    """For a kind whose checker looks at the store's history only."""
    return _ignore


def _ignore(pairs: dict[bytes, bytes], known: bool | None) -> None:
    """Nothing to record."""
