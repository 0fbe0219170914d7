"""The payload of timed entries."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d_engine.format.errors import MalformedError
from d_engine.format.timed import decode_timed, encode_timed


@given(st.lists(st.binary(max_size=20), max_size=5))
def test_commands_read_back(commands: list[bytes]) -> None:
    assert decode_timed(encode_timed(commands), len(commands)) == tuple(commands)


@pytest.mark.parametrize(
    ("payload", "count", "text"),
    [
        (b"", 1, "1 timed commands run past its 0 bytes"),
        (b"\x02\x00\x00\x00a", 1, "1 timed commands run past its 5 bytes"),
        (b"\x01\x00\x00\x00ab", 1, "1 timed commands end at 5, its payload at 6"),
        (b"\x01\x00\x00\x00a", 0, "0 timed commands end at 0, its payload at 5"),
    ],
)
def test_wrong_payloads(payload: bytes, count: int, text: str) -> None:
    with pytest.raises(MalformedError, match=text):
        decode_timed(payload, count)


@given(st.binary(max_size=30), st.integers(0, 5))
def test_any_bytes_are_read_or_refused(payload: bytes, count: int) -> None:
    try:
        decode_timed(payload, count)
    except MalformedError:
        return
