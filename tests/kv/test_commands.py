"""Commands survive the journey, and what is no command is refused in the same words everywhere."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d_engine.format.errors import InvalidRequestError, MalformedError
from d_engine.kv import commands

KEY = st.binary(max_size=40)
VALUE = st.binary(max_size=40)


@given(KEY, VALUE, st.booleans())
def test_put_and_delete_decode_to_what_was_encoded(key: bytes, value: bytes, want: bool) -> None:
    assert commands.decode_command(commands.encode_put(key, value, want)) == commands.Put(key, value, want)
    assert commands.decode_command(commands.encode_delete(key, want)) == commands.Delete(key, want)


@given(KEY, st.one_of(st.none(), VALUE), VALUE)
def test_compare_and_swap_decodes_to_what_was_encoded(
    key: bytes, expected: bytes | None, value: bytes
) -> None:
    encoded = commands.encode_compare_and_swap(key, expected, value)
    assert commands.decode_command(encoded) == commands.CompareAndSwap(key, expected, value)


@given(KEY, st.one_of(st.none(), KEY))
def test_delete_range_decodes_to_what_was_encoded(start: bytes, end: bytes | None) -> None:
    encoded = commands.encode_delete_range(start, end)
    assert commands.decode_command(encoded) == commands.DeleteRange(start, end)


def test_longest_key_and_a_large_value() -> None:
    key, value = b"k" * commands.HIGHEST_KEY_LIMIT, b"v" * 2_000_000
    assert commands.decode_command(commands.encode_put(key, value)) == commands.Put(key, value)
    assert commands.decode_command(
        commands.encode_compare_and_swap(key, value, value)
    ) == commands.CompareAndSwap(key, value, value)


@pytest.mark.parametrize(
    ("command", "text"),
    [
        ("", "a command of 0 bytes is too short"),
        ("01 00 01", "a command of 3 bytes is too short"),
        ("00 00 00 00", "unknown kind 0"),
        ("0a 00 00 00", "unknown kind 10"),
        ("06 00 00 00", "kind 6 has 4 bytes instead of 10"),
        ("06 01 01 00 00 00 00 00 00 00", "kind 6 has unknown flags 0x01"),
        ("08 00 00 00 00 00 00 00 00 00", "kind 8 has a number out of range"),
        ("09 00 01 00 00 00 00 00 00 00", "kind 9 has 10 bytes instead of 18"),
        ("07 00 00 00", "a keep_alive of 4 bytes names 0 leases"),
        ("07 00 02 00 01 00 00 00 00 00 00 00", "a keep_alive of 12 bytes names 2 leases"),
        ("01 10 00 00", "kind 1 has unknown flags 0x10"),
        ("01 02 00 00", "kind 1 ends within its lease or TTL"),
        ("01 06 00 00", "kind 1 has flags 0x06, which contradict each other"),
        ("01 02 00 00 00 00 00 00 00 00 00 00", "names the lease 0, which cannot be"),
        ("01 04 00 00 00 00 00 00 00 00 00 80", "names a TTL of 9223372036854775808 ns"),
        ("02 02 00 00", "kind 2 has unknown flags 0x02"),
        ("02 ff 00 00", "kind 2 has unknown flags 0xff"),
        ("01 00 02 00 61", "key of 2 bytes runs past its 5 bytes"),
        ("02 00 01 00 61 62", "a delete has 1 bytes behind its key"),
        ("03 00 00 00 00 00 00", "a compare_and_swap of 7 bytes is too short"),
        ("03 10 00 00 00 00 00 00", "a compare_and_swap has unknown flags 0x10"),
        ("03 02 00 00 00 00 00 00", "kind 3 ends within its lease or TTL"),
        ("03 00 00 00 01 00 00 00 61", "expects an absent key names an expected value"),
        ("03 01 01 00 01 00 00 00 61", "parts of 1 and 1 bytes run past its 9"),
        ("03 01 01 00 ff ff ff ff 61", "parts of 1 and 4294967295 bytes run past its 9"),
        ("04 02 00 00", "a delete_range has unknown flags 0x02"),
        ("04 01 02 00 61", "a delete_range's start of 2 bytes runs past its 5 bytes"),
        ("04 00 01 00 61 62", "a delete_range without an end has 1 bytes behind its start"),
        ("05", "a transaction of 0 bytes does not decode"),
        ("05 93 90 90", "a transaction of 3 bytes does not decode"),
    ],
)
def test_what_is_no_command(command: str, text: str) -> None:
    with pytest.raises(MalformedError, match=text):
        commands.decode_command(bytes.fromhex(command))


@given(
    st.one_of(
        st.binary(max_size=64),
        st.builds(bytes.__add__, st.sampled_from([b"\1", b"\2", b"\3", b"\4"]), st.binary()),
    )
)
def test_any_bytes_are_a_command_or_malformed(data: bytes) -> None:
    try:
        command = commands.decode_command(data)
    except MalformedError:
        return
    if isinstance(command, commands.Put):
        assert commands.encode_put(command.key, command.value, command.want_previous) == data
    elif isinstance(command, commands.Delete):
        assert commands.encode_delete(command.key, command.want_previous) == data
    elif isinstance(command, commands.DeleteRange):
        assert commands.encode_delete_range(command.start, command.end) == data
    elif isinstance(command, commands.CompareAndSwap):
        assert commands.encode_compare_and_swap(command.key, command.expected, command.value) == data


def test_keys_and_values_within_the_limits_pass() -> None:
    commands.check_key(b"")
    commands.check_key(b"k" * 1024)
    commands.check_key(b"k" * 10, max_bytes=10)
    commands.check_value(b"")
    commands.check_value(b"v" * 1024 * 1024)


def test_keys_and_values_beyond_the_limits_are_refused() -> None:
    with pytest.raises(InvalidRequestError, match=r"a key of 1025 bytes .* 1024 \(limits.max_key_bytes\)"):
        commands.check_key(b"k" * 1025)
    with pytest.raises(InvalidRequestError, match=r"a value of 4 bytes .* 3 \(limits.max_value_bytes\)"):
        commands.check_value(b"vvvv", max_bytes=3)


@pytest.mark.parametrize("wrong", ["text", bytearray(b"x"), None, 5])
def test_keys_and_values_are_bytes(wrong: object) -> None:
    with pytest.raises(InvalidRequestError, match=f"a key must be bytes, not {type(wrong).__name__}"):
        commands.check_key(wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidRequestError, match=f"a value must be bytes, not {type(wrong).__name__}"):
        commands.check_value(wrong)  # type: ignore[arg-type]
