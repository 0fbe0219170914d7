"""Keys to entries, in about a thousand dicts, so that freezing the whole costs next to nothing.

A view shares all dicts with the store and marks them as shared; the first write to a shared dict replaces it by a copy
and writes to that. So a view costs one list of references, and afterwards each shard pays for its own copy once, when
it is written to: a thousandth of the state at a time, never the whole. The same holds for growing: what a dict does
when it is full is bounded by a shard's size.

Any thread may call `get` while the owner writes: it is one look-up in one dict, and dicts are replaced, never emptied.

The shard is chosen by the *high* bits of the key's hash: a dict looks at the low ones first, and keys that agree in
those would all collide. Hashes differ from process to process; nothing that leaves this module depends on them,
because there is no iteration here: order comes from `d_engine.kv.ordered`.
"""

import sys
from collections.abc import Iterator

from d_engine.kv.key_value import KeyValue

_SHARD_BITS = 10
SHARD_COUNT = 2**_SHARD_BITS
_SHIFT = sys.hash_info.width - _SHARD_BITS
"""Hashes are signed, so a shifted one is in -512..511: negative ones count from the end of the list, as intended."""


class FrozenShards:
    """The entries as they were when `Shards.freeze` was called."""

    __slots__ = ("_dicts",)

    def __init__(self, dicts: list[dict[bytes, KeyValue]]) -> None:
        self._dicts = dicts

    def get(self, key: bytes) -> KeyValue | None:
        """The entry of the key, if it existed."""
        return self._dicts[hash(key) >> _SHIFT].get(key)

    def release(self) -> Iterator[None]:
        """Let go of one shard after the other: of all at once, a million entries take a tenth of a second."""
        while self._dicts:
            self._dicts.pop()
            yield


class Shards:
    """The entries now. One owner writes."""

    __slots__ = ("_dicts", "_shared")

    def __init__(self) -> None:
        self._dicts: list[dict[bytes, KeyValue]] = [{} for _ in range(SHARD_COUNT)]
        self._shared = bytearray(SHARD_COUNT)

    def get(self, key: bytes) -> KeyValue | None:
        """The entry of the key, if it exists. Safe on any thread."""
        return self._dicts[hash(key) >> _SHIFT].get(key)

    def put(
        self, key: bytes, value: bytes, revision: int, lease: int = 0
    ) -> tuple[KeyValue, KeyValue | None]:
        """Set the key, on this lease (0: on none). Returns the new entry and the one that was replaced."""
        index = hash(key) >> _SHIFT
        if self._shared[index]:
            self._own(index)
        shard = self._dicts[index]
        previous = shard.get(key)
        if previous is None:
            entry = shard[key] = KeyValue(key, value, revision, revision, 1, lease)
        else:
            # The old entry's key is the object that the dict and the ordered keys hold: one copy of it is enough.
            created, version = previous.create_revision, previous.version + 1
            entry = shard[key] = KeyValue(previous.key, value, created, revision, version, lease)
        return entry, previous

    def pop(self, key: bytes) -> KeyValue | None:
        """Remove the key. Returns the entry that was removed, if there was one."""
        index = hash(key) >> _SHIFT
        if self._shared[index] and key in self._dicts[index]:
            self._own(index)
        return self._dicts[index].pop(key, None)

    def load(self, entry: KeyValue) -> None:
        """Add an entry whose key is not there yet. For shards that no view has been taken of."""
        self._dicts[hash(entry.key) >> _SHIFT][entry.key] = entry

    def freeze(self) -> FrozenShards:
        """The entries as they are now, for ever."""
        self._shared = bytearray(b"\x01" * SHARD_COUNT)
        return FrozenShards(self._dicts.copy())

    def adopt(self, other: "Shards") -> FrozenShards:
        """Hold what the other holds, from one moment to the next. The other must not be used any more. Returns what was
        held before."""
        before = FrozenShards(self._dicts)
        self._shared = other._shared
        self._dicts = other._dicts
        return before

    def _own(self, index: int) -> None:
        self._dicts[index] = self._dicts[index].copy()
        self._shared[index] = 0
