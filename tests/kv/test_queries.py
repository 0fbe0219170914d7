"""Queries from the outside: limits of answers, and bytes that are no query."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d_engine.format.errors import InvalidRequestError, MalformedError
from d_engine.kv import queries
from d_engine.kv.key_value import KeyValue
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.queries import MAX_ANSWER_BYTES
from d_engine.kv.ranges import in_range, overlap, prefix_end

MEBIBYTE = 1024 * 1024


def machine_with(values: dict[bytes, bytes]) -> KvStateMachine:
    machine = KvStateMachine()
    for key, value in values.items():
        machine.store.put(key, value)
    return machine


def scan(machine: KvStateMachine, prefix: bytes, limit: int = 0, after: bytes | None = None) -> queries.Scan:
    return queries.decode_scan(machine.query(queries.encode_scan_prefix(prefix, limit, after)))


def keys_of(answer: queries.Scan) -> list[bytes]:
    return [entry.key for entry in answer.items]


def test_get_of_nothing() -> None:
    assert queries.decode_entries(KvStateMachine().query(queries.encode_get_entries([]))) == queries.Entries(
        0, ()
    )


def test_scan_finds_the_prefix_itself_and_nothing_beyond() -> None:
    machine = machine_with(dict.fromkeys((b"a", b"ab", b"ab\xff", b"abc", b"ac", b"\xff", b"\xff\xff"), b""))
    assert keys_of(scan(machine, b"ab")) == [b"ab", b"abc", b"ab\xff"]
    assert keys_of(scan(machine, b"\xff")) == [b"\xff", b"\xff\xff"]
    assert keys_of(scan(machine, b"b")) == []
    assert scan(machine, b"").revision == 7


def test_scan_tells_whether_there_is_more() -> None:
    machine = machine_with({b"%d" % number: b"" for number in range(5)})
    assert [scan(machine, b"", limit).more for limit in (0, 1, 4, 5, 6)] == [False, True, True, False, False]
    machine.store.put(b"9", b"")
    assert not scan(machine, b"4", 1).more


def test_scan_is_continued_behind_its_last_key() -> None:
    machine = machine_with({b"%03d" % number: b"" for number in range(100)})
    found: list[bytes] = []
    more = True
    while more:
        answer = scan(machine, b"0", 7, found[-1] if found else None)
        found += keys_of(answer)
        more = answer.more
    assert found == [b"%03d" % number for number in range(100)]


def test_scan_stops_before_its_answer_gets_too_large() -> None:
    machine = machine_with({b"%d" % number: bytes(3 * MEBIBYTE) for number in range(4)})
    first = scan(machine, b"")
    assert (keys_of(first), first.more) == ([b"0", b"1"], True)
    assert keys_of(scan(machine, b"", 0, b"1")) == [b"2", b"3"]


def get_range(
    machine: KvStateMachine, start: bytes, end: bytes | None, limit: int = 0, reverse: bool = False
) -> queries.Scan:
    return queries.decode_scan(machine.query(queries.encode_get_range(start, end, limit, reverse)))


def test_a_range_holds_its_start_but_not_its_end() -> None:
    machine = machine_with(dict.fromkeys((b"a", b"b", b"ba", b"c", b"\xff"), b"v"))
    assert keys_of(get_range(machine, b"b", b"c")) == [b"b", b"ba"]
    assert keys_of(get_range(machine, b"b", b"c", 0, True)) == [b"ba", b"b"]
    assert keys_of(get_range(machine, b"c", None, 0, True)) == [b"\xff", b"c"]
    assert keys_of(get_range(machine, b"c", b"b")) == keys_of(get_range(machine, b"c", b"b", 0, True)) == []
    last = get_range(machine, b"", None, 2, True)
    assert (keys_of(last), last.more, last.revision) == ([b"\xff", b"c"], True, 5)


def test_keys_without_values() -> None:
    machine = machine_with({b"a": bytes(5 * MEBIBYTE), b"b": bytes(5 * MEBIBYTE)})
    query = queries.encode_get_range(b"", None, keys_only=True)
    answer = queries.decode_scan(machine.query(query))
    assert answer == queries.Scan(2, (KeyValue(b"a", b"", 1, 1, 1), KeyValue(b"b", b"", 2, 2, 1)), False)


@pytest.mark.parametrize(
    ("prefix", "end"),
    [(b"", None), (b"\xff\xff", None), (b"a", b"b"), (b"a\xff\xff", b"b"), (b"a\x00", b"a\x01")],
)
def test_a_prefix_is_a_range(prefix: bytes, end: bytes | None) -> None:
    assert prefix_end(prefix) == end


@given(st.binary(max_size=3), st.lists(st.binary(max_size=4)))
def test_the_range_of_a_prefix_holds_what_begins_with_it(prefix: bytes, keys: list[bytes]) -> None:
    for key in keys:
        assert in_range(key, prefix, prefix_end(prefix)) is key.startswith(prefix)


@given(*[st.binary(max_size=1), st.one_of(st.none(), st.binary(max_size=1))] * 2)
def test_ranges_overlap_if_a_key_is_in_both(
    start: bytes, end: bytes | None, other_start: bytes, other_end: bytes | None
) -> None:
    both = any(
        in_range(key, start, end) and in_range(key, other_start, other_end) for key in (start, other_start)
    )
    assert overlap(start, end, other_start, other_end) is both


def test_count() -> None:
    machine = machine_with({b"%04d" % number: b"" for number in range(3000)})

    def count(start: bytes, end: bytes | None) -> int:
        return queries.decode_count(machine.query(queries.encode_count_range(start, end))).count

    assert [count(b"", None), count(b"0100", b"2100"), count(b"2999", None), count(b"3", None)] == [
        3000,
        2000,
        1,
        0,
    ]
    assert count(b"2", b"1") == 0


def test_one_entry_is_always_answered() -> None:
    machine = machine_with({b"a": bytes(MAX_ANSWER_BYTES), b"b": b""})
    assert (keys_of(scan(machine, b"")), scan(machine, b"").more) == ([b"a"], True)
    (entry,) = queries.decode_entries(machine.query(queries.encode_get_entries([b"a"]))).entries
    assert entry == KeyValue(b"a", bytes(MAX_ANSWER_BYTES), 1, 1, 1)


def test_get_of_too_much_is_refused() -> None:
    machine = machine_with({b"a": bytes(MAX_ANSWER_BYTES), b"b": b""})
    with pytest.raises(InvalidRequestError, match="ask for fewer at a time"):
        queries.decode_entries(machine.query(queries.encode_get_entries([b"a", b"b"])))


@pytest.mark.parametrize(
    "query",
    [b"", b"\x00", b"\x90", b"\x91\x05", b"\x92\x01\x91\xa1x", b"\x94\x02\xc4\x00\xff\xc0", b"\x91" * 5000],
)
def test_what_is_no_query_is_answered_with_an_error(query: bytes) -> None:
    for decode in (queries.decode_entries, queries.decode_scan, queries.decode_count):
        with pytest.raises(InvalidRequestError, match="a query does not decode"):
            decode(KvStateMachine().query(query))


@given(st.binary(max_size=60))
def test_any_bytes_are_answered(query: bytes) -> None:
    machine = machine_with({b"k": b"v"})
    before = machine.digest()
    answer = machine.query(query)
    for decode in (queries.decode_entries, queries.decode_scan, queries.decode_count):
        try:
            decode(answer)
        except (InvalidRequestError, MalformedError):
            continue
    assert machine.digest() == before


@given(st.one_of(st.binary(max_size=60), st.binary().map(lambda data: b"\x93\x01" + data)))
def test_any_bytes_are_an_answer_or_refused(answer: bytes) -> None:
    for decode in (queries.decode_entries, queries.decode_scan, queries.decode_count):
        try:
            decode(answer)
        except (InvalidRequestError, MalformedError):
            continue


def test_answers_to_the_other_question() -> None:
    machine = KvStateMachine()
    with pytest.raises(MalformedError, match="a get was answered with a Scan"):
        queries.decode_entries(machine.query(queries.encode_scan_prefix(b"")))
    with pytest.raises(MalformedError, match="a scan was answered with a Entries"):
        queries.decode_scan(machine.query(queries.encode_get_entries([])))
    with pytest.raises(MalformedError, match="a count was answered with a Scan"):
        queries.decode_count(machine.query(queries.encode_scan_prefix(b"")))
