"""The state section of a snapshot: the store as one stream of bytes, in key order.

Equal stores give equal streams, cut at equal places, whatever history led to them: the digest is the stream's hash.
Layout, little-endian::

    header                               each entry, keys rising
    offset  size  field                  offset  size  field
         0     4  magic "DEKV"                0     8  create revision
         4     2  version (2)                 8     8  mod revision
         6     2  reserved, 0                16     8  version
         8     8  revision                   24     8  lease
        16     8  count of entries           32     2  key length
        24     8  leases ever granted        34     4  value length
        32     4  count of leases            38        key, value

Between header and entries stand the leases, ids rising::

    offset  size  field
         0     8  id
         8     8  TTL, nanoseconds
        16     8  deadline, log time
        24     1  1: it belongs to the one key that was put with a TTL

Which keys hang on a lease, the entries tell.

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
from d_engine.kv.leases import MAX_LEASES, MAX_TTL, MIN_TTL, FrozenLeases, Lease, LeaseTable

SNAPSHOT_MAGIC = b"DEKV"
SNAPSHOT_VERSION = 2
PIECE_BYTES = 64 * 1024
"""A piece takes a fraction of a millisecond to make: a snapshot can be written without anybody noticing."""

_HEADER = struct.Struct("<4sHHQQQI")
_LEASE = struct.Struct("<QQQB")
_ENTRY = struct.Struct("<QQQQHI")


class Snapshotable(Protocol):
    """What can be written: a store or a view of one."""

    @property
    def revision(self) -> int: ...

    @property
    def count(self) -> int: ...

    def frozen_leases(self) -> FrozenLeases: ...

    def scan(self) -> Iterator[KeyValue]: ...


def write_pieces(store: Snapshotable) -> Iterator[bytes]:
    """The stream, in pieces of `PIECE_BYTES`; the last one is what remains. A store must not change meanwhile."""
    granted, leases = store.frozen_leases()
    head = (SNAPSHOT_MAGIC, SNAPSHOT_VERSION, 0, store.revision, store.count, granted, len(leases))
    buffer = bytearray(_HEADER.pack(*head))
    for lease in leases:
        buffer += _LEASE.pack(lease.id, lease.ttl, lease.deadline, lease.single)
        if len(buffer) >= PIECE_BYTES:
            yield bytes(buffer[:PIECE_BYTES])
            del buffer[:PIECE_BYTES]
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

    __slots__ = (
        "_buffer",
        "_count",
        "_entries",
        "_granted",
        "_last_key",
        "_lease_count",
        "_leases",
        "_revision",
        "_table",
        "_taken",
    )

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._revision = 0
        self._count = 0
        self._entries: list[KeyValue] = []
        self._taken = 0
        self._last_key: bytes | None = None
        self._granted = 0
        self._lease_count = -1
        """-1: the header has not been read."""
        self._leases: list[Lease] = []
        self._table: LeaseTable | None = None

    def feed(self, piece: bytes) -> None:
        """Raises `SnapshotError` for what is no such stream, `UnknownFormatError` for one of another version."""
        self._buffer += piece
        offset = 0
        if self._lease_count < 0:
            if len(self._buffer) < _HEADER.size:
                return
            self._read_header()
            offset = _HEADER.size
        while len(self._leases) < self._lease_count and offset + _LEASE.size <= len(self._buffer):
            self._read_lease(offset)
            offset += _LEASE.size
        if len(self._leases) == self._lease_count:
            if self._table is None:
                self._table = LeaseTable(self._granted, self._leases)
            while (end := self._read_entry(self._table, offset)) is not None:
                offset = end
        del self._buffer[:offset]

    def take(self) -> list[KeyValue]:
        """The entries that were read since the last time, in key order."""
        entries, self._entries = self._entries, []
        self._taken += len(entries)
        return entries

    def finish(self) -> tuple[int, LeaseTable]:
        """`(revision, leases)`; all entries were taken. Raises `SnapshotError` if the stream does not end where it
        should."""
        table = self._table
        if table is None:
            part = "header" if self._lease_count < 0 else f"{self._lease_count} leases"
            raise SnapshotError(
                f"the key-value section ends after {len(self._buffer)} bytes, within its {part}"
            )
        if self._taken != self._count or self._buffer:
            raise SnapshotError(
                f"the key-value section ends after {self._taken} of {self._count} entries"
                f" with {len(self._buffer)} bytes left over"
            )
        if not table.complete():
            raise SnapshotError("the key-value section has a key's own lease without the key")
        return self._revision, table

    def _read_header(self) -> None:
        magic, version, reserved, revision, count, granted, leases = _HEADER.unpack_from(self._buffer)
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
        if granted > MAX_U63 or leases > min(granted, MAX_LEASES):
            raise SnapshotError(f"the key-value section claims {leases} leases of {granted} ever granted")
        self._revision, self._count = revision, count
        self._granted, self._lease_count = granted, leases

    def _read_lease(self, offset: int) -> None:
        lease_id, ttl, deadline, single = _LEASE.unpack_from(self._buffer, offset)
        before = self._leases[-1].id if self._leases else 0
        if not before < lease_id <= self._granted or single > 1:
            raise SnapshotError(f"lease {lease_id} (kind {single}) stands behind lease {before}")
        if not MIN_TTL <= ttl <= MAX_TTL or not ttl <= deadline <= MAX_U63:
            raise SnapshotError(f"lease {lease_id} has a TTL of {ttl} and ends at {deadline}")
        self._leases.append(Lease(lease_id, ttl, deadline, bool(single)))

    def _read_entry(self, table: LeaseTable, offset: int) -> int | None:
        """Where the entry at `offset` ends, if it is complete and there is one more to come."""
        start = offset + _ENTRY.size
        if start > len(self._buffer) or self._taken + len(self._entries) == self._count:
            return None
        create, mod, version, lease, key_length, value_length = _ENTRY.unpack_from(self._buffer, offset)
        if value_length > MAX_COMMAND_BYTES:
            raise SnapshotError(f"an entry claims a value of {value_length} bytes, above {MAX_COMMAND_BYTES}")
        if (
            not 1 <= create <= mod <= self._revision
            or not 1 <= version <= mod - create + 1
            or (lease and table.get(lease) is None)
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
        if self._last_key is not None and key <= self._last_key:
            raise SnapshotError(f"the key {key!r} does not stand behind {self._last_key!r}")
        self._last_key = key
        value = bytes(self._buffer[middle:end])
        self._entries.append(KeyValue(key, value, create, mod, version, lease))
        if lease:
            table.attach(lease, key)
        return end
