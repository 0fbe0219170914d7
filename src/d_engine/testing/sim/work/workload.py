"""What clients do, as data, and what they did, for the checkers."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from d_engine.testing.checkers.actions import Action
from d_engine.testing.checkers.append import ListAction
from d_engine.testing.checkers.bank import BankAction
from d_engine.testing.checkers.history import History
from d_engine.testing.checkers.locks import LockAction
from d_engine.testing.checkers.sets import SetAction
from d_engine.testing.sim.chronicle import Chronicle, WatchRecord

if TYPE_CHECKING:
    from d_engine.testing.sim.work.watches import SimWatch

USUAL_WEIGHTS = {"put": 3.0, "delete": 0.5, "swap": 1.5, "get": 3.0, "add": 0.5, "append": 1.0}


@dataclass(slots=True)
class Workload:
    """What clients do, drawn once for a run. `weights` are relative, by the names of operations that the kinds of work
    give them; what is not named is not done. `pause_ms` is the mean between two operations of a line."""

    keys: int = 4
    lines: int = 2
    pause_ms: float = 20.0
    value_bytes: int = 16
    timeout_ms: int = 2000
    weights: dict[str, float] = field(default_factory=USUAL_WEIGHTS.copy)
    scan_share: float = 0.1
    lease_share: float = 0.2
    eventual_share: float = 0.2


@dataclass(slots=True)
class Histories:
    """What all clients of a run did, once in the store's terms and once in those of each kind of work that has a
    checker of its own."""

    store: History[Action] = field(default_factory=History)
    elements: History[SetAction] = field(default_factory=History)
    lists: History[ListAction] = field(default_factory=History)
    bank: History[BankAction] = field(default_factory=History)
    locks: History[LockAction] = field(default_factory=History)
    chronicle: Chronicle = field(default_factory=Chronicle)
    watches: "list[SimWatch]" = field(default_factory=list)
    watch_records: list[WatchRecord] = field(default_factory=list)
    fences: dict[bytes, int] = field(default_factory=dict)
    """What the locks protect knows: by lock, the highest token that it has seen."""
