"""Results decode to what was meant; what is none is refused."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d_engine.format.errors import InvalidRequestError, MalformedError
from d_engine.kv import results
from d_engine.kv.key_value import KeyValue

DECODERS: list[Callable[[bytes], object]] = [
    results.decode_put,
    results.decode_delete,
    results.decode_compare_and_swap,
]
WRITTEN = results.RESULT.pack(results.WRITTEN, 9)
UNCHANGED = results.RESULT.pack(results.UNCHANGED, 9)


def test_short_results() -> None:
    assert results.decode_put(WRITTEN) == results.PutResult(9, None)
    assert results.decode_delete(WRITTEN) == results.DeleteResult(9, True, None)
    assert results.decode_delete(UNCHANGED) == results.DeleteResult(9, False, None)
    assert results.decode_compare_and_swap(WRITTEN) == results.CompareAndSwapResult(9, True)
    assert results.decode_compare_and_swap(UNCHANGED) == results.CompareAndSwapResult(9, False)


@given(st.binary(max_size=40), st.binary(max_size=40))
def test_previous_entries(key: bytes, value: bytes) -> None:
    previous = KeyValue(key, value, 2, 7, 3, 11)
    result = results.encode_with_previous(8, previous)
    assert results.decode_put(result) == results.PutResult(8, previous)
    assert results.decode_delete(result) == results.DeleteResult(8, True, previous)


@pytest.mark.parametrize("decode", DECODERS)
def test_refused_command(decode: Callable[[bytes], object]) -> None:
    with pytest.raises(InvalidRequestError, match=r"^a command has the unknown kind 9$"):
        decode(results.encode_invalid("a command has the unknown kind 9"))
    with pytest.raises(InvalidRequestError, match="12345678"):
        decode(results.encode_invalid("12345678"))


def test_results_of_another_command() -> None:
    with pytest.raises(MalformedError, match="nothing was written"):
        results.decode_put(UNCHANGED)
    with pytest.raises(MalformedError, match="has a previous entry"):
        results.decode_compare_and_swap(results.encode_with_previous(8, KeyValue(b"", b"", 1, 1, 1)))


@pytest.mark.parametrize(
    "previous",
    [
        KeyValue(b"k", b"", 0, 1, 1),
        KeyValue(b"k", b"", 3, 2, 1),
        KeyValue(b"k", b"", 1, 8, 1),
        KeyValue(b"k", b"", 1, 2, 0),
        KeyValue(b"k", b"", 1, 2, 3),
        KeyValue(b"k", b"", 1, 2, 1, 2**63),
    ],
)
def test_previous_entries_that_cannot_be(previous: KeyValue) -> None:
    with pytest.raises(MalformedError, match="a previous entry has"):
        results.decode_put(results.encode_with_previous(8, previous))


@given(st.one_of(st.binary(max_size=80), st.binary(min_size=42).map(lambda data: b"\x03" + data)))
def test_any_bytes_are_a_result_or_refused(data: bytes) -> None:
    for decode in DECODERS:
        try:
            decode(data)
        except (MalformedError, InvalidRequestError):
            continue


@pytest.mark.parametrize("size", range(51))
def test_cut_off_results(size: int) -> None:
    data = results.encode_with_previous(8, KeyValue(b"key", b"value", 1, 1, 1))[:size]
    if size < 46:
        with pytest.raises(MalformedError):
            results.decode_put(data)
    else:
        assert results.decode_put(data).previous == KeyValue(b"key", b"value"[: size - 46], 1, 1, 1)
