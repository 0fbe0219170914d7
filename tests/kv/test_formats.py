"""Golden bytes: what was written must stay readable. The examples are those of docs/design/formats-kv.md, in order."""

import re
from pathlib import Path

from d_engine.format.state_machine import ApplyContext
from d_engine.kv import commands, queries, results
from d_engine.kv.key_value import KeyValue
from d_engine.kv.machine import KvStateMachine

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


def test_commands() -> None:
    assert EXAMPLES[:5] == [
        commands.encode_put(b"job", b"done"),
        commands.encode_put(b"job", b"done", want_previous=True),
        commands.encode_delete(b"job"),
        commands.encode_compare_and_swap(b"job", b"new", b"done"),
        commands.encode_compare_and_swap(b"job", None, b""),
    ]
    assert list(map(commands.decode_command, EXAMPLES[:5])) == [
        commands.Put(b"job", b"done"),
        commands.Put(b"job", b"done", want_previous=True),
        commands.Delete(b"job"),
        commands.CompareAndSwap(b"job", b"new", b"done"),
        commands.CompareAndSwap(b"job", None, b""),
    ]


def test_results() -> None:
    written, unchanged, with_previous, invalid = EXAMPLES[5:9]
    assert written == results.RESULT.pack(results.WRITTEN, 7)
    assert unchanged == results.RESULT.pack(results.UNCHANGED, 7)
    previous = KeyValue(b"job", b"new", 3, 5, 2)
    assert with_previous == results.encode_with_previous(7, previous)
    assert invalid == results.encode_invalid("no")
    assert results.decode_put(written) == results.PutResult(7)
    assert results.decode_put(with_previous) == results.PutResult(7, previous)
    assert results.decode_delete(with_previous) == results.DeleteResult(7, True, previous)
    assert results.decode_delete(unchanged) == results.DeleteResult(7, False)


def test_queries() -> None:
    machine = example_machine()
    get, scan, entries, first_entry = EXAMPLES[9:13]
    assert get == queries.encode_get_entries([b"job", b"x"])
    assert scan == queries.encode_scan_prefix(b"jo", 10, b"joa")
    assert machine.query(get) == entries
    assert machine.query(queries.encode_scan_prefix(b"", 1)) == first_entry
    assert queries.decode_entries(entries).entries == (KeyValue(b"job", b"done", 2, 3, 2), None)
    assert queries.decode_scan(first_entry) == queries.Scan(3, (KeyValue(b"a", b"", 1, 1, 1),), True)


def test_snapshot() -> None:
    machine, restored = example_machine(), KvStateMachine()
    stream, digest = EXAMPLES[13:]
    assert list(machine.chunks(machine.view())) == [stream]
    assert machine.digest() == digest
    restored.restore(iter([stream]))
    assert restored.digest() == digest
