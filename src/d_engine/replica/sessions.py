"""Exactly once: what each replica remembers of the groups it has applied (dissertation, section 6.3).

The table is part of the replicated state: it is changed by the log alone, is the same on every replica at the same
index, and travels in snapshots. Per session it keeps the *floor*, up to which the client has its results, and the
results above it. A group is then one of:

* number known: applied before; the stored results are the answer. With other bytes: refused.
* number at or below the floor: the client gave up on it or has its result; refused, never applied.
* otherwise new: applied, in whatever order numbers come.

There is no time-out: at most `max_sessions` sessions exist, and the one least recently used *in the log* goes first.

Freezing the table copies the order of the sessions and nothing else: whoever changes a session that was frozen changes
a copy of it, which takes its place.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum

from d_engine.format.ids import LogIndex, SessionId

MAX_GROUPS_PER_SESSION = 64
MAX_RESULT_BYTES_PER_SESSION = 1024 * 1024
SESSION_ORDINAL_BITS = 16


class Verdict(Enum):
    """What the table says of a group before it is applied."""

    NEW = "new"
    KNOWN = "known"
    LOST = "lost"
    """The session does not exist (any more)."""
    PASSED = "passed"
    """At or below the floor."""
    CHANGED = "changed"
    """Known under this number, with other bytes."""
    FULL = "full"
    """The client keeps too many results waiting."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The results of one applied group."""

    checksum: int
    revision: int
    results: Sequence[bytes]
    size: int


@dataclass(slots=True)
class Session:
    """One client's groups. `epoch` is that of the table when this object was made."""

    floor: int = 0
    stored: dict[int, Stored] = field(default_factory=dict)
    size: int = 0
    epoch: int = field(default=0, compare=False)

    def raise_floor(self, floor: int) -> None:
        """Forget what the client says it has."""
        if floor <= self.floor:
            return
        self.floor = floor
        for number in [number for number in self.stored if number <= floor]:
            self.size -= self.stored.pop(number).size


class SessionTable:
    """All sessions, the least recently used first."""

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions
        self._sessions: OrderedDict[SessionId, Session] = OrderedDict()
        self._epoch = 0
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, index: LogIndex, ordinal: int) -> SessionId:
        """A new session, named by where in the log it was opened."""
        session_id = index << SESSION_ORDINAL_BITS | ordinal
        self._sessions[session_id] = Session(epoch=self._epoch)
        while len(self._sessions) > self._max_sessions:
            self._sessions.popitem(last=False)
            self.evicted += 1
        return session_id

    def judge(
        self, session_id: SessionId, number: int, floor: int, checksum: int
    ) -> tuple[Verdict, Stored | None]:
        """Take note of the group's floor and of the session's use, and say what is to be done with the group."""
        session = self._sessions.get(session_id)
        if session is None:
            return Verdict.LOST, None
        if session.epoch != self._epoch:
            copy = Session(session.floor, dict(session.stored), session.size, self._epoch)
            session = self._sessions[session_id] = copy
        self._sessions.move_to_end(session_id)
        session.raise_floor(floor)
        if number <= session.floor:
            return Verdict.PASSED, None
        stored = session.stored.get(number)
        if stored is not None:
            return (Verdict.KNOWN, stored) if stored.checksum == checksum else (Verdict.CHANGED, None)
        if len(session.stored) >= MAX_GROUPS_PER_SESSION or session.size >= MAX_RESULT_BYTES_PER_SESSION:
            return Verdict.FULL, None
        return Verdict.NEW, None

    def store(self, session_id: SessionId, number: int, stored: Stored) -> None:
        """Remember the results of a group that was judged new."""
        session = self._sessions[session_id]
        session.stored[number] = stored
        session.size += stored.size

    def result(self, session_id: SessionId, number: int) -> Stored | None:
        """The stored results of a group, if there are any."""
        session = self._sessions.get(session_id)
        return None if session is None else session.stored.get(number)

    def freeze(self) -> list[tuple[SessionId, Session]]:
        """The sessions as they are now, for ever, the least recently used first."""
        self._epoch += 1
        return list(self._sessions.items())

    def replace(self, sessions: Iterable[tuple[SessionId, Session]]) -> None:
        """Become the table that was frozen into this."""
        self._sessions = OrderedDict(sessions)
