"""The state section of a snapshot: the store as one stream of bytes, in key order.

Equal stores give equal streams, cut at equal places, whatever history led to them: the digest is the stream's hash.
Layout, little-endian::

    header                               each entry, keys rising
    offset  size  field                  offset  size  field
         0     4  magic "DEKV"                0     8  create revision
         4     2  version (1)                 8     8  mod revision
         6     2  reserved, 0                16     8  version
         8     8  revision                   24     8  lease
        16     8  count of entries           32     2  key length
                                             34     4  value length
                                             38        key, value

The stream has no checksum of its own: who stores or sends the pieces checks them. What a reader checks all the same is
that they make sense, so that a mistake stops the node instead of becoming its state.
"""

import struct
from collections.abc import Iterator
from typing import Protocol

from d_engine.format.errors import SnapshotError, UnknownFormatError
from d_engine.format.ids import MAX_U63
from d_engine.format.limits import MAX_COMMAND_BYTES
from d_engine.kv.key_value import KeyValue

SNAPSHOT_MAGIC = b"DEKV"
SNAPSHOT_VERSION = 1
PIECE_BYTES = 64 * 1024
"""A piece takes a fraction of a millisecond to make: a snapshot can be written without anybody noticing."""

_HEADER = struct.Struct("<4sHHQQ")
_ENTRY = struct.Struct("<QQQQHI")


class Snapshotable(Protocol):
    """What can be written: a store or a view of one."""

    @property
    def revision(self) -> int: ...

    @property
    def count(self) -> int: ...

    def scan(self) -> Iterator[KeyValue]: ...


def write_pieces(store: Snapshotable) -> Iterator[bytes]:
    """The stream, in pieces of `PIECE_BYTES`; the last one is what remains. A store must not change meanwhile."""
    buffer = bytearray(_HEADER.pack(SNAPSHOT_MAGIC, SNAPSHOT_VERSION, 0, store.revision, store.count))
    pack = _ENTRY.pack
    for entry in store.scan():
        key, value = entry.key, entry.value
        revisions = (entry.create_revision, entry.mod_revision, entry.version, entry.lease)
        buffer += pack(*revisions, len(key), len(value))
        buffer += key
        buffer += value
        while len(buffer) >= PIECE_BYTES:
            yield bytes(buffer[:PIECE_BYTES])
            del buffer[:PIECE_BYTES]
    if buffer:
        yield bytes(buffer)


class SnapshotReader:
    """Reads the stream, however it is cut. `feed` the pieces in order, then `finish`."""

    __slots__ = ("_buffer", "_count", "_entries", "_header_read", "_revision")

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._header_read = False
        self._revision = 0
        self._count = 0
        self._entries: list[KeyValue] = []

    def feed(self, piece: bytes) -> None:
        """Raises `SnapshotError` for what is no such stream, `UnknownFormatError` for one of another version."""
        self._buffer += piece
        offset = 0
        if not self._header_read:
            if len(self._buffer) < _HEADER.size:
                return
            self._read_header()
            offset = _HEADER.size
        while (end := self._read_entry(offset)) is not None:
            offset = end
        del self._buffer[:offset]

    def finish(self) -> tuple[int, list[KeyValue]]:
        """`(revision, entries)`. Raises `SnapshotError` if the stream has not come to its end, or went beyond."""
        if not self._header_read:
            raise SnapshotError(
                f"the key-value section ends after {len(self._buffer)} bytes, within its header"
            )
        if len(self._entries) != self._count or self._buffer:
            raise SnapshotError(
                f"the key-value section ends after {len(self._entries)} of {self._count} entries"
                f" with {len(self._buffer)} bytes left over"
            )
        return self._revision, self._entries

    def _read_header(self) -> None:
        magic, version, reserved, revision, count = _HEADER.unpack_from(self._buffer)
        if magic != SNAPSHOT_MAGIC:
            raise SnapshotError(f"this is no key-value section: it begins with {magic!r}")
        if version != SNAPSHOT_VERSION:
            raise UnknownFormatError(
                f"the key-value section has version {version}; this release knows {SNAPSHOT_VERSION}"
            )
        # A transaction puts many keys at one revision: only without any revision there can be no key.
        if reserved or revision > MAX_U63 or (count and not revision):
            raise SnapshotError(
                f"the key-value section claims {count} entries at revision {revision} (reserved: {reserved})"
            )
        self._revision, self._count, self._header_read = revision, count, True

    def _read_entry(self, offset: int) -> int | None:
        """Where the entry at `offset` ends, if it is complete and there is one more to come."""
        start = offset + _ENTRY.size
        if start > len(self._buffer) or len(self._entries) == self._count:
            return None
        create, mod, version, lease, key_length, value_length = _ENTRY.unpack_from(self._buffer, offset)
        if value_length > MAX_COMMAND_BYTES:
            raise SnapshotError(f"an entry claims a value of {value_length} bytes, above {MAX_COMMAND_BYTES}")
        if (
            not 1 <= create <= mod <= self._revision
            or not 1 <= version <= mod - create + 1
            or lease > MAX_U63
        ):
            raise SnapshotError(
                f"an entry has revisions {create} and {mod}, version {version}, lease {lease}"
                f" in a section of revision {self._revision}"
            )
        middle = start + key_length
        end: int = middle + value_length
        if end > len(self._buffer):
            return None
        key = bytes(self._buffer[start:middle])
        if self._entries and key <= self._entries[-1].key:
            raise SnapshotError(f"the key {key!r} does not stand behind {self._entries[-1].key!r}")
        value = bytes(self._buffer[middle:end])
        self._entries.append(KeyValue(key, value, create, mod, version, lease))
        return end
