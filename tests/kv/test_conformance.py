"""The key-value state machine passes the suite that is offered for everybody's."""

from random import Random

from d_engine.kv.commands import (
    encode_compare_and_swap,
    encode_delete,
    encode_delete_range,
    encode_held_put,
    encode_put,
    encode_transaction,
)
from d_engine.kv.holding import KEEP_LEASE, ON_LEASE, WITH_TTL
from d_engine.kv.lease_commands import encode_expire, encode_grant, encode_keep_alive, encode_revoke
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.queries import encode_count_range, encode_get_entries, encode_list_leases, encode_scan_prefix
from d_engine.kv.transactions import DeleteStep, HeldPutStep, PutStep, Transaction
from d_engine.testing.state_machine_suite import StateMachineSuite

SECOND = 1_000_000_000


class TestKeyValue(StateMachineSuite):
    def make(self) -> KvStateMachine:
        return KvStateMachine()

    def command(self, rng: Random) -> bytes:
        key, other = (b"key%d" % rng.randrange(12) for _ in range(2))
        value, lease = rng.randbytes(rng.randrange(8)), rng.randrange(1, 30)
        return rng.choice(
            (
                encode_put(key, value),
                encode_put(key, value, want_previous=True),
                encode_held_put(key, value, False, WITH_TTL, rng.randrange(1, 60) * SECOND),
                encode_held_put(key, value, False, ON_LEASE, lease),
                encode_delete(key, want_previous=True),
                encode_compare_and_swap(key, rng.choice((None, b"", value)), value),
                encode_delete_range(min(key, other), max(key, other) + b"\0"),
                encode_transaction(
                    Transaction(
                        (),
                        (PutStep(key, value), DeleteStep(other), HeldPutStep(key, b"x", KEEP_LEASE, 0)),
                        (),
                    )
                ),
                encode_grant(rng.randrange(1, 60) * SECOND),
                encode_keep_alive((lease,)),
                encode_revoke(lease),
                encode_expire(lease, rng.randrange(100) * SECOND),
            )
        )

    def query(self, rng: Random) -> bytes:
        return rng.choice(
            (
                encode_get_entries((b"key1", b"key%d" % rng.randrange(12))),
                encode_scan_prefix(b"key", rng.randrange(5)),
                encode_count_range(b"", None),
                encode_list_leases(0, 100),
            )
        )
