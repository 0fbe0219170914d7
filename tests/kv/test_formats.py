"""Golden bytes: what was written must stay readable. The examples are those of docs/design/formats-kv.md, in order."""

import re
from pathlib import Path

from d_engine.format.state_machine import ApplyContext
from d_engine.kv import commands, lease_commands, queries, results, view_queries
from d_engine.kv.holding import KEEP_LEASE, ON_LEASE, WITH_TTL
from d_engine.kv.key_value import KeyValue
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.transactions import (
    EQUAL,
    LESS,
    VALUE,
    VERSION,
    Condition,
    DeleteDone,
    DeleteRangeDone,
    DeleteRangeStep,
    DeleteStep,
    GetRangeStep,
    GetStep,
    Got,
    GotRange,
    HeldPutStep,
    PutDone,
    PutStep,
    Transaction,
    TransactionDone,
)

PAGE = Path(__file__).parents[2] / "docs" / "design" / "formats-kv.md"
EXAMPLES = [
    bytes.fromhex(block) for block in re.findall(r"(?:^    [0-9a-f ]+\n)+", PAGE.read_text(), re.MULTILINE)
]


def example_machine() -> KvStateMachine:
    machine = KvStateMachine()
    puts = [
        commands.encode_put(b"a", b""),
        commands.encode_put(b"job", b"new"),
        commands.encode_put(b"job", b"done"),
    ]
    machine.apply(puts, ApplyContext(1, 1, 0))
    return machine


TRANSACTION = Transaction(
    when=(Condition(b"job", VERSION, EQUAL, 2), Condition(b"x", VALUE, LESS, b"m")),
    then=(PutStep(b"job", b"old"), DeleteStep(b"a"), DeleteRangeStep(b"x", b"y")),
    otherwise=(GetStep(b"job"), GetRangeStep(b"j", None, 10)),
)
JOB = KeyValue(b"job", b"done", 2, 3, 2)


def test_commands() -> None:
    assert EXAMPLES[:8] == [
        commands.encode_put(b"job", b"done"),
        commands.encode_put(b"job", b"done", want_previous=True),
        commands.encode_delete(b"job"),
        commands.encode_compare_and_swap(b"job", b"new", b"done"),
        commands.encode_compare_and_swap(b"job", None, b""),
        commands.encode_delete_range(b"a", b"b"),
        commands.encode_delete_range(b"a", None),
        commands.encode_transaction(TRANSACTION),
    ]
    assert list(map(commands.decode_command, EXAMPLES[:8])) == [
        commands.Put(b"job", b"done"),
        commands.Put(b"job", b"done", want_previous=True),
        commands.Delete(b"job"),
        commands.CompareAndSwap(b"job", b"new", b"done"),
        commands.CompareAndSwap(b"job", None, b""),
        commands.DeleteRange(b"a", b"b"),
        commands.DeleteRange(b"a", None),
        TRANSACTION,
    ]


def test_results() -> None:
    written, unchanged, with_previous, range_deleted, _, _, invalid = EXAMPLES[8:15]
    assert written == results.RESULT.pack(results.WRITTEN, 7)
    assert unchanged == results.RESULT.pack(results.UNCHANGED, 7)
    previous = KeyValue(b"job", b"new", 3, 5, 2)
    assert with_previous == results.encode_with_previous(7, previous)
    assert range_deleted == results.encode_range_deleted(7, 3)
    assert invalid == results.encode_invalid("no")
    assert results.decode_put(written) == results.PutResult(7)
    assert results.decode_put(with_previous) == results.PutResult(7, previous)
    assert results.decode_delete(with_previous) == results.DeleteResult(7, True, previous)
    assert results.decode_delete(unchanged) == results.DeleteResult(7, False)
    assert results.decode_delete_range(range_deleted) == results.DeleteRangeResult(7, 3)


def test_results_of_transactions() -> None:
    done, other = EXAMPLES[12:14]
    machine = example_machine()
    assert machine.apply([EXAMPLES[7]], ApplyContext(2, 1, 0)) == [other]
    got = (Got(JOB), GotRange((JOB,), False))
    assert results.decode_transaction_done(other, TRANSACTION) == TransactionDone(False, 3, got)
    steps = (PutDone(), DeleteDone(True), DeleteRangeDone(0))
    assert results.encode_transaction_done(TransactionDone(True, 4, steps)) == done
    assert results.decode_transaction_done(done, TRANSACTION) == TransactionDone(True, 4, steps)


def test_queries() -> None:
    machine = example_machine()
    get, scan, get_range, count, entries, first_entry, last_key, counted = EXAMPLES[15:23]
    assert get == queries.encode_get_entries([b"job", b"x"])
    assert scan == queries.encode_scan_prefix(b"jo", 10, b"joa")
    assert get_range == queries.encode_get_range(b"a", b"k", 1, reverse=True, keys_only=True)
    assert count == queries.encode_count_range(b"a", None)
    assert machine.query(get) == entries
    assert machine.query(queries.encode_scan_prefix(b"", 1)) == first_entry
    assert machine.query(get_range) == last_key
    assert machine.query(count) == counted
    assert queries.decode_entries(entries).entries == (JOB, None)
    assert queries.decode_scan(first_entry) == queries.Scan(3, (KeyValue(b"a", b"", 1, 1, 1),), True)
    assert queries.decode_scan(last_key) == queries.Scan(3, (KeyValue(b"job", b"", 2, 3, 2),), True)
    assert queries.decode_count(counted) == queries.Count(3, 2)


def test_snapshot() -> None:
    machine, restored = example_machine(), KvStateMachine()
    stream, digest = EXAMPLES[23:25]
    assert list(machine.chunks(machine.view())) == [stream]
    assert machine.digest() == digest
    restored.restore(iter([stream]))
    assert restored.digest() == digest


def test_leases() -> None:
    machine, second = example_machine(), 10**9
    put, with_ttl, keep, swap, grant, keep_alive, revoke, expire, granted, kept = EXAMPLES[25:35]
    get, got, listing, listed, stream, refused, ended = EXAMPLES[35:42]
    assert put == commands.encode_held_put(b"job", b"x", False, ON_LEASE, 1)
    assert with_ttl == commands.encode_held_put(b"job", b"x", False, WITH_TTL, second // 4)
    assert keep == commands.encode_held_put(b"job", b"x", False, KEEP_LEASE, 0)
    assert swap == commands.encode_compare_and_swap(b"job", b"x", b"y", ON_LEASE, 1)
    assert grant == lease_commands.encode_grant(10 * second)
    assert keep_alive == lease_commands.encode_keep_alive([1, 2])
    assert revoke == lease_commands.encode_revoke(1)
    assert expire == lease_commands.encode_expire(1, 11 * second)
    assert commands.decode_command(swap) == commands.CompareAndSwap(b"job", b"x", b"y", ON_LEASE, 1)
    assert get == queries.encode_get_lease(1)
    assert listing == queries.encode_list_leases(0, 10)

    machine.clock = lambda: 3 * second
    results_of = machine.apply([grant, put, keep_alive], ApplyContext(2, 1, second))
    assert [results_of[0], results_of[2]] == [granted, kept]
    assert [machine.query(get), machine.query(listing)] == [got, listed]
    assert b"".join(machine.chunks(machine.view())) == stream
    restored = KvStateMachine()
    restored.restore(iter([stream]))
    assert restored.digest() == machine.digest()
    on_another = commands.encode_held_put(b"job", b"x", False, ON_LEASE, 2)
    assert machine.apply([on_another], ApplyContext(3, 1, second)) == [refused]
    assert machine.apply([expire], ApplyContext(4, 1, 11 * second)) == [ended]


def test_a_put_on_a_lease_in_a_transaction() -> None:
    step = HeldPutStep(b"job", b"x", WITH_TTL, 250_000_000)
    command = commands.encode_transaction(Transaction((), (step,), ()))
    assert commands.decode_command(command) == Transaction((), (step,), ())
    assert command[1:].startswith(bytes.fromhex("93 90 91 95 06 c4 03 6a 6f 62 c4 01 78 02 ce"))


def test_pinned_views() -> None:
    opening, reading, closing, opened, closed, refused = EXAMPLES[42:]
    assert opening == view_queries.encode_question(view_queries.OpenView())
    asked = view_queries.ReadView(8, queries.GetRange(b"a", b"k", 1))
    assert reading == view_queries.encode_question(asked)
    assert view_queries.decode_question(reading) == asked
    assert closing == view_queries.encode_question(view_queries.CloseView(8))
    assert view_queries.decode_answer(opened) == view_queries.ViewOpened(8, 3, 2, 60.0)
    assert view_queries.decode_answer(closed) == view_queries.ViewClosed()
    assert refused == view_queries.encode_answer(view_queries.ViewRefused("view_expired", "no"))
