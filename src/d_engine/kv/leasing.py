"""Carrying out what is about leases. `log_time` is that of the entry: the only time there is here."""

from d_engine.format.errors import LeaseNotFoundError
from d_engine.format.ids import Nanoseconds
from d_engine.kv.commands import CompareAndSwap, Put
from d_engine.kv.holding import FOR_EVER, check_holds, lease_for
from d_engine.kv.key_value import KeyValue
from d_engine.kv.lease_commands import Expire, Grant, KeepAlive, LeaseCommand
from d_engine.kv.results import RESULT, UNCHANGED, encode_granted, encode_kept, encode_lease_ended
from d_engine.kv.store import Store


def change_leases(store: Store, command: LeaseCommand, log_time: Nanoseconds) -> bytes:
    """Do it; returns the result. Raises `InvalidRequestError`, `LeaseNotFoundError`, `LeaseLimitError`, and has done
    nothing then."""
    leases = store.leases
    if isinstance(command, Grant):
        leases.check_grant(command.ttl)
        lease = leases.grant(command.ttl, log_time)
        return encode_granted(store.revision, lease.id, lease.ttl)
    if isinstance(command, KeepAlive):
        kept = [leases.keep_alive(lease_id, log_time) for lease_id in command.leases]
        return encode_kept(store.revision, [0 if lease is None else lease.ttl for lease in kept])
    if isinstance(command, Expire):
        known = leases.get(command.lease)
        if known is None or known.deadline != command.deadline or log_time < known.deadline:
            return RESULT.pack(UNCHANGED, store.revision)
    keys = leases.remove(command.lease)
    if keys is None:
        raise LeaseNotFoundError(f"there is no lease {command.lease}: it expired, was revoked, or never was")
    store.begin_change()
    for key in keys:
        store.delete_in_change(key, "expired" if isinstance(command, Expire) else "deleted")
    store.end_change(bool(keys))
    return encode_lease_ended(store.revision, len(keys))


def put_held(store: Store, command: Put | CompareAndSwap, log_time: Nanoseconds) -> KeyValue | None:
    """Put the key as the command says; returns the entry that was replaced. Raises like `change_leases`."""
    key, hold, number = command.key, command.hold, command.number
    if hold == FOR_EVER:
        return store.put(key, command.value)
    check_holds(store.leases, ((key, hold, number),))
    return store.put(key, command.value, lease_for(store, key, hold, number, log_time))
