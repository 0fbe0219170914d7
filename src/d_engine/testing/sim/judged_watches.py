"""A node's watches as one owner, a connection or a client in the node's process, sees them: what the node tells it is
held against the chronicle at once (I10)."""

from typing import TYPE_CHECKING, cast

from d_engine.format.errors import CompactedError, DEngineError, WatchLaggedError
from d_engine.kv.events import Event
from d_engine.kv.watching import Selection
from d_engine.replica.watchers import WatchOwner
from d_engine.replica.watches import Watches
from d_engine.testing.sim.chronicle import Chronicle
from d_engine.testing.sim.violations import InvariantBroken

if TYPE_CHECKING:
    from d_engine.testing.sim.node import Process, SimNode


class JudgedWatches:
    """`Watches` for the owner, the owner for `Watches`."""

    def __init__(self, machine: "SimNode", process: "Process") -> None:
        self._watches = process.replica.executor.watches
        self.settings = self._watches.settings
        self._node = machine.id
        self._machine = process.machine
        self._chronicle = machine.shared.chronicle
        self._owner: WatchOwner
        self._told: dict[int, int] = {}
        """By watch, up to where the node has told it everything."""

    @classmethod
    def of(cls, machine: "SimNode", process: "Process") -> Watches:
        """For those who want `Watches` and use no more than this."""
        return cast("Watches", cls(machine, process))

    # --- for the owner --------------------------------------------------------------------------------------

    def open(self, owner: WatchOwner, number: int, selection: Selection, since: int | None) -> int:
        self._owner = owner
        try:
            after = self._watches.open(self, number, selection, since)
        except CompactedError as error:
            self._must_be_gone(since or 0, error)
            raise
        self._tell([number], after)
        return after

    def take(self, owner: WatchOwner, number: int, size: int) -> None:
        self._watches.take(self, number, size)

    def ask_progress(self, owner: WatchOwner, number: int) -> None:
        self._watches.ask_progress(self, number)

    def close(self, owner: WatchOwner, number: int | None = None) -> None:
        self._watches.close(self, number)

    # --- for the node ---------------------------------------------------------------------------------------

    def events(self, number: int, revision: int, events: list[Event]) -> None:
        """See `WatchOwner`."""
        self._tell([number], revision)
        self._owner.events(number, revision, events)

    def progress(self, numbers: list[int], revision: int) -> None:
        """See `WatchOwner`."""
        self._tell(numbers, revision)
        self._owner.progress(numbers, revision)

    def ended(self, number: int, error: DEngineError) -> None:
        """See `WatchOwner`."""
        known = self._told.pop(number)
        if isinstance(error, CompactedError | WatchLaggedError):
            self._must_be_gone(known, error)
        self._owner.ended(number, error)

    def _tell(self, numbers: list[int], revision: int) -> None:
        must_be_written(self._chronicle, revision)
        for number in numbers:
            self._told[number] = max(self._told.get(number, 0), revision)

    def _must_be_gone(self, known: int, error: DEngineError) -> None:
        machine = self._machine
        weight, limit = self._chronicle.weight_behind(known), machine.history.limit_bytes
        if machine.history.oldest <= known or (machine.born <= known and weight <= limit):
            text = f"born at {machine.born}, {weight} bytes behind revision {known}, {limit} are kept"
            raise InvariantBroken("I10", f"node {self._node} ends a watch for no reason: {error} ({text})")


def must_be_written(chronicle: Chronicle, revision: int) -> None:
    """Nobody may know more than was written."""
    newest = chronicle.newest
    if revision > newest:
        raise InvariantBroken(
            "I10", f"a watch is true up to {revision}, and all that was written is {newest}"
        )
