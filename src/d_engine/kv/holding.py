"""How long a key stays that is put: for ever, or as long as a lease.

A put says so by a `hold` and a number. Without any, the key hangs on no lease from then on, whatever it hung on before.
"""

from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from d_engine.format.ids import MAX_U63, Nanoseconds
from d_engine.kv.key_value import KeyValue
from d_engine.kv.leases import LeaseTable

FOR_EVER, ON_LEASE, WITH_TTL, KEEP_LEASE = 0, 1, 2, 3
"""On the lease whose id is the number; on a new single lease with the number as its TTL in nanoseconds; on whatever
lease the key hangs on now (the number is 0)."""

HeldKey: TypeAlias = tuple[bytes, int, int]
"""Key, hold, number."""


class Holding(Protocol):
    """A store."""

    @property
    def leases(self) -> LeaseTable: ...

    @property
    def get(self) -> Callable[[bytes], KeyValue | None]: ...


def hold_objection(hold: int, number: int) -> str | None:
    """Why this is no hold, whatever the store holds."""
    if hold == ON_LEASE and not 1 <= number <= MAX_U63:
        return f"a put names the lease {number}, which cannot be"
    if hold == WITH_TTL and not 1 <= number <= MAX_U63:
        return f"a put names a TTL of {number} ns, which cannot be"
    if hold in (FOR_EVER, KEEP_LEASE) and number:
        return f"a put that names no lease has the number {number}"
    return None


def check_holds(leases: LeaseTable, puts: Sequence[HeldKey]) -> None:
    """Raise `InvalidRequestError`, `LeaseNotFoundError` or `LeaseLimitError` unless all these keys, none of them twice,
    can be put."""
    granted = 0
    taken: dict[int, int] = {}
    for key, hold, number in puts:
        if hold == WITH_TTL:
            leases.check_grant(number, granted)
            granted += 1
        elif hold == ON_LEASE:
            others = taken.get(number, 0)
            leases.check_room(number, key, others)
            taken[number] = others + 1


def lease_for(store: Holding, key: bytes, hold: int, number: int, log_time: Nanoseconds) -> int:
    """The lease on which the key is to hang. `check_holds` was asked."""
    if hold == WITH_TTL:
        return store.leases.grant(number, log_time, single=True).id
    if hold == KEEP_LEASE:
        present = store.get(key)
        return 0 if present is None else present.lease
    return number
