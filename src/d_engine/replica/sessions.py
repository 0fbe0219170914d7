"""Exactly once: what each replica remembers of the groups it has applied (dissertation, section 6.3).

The table is part of the replicated state: it is changed by the log alone, is the same on every replica at the same
index, and travels in snapshots. Per session it keeps the *floor*, up to which the client has its results, and the
results above it. A group is then one of:

* number known: applied before; the stored results are the answer. With other bytes: refused.
* number at or below the floor: the client gave up on it or has its result; refused, never applied.
* otherwise new: applied, in whatever order numbers come.

There is no time-out: at most `max_sessions` sessions exist, and the one least recently used *in the log* goes first.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import TypeAlias

import msgspec

from d_engine.format.errors import SnapshotError
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
    """One client's groups."""

    floor: int = 0
    stored: dict[int, Stored] = field(default_factory=dict)
    size: int = 0

    def raise_floor(self, floor: int) -> None:
        """Forget what the client says it has."""
        if floor <= self.floor:
            return
        self.floor = floor
        for number in [number for number in self.stored if number <= floor]:
            self.size -= self.stored.pop(number).size


_Row: TypeAlias = tuple[int, int, list[tuple[int, int, int, list[bytes]]]]
_DECODER: "msgspec.msgpack.Decoder[list[_Row]]" = msgspec.msgpack.Decoder(list[_Row])
_ROWS_PER_PIECE = 64


class SessionTable:
    """All sessions, the least recently used first."""

    def __init__(self, max_sessions: int) -> None:
        self._max_sessions = max_sessions
        self._sessions: OrderedDict[SessionId, Session] = OrderedDict()
        self.evicted = 0

    def __len__(self) -> int:
        return len(self._sessions)

    def open(self, index: LogIndex, ordinal: int) -> SessionId:
        """A new session, named by where in the log it was opened."""
        session_id = index << SESSION_ORDINAL_BITS | ordinal
        self._sessions[session_id] = Session()
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

    def freeze(self) -> list[_Row]:
        """The table as plain rows, least recently used first, which later changes do not touch."""
        return [
            (
                session_id,
                session.floor,
                [(n, s.checksum, s.revision, list(s.results)) for n, s in sorted(session.stored.items())],
            )
            for session_id, session in self._sessions.items()
        ]

    def restore(self, pieces: Iterator[bytes]) -> None:
        """Replace the table by what `encode_rows` made."""
        sessions: OrderedDict[SessionId, Session] = OrderedDict()
        for piece in pieces:
            try:
                rows = _DECODER.decode(piece)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                raise SnapshotError(f"the sessions of a snapshot do not decode: {error}") from None
            for session_id, floor, stored in rows:
                session = Session(floor)
                for number, checksum, revision, results in stored:
                    size = sum(map(len, results))
                    session.stored[number] = Stored(checksum, revision, results, size)
                    session.size += size
                sessions[session_id] = session
        self._sessions = sessions


def encode_rows(rows: list[_Row]) -> Iterator[bytes]:
    """Frozen rows as pieces of a snapshot's section."""
    for start in range(0, len(rows), _ROWS_PER_PIECE):
        yield msgspec.msgpack.encode(rows[start : start + _ROWS_PER_PIECE])
