"""Leases in the state machine (architecture, section 7): never early, one revision for all keys, limits."""

import pytest

from d_engine.format.errors import InvalidRequestError, LeaseLimitError, LeaseNotFoundError
from d_engine.format.state_machine import ApplyContext, TimedStateMachine
from d_engine.kv import commands, leases, queries, results
from d_engine.kv.events import Removed
from d_engine.kv.holding import FOR_EVER, KEEP_LEASE, ON_LEASE, WITH_TTL
from d_engine.kv.lease_commands import (
    MAX_KEPT,
    Expire,
    Grant,
    KeepAlive,
    Revoke,
    decode_lease_command,
    encode_expire,
    encode_grant,
    encode_keep_alive,
    encode_revoke,
)
from d_engine.kv.leases import DUE_KEYS, DUE_LEASES, MAX_KEYS_PER_LEASE, MAX_TTL, MIN_TTL, LeaseTable
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.transactions import DeleteStep, HeldPutStep, PutStep, Transaction

SECOND = 1_000_000_000


def apply(machine: KvStateMachine, *encoded: bytes, at: float = 0) -> list[bytes]:
    return machine.apply(encoded, ApplyContext(1, 1, int(at * SECOND)))


def put(key: bytes, hold: int = FOR_EVER, number: int = 0, value: bytes = b"") -> bytes:
    return commands.encode_held_put(key, value, False, hold, number)


def expire_due(machine: KvStateMachine, at: float) -> list[bytes]:
    """What a leader would do at this log time."""
    return apply(machine, *machine.due(int(at * SECOND)), at=at)


def keys(machine: KvStateMachine) -> dict[bytes, int]:
    return {entry.key: entry.lease for entry in machine.store.scan()}


def test_all_keys_of_a_lease_go_at_one_revision_when_its_time_has_come() -> None:
    machine = KvStateMachine()
    granted = results.decode_granted(apply(machine, encode_grant(10 * SECOND), at=5)[0])
    assert granted == results.LeaseGranted(1, 10 * SECOND)
    apply(machine, put(b"a", ON_LEASE, 1), put(b"stays"), put(b"b", ON_LEASE, 1), at=6)
    assert machine.deadline == 15 * SECOND
    assert machine.due(15 * SECOND - 1) == []

    (result,) = expire_due(machine, 15)
    assert results.decode_lease_ended(result) == 2
    assert (machine.revision, keys(machine)) == (4, {b"stays": 0})
    assert machine.due(10**18) == []


@pytest.mark.parametrize("time", [0, 14.999999999])
def test_expiry_is_ignored_before_log_time_has_reached_the_deadline(time: float) -> None:
    """A leader that is wrong, or was: the entry's own log time decides."""
    machine = KvStateMachine()
    apply(machine, encode_grant(10 * SECOND), put(b"a", ON_LEASE, 1), at=5)
    (result,) = apply(machine, encode_expire(1, 15 * SECOND), at=time)
    assert result == results.RESULT.pack(results.UNCHANGED, 1)
    assert keys(machine) == {b"a": 1}


def test_expiry_is_ignored_if_the_deadline_has_moved() -> None:
    """The keep-alive came into the log between the proposal and its application."""
    machine = KvStateMachine()
    apply(machine, encode_grant(10 * SECOND), put(b"a", ON_LEASE, 1), at=5)
    due = machine.due(15 * SECOND)
    (kept,) = apply(machine, encode_keep_alive([1, 2]), at=15)
    assert results.decode_kept(kept, 2) == (10 * SECOND, 0)
    assert apply(machine, *due, at=16) == [results.RESULT.pack(results.UNCHANGED, 1)]
    assert machine.deadline == 25 * SECOND
    assert machine.due(24 * SECOND) == []
    expire_due(machine, 25)
    assert apply(machine, *due, at=30) == [results.RESULT.pack(results.UNCHANGED, 2)]


def test_revoking_ends_the_lease_and_its_keys_now() -> None:
    machine = KvStateMachine()
    apply(machine, encode_grant(10 * SECOND), encode_grant(SECOND), put(b"a", ON_LEASE, 1))
    ended, again, empty = apply(machine, encode_revoke(1), encode_revoke(1), encode_revoke(2))
    assert results.decode_lease_ended(ended) == 1
    with pytest.raises(LeaseNotFoundError, match="there is no lease 1"):
        results.decode_lease_ended(again)
    assert results.decode_lease_ended(empty) == 0
    assert (machine.revision, len(machine.store.leases)) == (2, 0)


def test_a_key_with_a_ttl_has_a_lease_of_its_own() -> None:
    """`put(ttl=)`: the lease ends with the key, by whatever."""
    machine = KvStateMachine()
    apply(machine, put(b"a", WITH_TTL, SECOND // 4), put(b"b", WITH_TTL, SECOND), put(b"c", WITH_TTL, SECOND))
    assert keys(machine) == {b"a": 1, b"b": 2, b"c": 3}
    apply(machine, commands.encode_delete(b"b"), commands.encode_delete_range(b"c", None))
    assert len(machine.store.leases) == 1
    expire_due(machine, 0.25)
    assert (keys(machine), len(machine.store.leases)) == ({}, 0)


def test_a_plain_write_over_a_key_with_a_ttl_drops_it_unless_told_to_keep_it() -> None:
    machine = KvStateMachine()
    for key in (b"put", b"swap", b"txn"):
        apply(machine, put(key, WITH_TTL, SECOND))
    apply(machine, put(b"put", KEEP_LEASE), commands.encode_compare_and_swap(b"swap", b"", b"x", KEEP_LEASE))
    apply(
        machine, commands.encode_transaction(Transaction((), (HeldPutStep(b"txn", b"x", KEEP_LEASE, 0),), ()))
    )
    assert keys(machine) == {b"put": 1, b"swap": 2, b"txn": 3}

    apply(machine, commands.encode_put(b"put", b""), commands.encode_compare_and_swap(b"swap", b"x", b""))
    apply(machine, commands.encode_transaction(Transaction((), (PutStep(b"txn", b""),), ())))
    assert keys(machine) == {b"put": 0, b"swap": 0, b"txn": 0}
    assert machine.deadline is None
    apply(machine, put(b"new", KEEP_LEASE))
    assert keys(machine)[b"new"] == 0


def test_a_new_ttl_replaces_the_old_one() -> None:
    machine = KvStateMachine()
    apply(machine, put(b"a", WITH_TTL, 10 * SECOND))
    apply(machine, put(b"a", WITH_TTL, SECOND), at=1)
    assert (keys(machine), machine.deadline) == ({b"a": 2}, 2 * SECOND)


def test_a_key_moves_from_lease_to_lease() -> None:
    machine = KvStateMachine()
    apply(machine, encode_grant(SECOND), encode_grant(9 * SECOND))
    apply(machine, put(b"a", ON_LEASE, 1), put(b"a", ON_LEASE, 2), put(b"a", ON_LEASE, 2))
    expire_due(machine, 1)
    assert keys(machine) == {b"a": 2}
    assert machine.store.leases.keys_of(2) == [b"a"]


def test_what_fails_changes_nothing() -> None:
    machine = KvStateMachine()
    apply(machine, encode_grant(SECOND), put(b"own", WITH_TTL, SECOND))
    before = machine.digest()
    for command in (
        put(b"a", ON_LEASE, 7),
        commands.encode_compare_and_swap(b"a", None, b"", ON_LEASE, 7),
        commands.encode_transaction(
            Transaction((), (DeleteStep(b"own"), HeldPutStep(b"a", b"", ON_LEASE, 7)), ())
        ),
    ):
        with pytest.raises(LeaseNotFoundError):
            results.decode_put(apply(machine, command)[0])
    for command in (put(b"a", ON_LEASE, 2), put(b"a", WITH_TTL, MIN_TTL - 1), encode_grant(MAX_TTL + 1)):
        with pytest.raises(InvalidRequestError):
            results.decode_put(apply(machine, command)[0])
    assert machine.digest() == before
    # A comparison that fails looks at no lease.
    (failed,) = apply(machine, commands.encode_compare_and_swap(b"a", b"x", b"", ON_LEASE, 7))
    assert not results.decode_compare_and_swap(failed).succeeded


def test_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = KvStateMachine()
    apply(machine, encode_grant(SECOND))
    apply(machine, *(put(b"%d" % number, ON_LEASE, 1) for number in range(MAX_KEYS_PER_LEASE - 1)))
    two = Transaction((), tuple(HeldPutStep(key, b"", ON_LEASE, 1) for key in (b"x", b"y")), ())
    with pytest.raises(LeaseLimitError, match="lease 1 has 9999 keys"):
        results.decode_put(apply(machine, commands.encode_transaction(two))[0])
    first, second, again = apply(
        machine, put(b"x", ON_LEASE, 1), put(b"y", ON_LEASE, 1), put(b"x", ON_LEASE, 1)
    )
    results.decode_put(first)
    with pytest.raises(LeaseLimitError, match="lease 1 has 10000 keys"):
        results.decode_put(second)
    results.decode_put(again)

    monkeypatch.setattr(leases, "MAX_LEASES", 3)
    two = Transaction((), tuple(HeldPutStep(key, b"", WITH_TTL, SECOND) for key in (b"x", b"y", b"z")), ())
    *_, result = apply(machine, commands.encode_transaction(two), *[encode_grant(SECOND)] * 3)
    with pytest.raises(LeaseLimitError, match="the limit is 3"):
        results.decode_granted(result)
    assert len(machine.store.leases) == 3


def test_what_one_entry_ends_is_bounded() -> None:
    machine = KvStateMachine()
    apply(machine, *([encode_grant(SECOND)] * (DUE_LEASES + 5)))
    assert len(machine.due(SECOND)) == DUE_LEASES
    expire_due(machine, 1)
    assert len(machine.due(SECOND)) == 5
    half = DUE_KEYS // 2 + 1
    apply(machine, encode_grant(SECOND // 2), encode_grant(SECOND // 2), at=0)
    for lease in (DUE_LEASES + 6, DUE_LEASES + 7):
        apply(machine, *(put(b"%d/%d" % (lease, number), ON_LEASE, lease) for number in range(half)))
    assert len(machine.due(SECOND // 2)) == 1


def test_the_heap_stays_small() -> None:
    """Whatever is kept alive for years, or put again and again."""
    table = LeaseTable()
    lease = table.grant(SECOND, 0)
    for time in range(10_000):
        table.keep_alive(lease.id, time)
    for time in range(1000):
        table.remove(table.grant(SECOND, time).id)
    assert len(table._heap) < 200
    assert table.deadline == SECOND + 9999


def test_leases_travel_in_snapshots() -> None:
    machine, other = KvStateMachine(), KvStateMachine()
    apply(machine, *([encode_grant(3 * SECOND)] * 3000), encode_revoke(3000), put(b"a", ON_LEASE, 7), at=2)
    apply(machine, put(b"b", WITH_TTL, SECOND), encode_keep_alive([8]), at=3)
    view = machine.view()
    apply(machine, encode_revoke(7), encode_grant(SECOND))
    other.restore(machine.chunks(view))
    assert keys(other) == {b"a": 7, b"b": 3001}
    assert other.deadline == 4 * SECOND
    assert results.decode_granted(apply(other, encode_grant(SECOND))[0]).id == 3002
    assert machine.digest() != other.digest()
    expire_due(other, 4)
    assert keys(other) == {b"a": 7}


def test_in_a_new_cluster_every_lease_has_its_whole_time_again() -> None:
    """After a majority was lost for good: how much log time had passed there, nobody knows."""
    machine = KvStateMachine()
    apply(machine, encode_grant(3 * SECOND), put(b"a", ON_LEASE, 1), put(b"b", WITH_TTL, SECOND), at=1)
    machine.recovered(1000, 50 * SECOND)
    assert keys(machine) == {b"a": 1, b"b": 2}
    assert machine.deadline == 51 * SECOND
    assert results.decode_granted(apply(machine, encode_grant(SECOND), at=50)[0]).id == 1003
    expire_due(machine, 53)
    assert keys(machine) == {}


def test_events_tell_expiry_from_deletion() -> None:
    machine = KvStateMachine()
    apply(machine, encode_grant(SECOND), encode_grant(SECOND), put(b"a", ON_LEASE, 1), put(b"b", ON_LEASE, 2))
    apply(machine, put(b"c", ON_LEASE, 2), encode_revoke(1))
    expire_due(machine, 1)
    removed = [write[0] for number in (2, 3, 4) for write in machine.history.read(number, 1).writes]
    removed += [write[0] for write in machine.history.read(5, 1).writes]
    assert [
        (entry.key, entry.mod_revision, entry.cause) for entry in removed if isinstance(entry, Removed)
    ] == [
        (b"a", 4, "deleted"),
        (b"b", 5, "expired"),
        (b"c", 5, "expired"),
    ]


def test_queries_tell_what_is_left() -> None:
    machine = KvStateMachine()
    apply(machine, encode_grant(10 * SECOND), put(b"b", ON_LEASE, 1), put(b"a", ON_LEASE, 1), at=0)
    apply(machine, put(b"c", WITH_TTL, SECOND), at=0)
    machine.clock = lambda: 4 * SECOND
    first = queries.LeaseFound(1, 10 * SECOND, 6 * SECOND, 2, False)
    second = queries.LeaseFound(2, SECOND, 0, 1, True)

    def ask(query: bytes) -> queries.Leases:
        return queries.decode_leases(machine.query(query))

    assert ask(queries.encode_get_lease(1)) == queries.Leases(3, (first,), False, (b"a", b"b"))
    assert ask(queries.encode_get_lease(9)) == queries.Leases(3, ())
    assert ask(queries.encode_list_leases(0, 1)) == queries.Leases(3, (first,), True)
    assert ask(queries.encode_list_leases(1, 10)) == queries.Leases(3, (second,))


def test_commands_read_back() -> None:
    for command, encoded in (
        (Grant(7), encode_grant(7)),
        (KeepAlive((1, 2)), encode_keep_alive([1, 2])),
        (Revoke(3), encode_revoke(3)),
        (Expire(3, 8), encode_expire(3, 8)),
    ):
        assert decode_lease_command(encoded) == commands.decode_command(encoded) == command
    many = tuple(range(1, MAX_KEPT + 1))
    assert decode_lease_command(encode_keep_alive(many)) == KeepAlive(many)


def test_it_is_a_timed_state_machine() -> None:
    assert isinstance(KvStateMachine(), TimedStateMachine)
