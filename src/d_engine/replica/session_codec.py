"""The session table as a section of a snapshot.

A stream of bytes, the least recently used session first; equal tables give equal streams. Little-endian::

    header                            each session               each group of it         each result of it
    offset  size  field               size  field                size  field              size  field
         0     4  magic "DESS"           8  session id              8  number                4  length
         4     2  version (1)            8  floor                   4  checksum                 the result
         6     2  reserved, 0            4  number of groups        8  revision
         8     8  number of sessions                                4  number of results
"""

import struct
from collections.abc import Iterator, Sequence

from d_engine.format.errors import SnapshotError, UnknownFormatError
from d_engine.format.ids import SessionId
from d_engine.replica.sessions import Session, Stored

_MAGIC = b"DESS"
_VERSION = 1
_PIECE_BYTES = 64 * 1024
_HEADER = struct.Struct("<4sHHQ")
_SESSION = struct.Struct("<QQI")
_GROUP = struct.Struct("<QIQI")
_LENGTH = struct.Struct("<I")


def encode_sessions(sessions: Sequence[tuple[SessionId, Session]]) -> Iterator[bytes]:
    """Frozen sessions, in pieces of at most 64 KiB, each made when it is asked for."""
    buffer = bytearray(_HEADER.pack(_MAGIC, _VERSION, 0, len(sessions)))
    for session_id, session in sessions:
        if len(buffer) >= _PIECE_BYTES:
            yield bytes(buffer[:_PIECE_BYTES])
            del buffer[:_PIECE_BYTES]
        buffer += _SESSION.pack(session_id, session.floor, len(session.stored))
        for number, stored in sorted(session.stored.items()):
            buffer += _GROUP.pack(number, stored.checksum, stored.revision, len(stored.results))
            for result in stored.results:
                buffer += _LENGTH.pack(len(result))
                buffer += result
            while len(buffer) >= _PIECE_BYTES:
                yield bytes(buffer[:_PIECE_BYTES])
                del buffer[:_PIECE_BYTES]
    while buffer:
        yield bytes(buffer[:_PIECE_BYTES])
        del buffer[:_PIECE_BYTES]


def decode_sessions(pieces: Iterator[bytes]) -> list[tuple[SessionId, Session]]:
    """Raises `SnapshotError` for what is no such stream, `UnknownFormatError` for one of another version."""
    reader = _Reader(pieces)
    magic, version, reserved, count = _HEADER.unpack(reader.take(_HEADER.size))
    if magic != _MAGIC or reserved:
        raise SnapshotError(f"this is no section of sessions: it begins with {magic!r}")
    if version != _VERSION:
        raise UnknownFormatError(f"the sessions have version {version}; this release knows {_VERSION}")
    sessions: list[tuple[SessionId, Session]] = []
    for _ in range(count):
        session_id, floor, groups = _SESSION.unpack(reader.take(_SESSION.size))
        session = Session(floor)
        for _ in range(groups):
            number, checksum, revision, results = _GROUP.unpack(reader.take(_GROUP.size))
            found = [reader.take(_LENGTH.unpack(reader.take(_LENGTH.size))[0]) for _ in range(results)]
            size = sum(map(len, found))
            session.stored[number] = Stored(checksum, revision, found, size)
            session.size += size
        sessions.append((session_id, session))
    reader.finish()
    return sessions


class _Reader:
    """Takes a stream in other parts than it came in."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._buffer = b""
        self._place = 0

    def take(self, size: int) -> bytes:
        """The next bytes."""
        while self._place + size > len(self._buffer):
            piece = next(self._pieces, None)
            if piece is None:
                raise SnapshotError("the sessions of a snapshot end too early")
            self._buffer = self._buffer[self._place :] + piece
            self._place = 0
        start, self._place = self._place, self._place + size
        return self._buffer[start : self._place]

    def finish(self) -> None:
        """Nothing is left."""
        left = len(self._buffer) - self._place + sum(map(len, self._pieces))
        if left:
            raise SnapshotError(f"behind the sessions of a snapshot stand {left} more bytes")
