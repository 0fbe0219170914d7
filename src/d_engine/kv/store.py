"""The store: what the default state machine keeps, and the rules by which its revision rises.

The revision starts at 0 and rises by one with every command that writes at least one key, however many it writes.
Deleting an absent key, a failed comparison and a read leave it alone. It is not the log index: it counts what readers
can see.

A command that may write several keys is a *change*: `begin_change`, then `put_in_change`, `delete_in_change` and
`delete_range_in_change`, then `end_change`. All keys that it writes get the same revision, which is the store's from
its end on. No other method that writes may be called in between; whatever reads sees the writes so far.

Every write is recorded in `history`, with the entry before it; whoever deletes keys says why, with `cause`. The caller
seals the history when a batch of commands is done (`d_engine.kv.history`).

Threads: the owner (the thread that applies the log) may call everything. Any other thread may call `get` only, which
is a single look-up and sees an entry before or after a write, never in between. `epoch` is odd while more than one key
is being changed. A thread that cares reads it before and after `get`: if it was odd or has changed, the answer is not
to be used, and the owner is to be asked.
"""

from collections.abc import Callable, Iterator
from itertools import chain, takewhile
from typing import Protocol

from d_engine.format.errors import InvariantViolation
from d_engine.kv.events import Cause, Removed
from d_engine.kv.history import History
from d_engine.kv.key_value import KeyValue
from d_engine.kv.leases import FrozenLeases, LeaseTable
from d_engine.kv.ordered import FrozenKeys, OrderedKeys
from d_engine.kv.shards import FrozenShards, Shards
from d_engine.kv.successor import Successor


class _Keys(Protocol):
    def from_key(self, start: bytes) -> Iterator[bytes]: ...


class StoreView:
    """The store as it was when `Store.view` was called. It never changes, and any thread may read it."""

    __slots__ = ("_keys", "_leases", "_shards", "get", "revision")

    def __init__(self, revision: int, shards: FrozenShards, keys: FrozenKeys, leases: FrozenLeases) -> None:
        self.revision = revision
        self._leases = leases
        self.get: Callable[[bytes], KeyValue | None] = shards.get
        self._shards = shards
        self._keys = keys

    @property
    def count(self) -> int:
        """How many keys there were."""
        return self._keys.count

    def scan(self, prefix: bytes = b"", after: bytes | None = None) -> Iterator[KeyValue]:
        """The entries whose keys begin with `prefix` and, if `after` is given, are greater than it, in key order."""
        return _scan(self.get, self._keys, prefix, after)

    def range(self, start: bytes, end: bytes | None) -> Iterator[KeyValue]:
        """The entries from `start` up to but without `end`, in key order."""
        keys = self._keys.from_key(start)
        for key in keys if end is None else takewhile(end.__gt__, keys):
            yield _found(key, self.get(key))

    def frozen_leases(self) -> FrozenLeases:
        """The leases that there were."""
        return self._leases

    def release(self) -> Iterator[None]:
        """Let go of everything, a little at each step (see `d_engine.format.state_machine.ReleasableView`)."""
        yield from self._shards.release()
        yield from self._keys.release()


class Store:
    """The entries now."""

    __slots__ = ("_keys", "_shards", "epoch", "get", "history", "leases", "revision")

    def __init__(self) -> None:
        self.history = History()
        self._shards = Shards()
        self._keys = OrderedKeys()
        self.leases = LeaseTable()
        self.revision = 0
        self.epoch = 0
        self.get: Callable[[bytes], KeyValue | None] = self._shards.get
        """The entry of a key, if it exists. The shards' own method: a call between would double what a read costs."""

    @property
    def count(self) -> int:
        """How many keys there are."""
        return self._keys.count

    def put(self, key: bytes, value: bytes, lease: int = 0) -> KeyValue | None:
        """Set the key, on a lease that has room for it (0: on none). Returns the entry that was replaced."""
        revision = self.revision + 1
        write = self._shards.put(key, value, revision, lease)
        previous = write[1]
        if previous is None:
            self._keys.add(key)
        elif previous.lease:
            self._leave(previous, lease)
        if lease:
            self.leases.attach(lease, key)
        self.history.record(write)
        # After the entry: who sees the revision on another thread finds the write.
        self.revision = revision
        return previous

    def delete(self, key: bytes, cause: Cause = "deleted") -> KeyValue | None:
        """Remove the key. Returns the entry that was removed; None, and no new revision, if there was none."""
        previous = self._shards.pop(key)
        if previous is not None:
            self._keys.discard(key)
            self.history.record((Removed(previous.key, self.revision + 1, cause), previous))
            self.revision += 1
            if previous.lease:
                self.leases.detach(previous.lease, previous.key)
        return previous

    def holds(self, key: bytes, expected: bytes | None) -> bool:
        """Whether the key has this value (None: does not exist)."""
        current = self.get(key)
        return (None if current is None else current.value) == expected

    def delete_range(self, start: bytes, end: bytes | None) -> int:
        """Remove all keys from `start` up to but without `end`, at one revision. Returns how many there were."""
        self.begin_change()
        count = self.delete_range_in_change(start, end)
        self.end_change(count > 0)
        return count

    def begin_change(self) -> None:
        """Several keys will be written at one revision."""
        self.epoch += 1

    def put_in_change(self, key: bytes, value: bytes, lease: int = 0) -> None:
        """Set a key that this change has not written yet."""
        write = self._shards.put(key, value, self.revision + 1, lease)
        previous = write[1]
        if previous is None:
            self._keys.add(key)
        elif previous.lease:
            self._leave(previous, lease)
        if lease:
            self.leases.attach(lease, key)
        self.history.record(write)

    def delete_in_change(self, key: bytes, cause: Cause = "deleted") -> bool:
        """Remove a key that this change has not written yet. Returns whether it existed."""
        previous = self._shards.pop(key)
        if previous is None:
            return False
        self._keys.discard(key)
        self.history.record((Removed(previous.key, self.revision + 1, cause), previous))
        if previous.lease:
            self.leases.detach(previous.lease, previous.key)
        return True

    def delete_range_in_change(self, start: bytes, end: bytes | None) -> int:
        """Remove all keys of a range, none of which this change has written yet. Returns how many there were."""
        keys = self._keys.discard_range(start, end)
        pop, record, revision = self._shards.pop, self.history.record, self.revision + 1
        for key in keys:
            previous = pop(key)
            record((Removed(key, revision, "deleted"), previous))
            if previous is not None and previous.lease:
                self.leases.detach(previous.lease, key)
        return len(keys)

    def end_change(self, wrote: bool) -> None:
        """The change is complete; `wrote` says whether it wrote any key."""
        self.revision += wrote
        # Last: who sees an even epoch on another thread finds the revision and all writes.
        self.epoch += 1

    def scan(self, prefix: bytes = b"", after: bytes | None = None) -> Iterator[KeyValue]:
        """The entries whose keys begin with `prefix` and, if `after` is given, are greater than it, in key order.
        Nothing may be written before the iteration ends."""
        return _scan(self.get, self._keys, prefix, after)

    def range(self, start: bytes, end: bytes | None, reverse: bool = False) -> Iterator[KeyValue]:
        """The entries from `start` up to but without `end`, in key order or, with `reverse`, the last one first.
        Nothing may be written before the iteration ends."""
        if not reverse:
            return map(self._entry, self._keys_in(start, end))
        return map(self._entry, takewhile(start.__le__, self._keys.before_key(end)))

    def count_range(self, start: bytes, end: bytes | None) -> int:
        """How many keys there are from `start` up to but without `end`. Costs a thousandth of walking them."""
        return self._keys.count_range(start, end)

    def frozen_leases(self) -> FrozenLeases:
        """The leases as they are now."""
        return self.leases.freeze()

    def view(self) -> StoreView:
        """Freeze. Costs microseconds; later, each shard that is written to is copied once."""
        return StoreView(self.revision, self._shards.freeze(), self._keys.freeze(), self.leases.freeze())

    def become(self, revision: int, successor: Successor, leases: LeaseTable) -> Iterator[None]:
        """Become the store that holds the successor's entries at this revision, and these leases, to which their keys
        are attached already: at once, however many they are. The steps of what it returns let go of the entries before.
        The successor must not be used any more."""
        keys = self._keys.freeze()
        self.epoch += 1
        shards = self._shards.adopt(successor.shards)
        self._keys = successor.keys
        self.leases = leases
        self.revision = revision
        self.history.reset(revision)
        self.epoch += 1
        return chain(shards.release(), keys.release())

    def _leave(self, previous: KeyValue, lease: int) -> None:
        """The key hangs on `lease` now."""
        if previous.lease != lease:
            self.leases.detach(previous.lease, previous.key)

    def _keys_in(self, start: bytes, end: bytes | None) -> Iterator[bytes]:
        keys = self._keys.from_key(start)
        return keys if end is None else takewhile(end.__gt__, keys)

    def _entry(self, key: bytes) -> KeyValue:
        return _found(key, self.get(key))


def _scan(
    get: Callable[[bytes], KeyValue | None], keys: _Keys, prefix: bytes, after: bytes | None
) -> Iterator[KeyValue]:
    # The smallest key greater than `after` is `after` with a zero byte behind it.
    start = prefix if after is None else max(prefix, after + b"\x00")
    for key in keys.from_key(start):
        if not key.startswith(prefix):
            return
        yield _found(key, get(key))


def _found(key: bytes, entry: KeyValue | None) -> KeyValue:
    if entry is None:
        raise InvariantViolation(f"the ordered keys hold {key!r}, which has no entry")
    return entry
