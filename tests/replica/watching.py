"""A state machine, its watches, and owners that write down what they are told."""

from d_engine.format.errors import DEngineError
from d_engine.format.state_machine import ApplyContext
from d_engine.kv.events import Event
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.watching import Selection, weigh
from d_engine.replica.settings import WatchSettings
from d_engine.replica.watches import Watches


class Owner:
    """By number: the events of each message, up to where they are complete, and how it ended."""

    def __init__(self) -> None:
        self.messages: dict[int, list[tuple[int, list[Event]]]] = {}
        self.marks: dict[int, list[int]] = {}
        self.errors: dict[int, DEngineError] = {}

    def events(self, number: int, revision: int, events: list[Event]) -> None:
        assert number not in self.errors
        self.messages.setdefault(number, []).append((revision, list(events)))

    def progress(self, numbers: list[int], revision: int) -> None:
        for number in numbers:
            assert number not in self.errors
            self.marks.setdefault(number, []).append(revision)

    def ended(self, number: int, error: DEngineError) -> None:
        assert number not in self.errors
        self.errors[number] = error

    def told(self, number: int) -> list[Event]:
        return [event for _, events in self.messages.get(number, []) for event in events]

    def revision(self, number: int) -> int:
        """Up to where the watch was told everything."""
        revisions = [revision for revision, _ in self.messages.get(number, [])]
        return max(revisions + self.marks.get(number, []), default=0)


class Node:
    """A node without a log: what is applied is given."""

    def __init__(self, settings: WatchSettings | None = None) -> None:
        self.time = 0
        self.woken = False
        self.machine = KvStateMachine()
        self.watches = Watches(settings or WatchSettings(), self.machine, lambda: self.time, self._wake)

    def _wake(self) -> None:
        self.woken = True

    def apply(self, *commands: bytes) -> None:
        self.machine.apply(commands, ApplyContext(1, 1, self.time))

    def settle(self) -> int:
        """Turns until nothing is left to do; how many."""
        turns = 1
        while self.watches.run(self.time):
            turns += 1
            assert turns < 10_000
        return turns

    def write(self, *commands: bytes) -> None:
        self.apply(*commands)
        self.settle()

    def take_all(self, owner: Owner, number: int, taken: int = 0) -> int:
        """The owner takes everything; `taken`: how much it had taken before. Returns what it has taken now."""
        size = sum(map(weigh, owner.told(number)))
        self.watches.take(owner, number, size - taken)
        return size


def one(key: bytes, previous: bool = False) -> Selection:
    return Selection(key, key + b"\x00", previous=previous)


EVERYTHING = Selection(b"", None, previous=True)
