"""Leases: keys that go by themselves when nobody keeps them (architecture, section 7; etcd's semantics).

A lease has an id, a time to live (TTL) and a deadline in *log time*. Keeping it alive moves the deadline to the log
time of that command plus the TTL, so a deadline never falls. Ids are counted by the store itself, from 1, and never
used again. A lease of the kind *single* came with `put(ttl=)`: it belongs to one key and ends with it.

Nothing here reads a clock, and no lease ends by itself: a command that is applied ends it. The table only tells which
deadlines have passed, so that the leader can propose those commands.

Which keys hang on a lease, the entries themselves say; the table keeps the way back. In the heap of deadlines each
lease stands once. When its deadline moves the heap is left alone: the old place, which is too early, is corrected when
it comes up. So a keep-alive costs no more than a dict's item, however many leases there are.
"""

from collections.abc import Iterable
from heapq import heapify, heappop, heappush, heapreplace
from typing import Annotated, NamedTuple

from msgspec import Meta, Struct

from d_engine.format.errors import InvalidRequestError, LeaseLimitError, LeaseNotFoundError
from d_engine.format.ids import MAX_U63, Nanoseconds

MIN_TTL: Nanoseconds = 10_000_000
MAX_TTL: Nanoseconds = 10 * 365 * 86_400 * 1_000_000_000
MAX_LEASES = 100_000
"""Part of the replicated rules, like all limits here: the same on every member, no setting for operators."""
MAX_KEYS_PER_LEASE = 10_000
"""They all go at one revision, within one step of the loop."""
DUE_LEASES = 1000
DUE_KEYS = 10_000
"""What one entry lets expire: so many leases with so many keys, at least one lease."""

_SLACK = 64
"""So many ended leases may stay in the heap besides as many as live."""

LeaseId = Annotated[int, Meta(ge=1, le=MAX_U63)]


class Lease(Struct, frozen=True, array_like=True, gc=False):
    """One lease. Times are nanoseconds, the deadline is log time."""

    id: int
    ttl: Nanoseconds
    deadline: Nanoseconds
    single: bool = False


class FrozenLeases(NamedTuple):
    """All leases as they were, by rising id. None of them is ever changed, only replaced."""

    granted: int
    leases: tuple[Lease, ...]


class LeaseTable:
    """All leases. `granted`: how many there ever were, which is the newest one's id."""

    __slots__ = ("_heap", "_keys", "_leases", "granted")

    def __init__(self, granted: int = 0, leases: Iterable[Lease] = ()) -> None:
        """`leases` by rising id, as yet without keys."""
        self.granted = granted
        self._leases = {lease.id: lease for lease in leases}
        self._keys: dict[int, dict[bytes, None]] = {lease: {} for lease in self._leases}
        self._heap = [(lease.deadline, lease.id) for lease in self._leases.values()]
        heapify(self._heap)

    def __len__(self) -> int:
        return len(self._leases)

    # --- what commands do ---

    def check_grant(self, ttl: Nanoseconds, others: int = 0) -> None:
        """Raise `InvalidRequestError` or `LeaseLimitError` unless one more can be granted, besides so many others."""
        if not MIN_TTL <= ttl <= MAX_TTL:
            raise InvalidRequestError(f"a TTL of {ttl} ns is out of range: {MIN_TTL} to {MAX_TTL}")
        if len(self._leases) + others >= MAX_LEASES:
            raise LeaseLimitError(f"there are {len(self._leases)} leases; the limit is {MAX_LEASES}")

    def grant(self, ttl: Nanoseconds, log_time: Nanoseconds, single: bool = False) -> Lease:
        """A new lease; `check_grant` has been asked."""
        self.granted += 1
        lease = Lease(self.granted, ttl, log_time + ttl, single)
        self._leases[lease.id] = lease
        self._keys[lease.id] = {}
        heappush(self._heap, (lease.deadline, lease.id))
        return lease

    def keep_alive(self, lease_id: int, log_time: Nanoseconds) -> Lease | None:
        """Let it live its whole TTL from now on. None if there is no such lease."""
        lease = self._leases.get(lease_id)
        if lease is None:
            return None
        kept = Lease(lease_id, lease.ttl, max(lease.deadline, log_time + lease.ttl), lease.single)
        self._leases[lease_id] = kept
        return kept

    def check_room(self, lease_id: int, key: bytes, others: int = 0) -> None:
        """Raise `LeaseNotFoundError` or `LeaseLimitError` unless the key can be attached to this lease, besides so many
        others. A single one takes no other key than its own."""
        keys, lease = self._keys.get(lease_id), self._leases.get(lease_id)
        if keys is None or lease is None:
            raise LeaseNotFoundError(f"there is no lease {lease_id}: it expired, was revoked, or never was")
        if key not in keys:
            if lease.single:
                raise InvalidRequestError(f"lease {lease_id} belongs to the one key that was put with a TTL")
            if len(keys) + others >= MAX_KEYS_PER_LEASE:
                raise LeaseLimitError(
                    f"lease {lease_id} has {len(keys)} keys; the limit is {MAX_KEYS_PER_LEASE}"
                )

    def attach(self, lease_id: int, key: bytes) -> None:
        """The key hangs on this lease now; `check_room` has been asked."""
        self._keys[lease_id][key] = None

    def detach(self, lease_id: int, key: bytes) -> None:
        """The key hangs on this lease no more. A single lease ends with that."""
        keys = self._keys.get(lease_id)
        if keys is None:
            return
        keys.pop(key, None)
        if self._leases[lease_id].single:
            self.remove(lease_id)

    def remove(self, lease_id: int) -> list[bytes] | None:
        """The lease is no more. Returns the keys that hang on it, in order; None if there was no such lease."""
        if self._leases.pop(lease_id, None) is None:
            return None
        keys = sorted(self._keys.pop(lease_id))
        if len(self._heap) > 2 * len(self._leases) + _SLACK:
            self._heap = [(lease.deadline, lease.id) for lease in self._leases.values()]
            heapify(self._heap)
        return keys

    # --- what is so now ---

    def get(self, lease_id: int) -> Lease | None:
        """The lease, if it exists."""
        return self._leases.get(lease_id)

    def keys_of(self, lease_id: int) -> list[bytes]:
        """The keys that hang on the lease, in order."""
        return sorted(self._keys.get(lease_id, ()))

    def count_of(self, lease_id: int) -> int:
        """How many keys hang on the lease."""
        return len(self._keys.get(lease_id, ()))

    def behind(self, lease_id: int, limit: int) -> list[Lease]:
        """The leases with greater ids, by rising id, at most `limit`."""
        found = []
        for lease in self._leases.values():
            if lease.id > lease_id:
                found.append(lease)
                if len(found) == limit:
                    break
        return found

    @property
    def deadline(self) -> Nanoseconds | None:
        """The first deadline."""
        heap = self._heap
        while heap:
            deadline, lease_id = heap[0]
            lease = self._leases.get(lease_id)
            if lease is None:
                heappop(heap)
            elif lease.deadline != deadline:
                heapreplace(heap, (lease.deadline, lease_id))
            else:
                return deadline
        return None

    def due(self, log_time: Nanoseconds) -> list[Lease]:
        """Leases whose deadlines have passed, by deadline: as many as one entry may end."""
        found: list[Lease] = []
        keys = 0
        while (deadline := self.deadline) is not None and deadline <= log_time and len(found) < DUE_LEASES:
            lease = self._leases[self._heap[0][1]]
            keys += self.count_of(lease.id)
            if found and keys > DUE_KEYS:
                break
            heappop(self._heap)
            found.append(lease)
        for lease in found:
            heappush(self._heap, (lease.deadline, lease.id))
        return found

    def anew(self, granted: int, log_time: Nanoseconds) -> "LeaseTable":
        """The same leases with their keys, each with its whole TTL before it; so many more were ever granted."""
        renewed = [Lease(old.id, old.ttl, log_time + old.ttl, old.single) for old in self._leases.values()]
        table = LeaseTable(self.granted + granted, renewed)
        table._keys = {lease: keys.copy() for lease, keys in self._keys.items()}
        return table

    def freeze(self) -> FrozenLeases:
        """The leases as they are now, for ever."""
        return FrozenLeases(self.granted, tuple(self._leases.values()))

    def complete(self) -> bool:
        """After a snapshot was read and its keys were attached: whether each single lease has its key."""
        return all(len(self._keys[lease.id]) == 1 for lease in self._leases.values() if lease.single)
