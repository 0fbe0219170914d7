"""No bytes make a decoder raise anything but its typed errors, or take memory that they did not bring along."""

import struct
import tracemalloc
from collections.abc import Callable

import crc32c
import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from d_engine.format.configuration import (
    Configuration,
    Member,
    decode_configuration,
    encode_configuration,
    validate_configuration,
)
from d_engine.format.entry import ENTRY_HEADER_BYTES, Entry, EntryKind, encoded_size
from d_engine.format.errors import MalformedError, ProtocolError, UnsupportedVersionError
from d_engine.format.frames import FrameKind, decode_frame, encode_frame, frame_size
from d_engine.format.group import decode_group, decode_groups, encode_group, peek_group
from d_engine.format.hello import Channel, Hello, decode_greeting, encode_greeting
from d_engine.format.ids import MAX_LOG_INDEX, MAX_TERM
from d_engine.format.limits import (
    MAX_BATCH_ITEMS,
    MAX_ENTRY_BYTES,
    MAX_FRAME_BYTES,
    MAX_GROUP_BYTES,
    MAX_MEMBERS,
)
from d_engine.format.messages import AppendRequest, Forward, Heartbeat, decode_message, encode_message
from d_engine.format.requests import decode_request, decode_response, encode_request, encode_response
from tests.format import samples

Decode = Callable[[bytes], object]


def whole_frame(data: bytes) -> object:
    size = frame_size(data)
    return decode_frame(data[:size]) if size is not None and size <= len(data) else None


def message_with_tail(data: bytes) -> object:
    return decode_message(data[: len(data) // 2], data[len(data) // 2 :])


DECODERS: dict[str, Decode] = {
    "frame": whole_frame,
    "greeting": decode_greeting,
    "message": decode_message,
    "message and tail": message_with_tail,
    "configuration": decode_configuration,
    "entry": Entry.decode,
    "size of an entry": encoded_size,
    "group": decode_group,
    "begin of a group": peek_group,
    "groups": lambda data: list(decode_groups(data, 3)),
    "request": decode_request,
    "response": decode_response,
}
every_decoder = pytest.mark.parametrize("decode", DECODERS.values(), ids=DECODERS)

VALID = st.one_of(
    samples.greetings.map(encode_greeting),
    samples.messages.map(lambda message: b"".join((encode_message(message)[0], *encode_message(message)[1]))),
    samples.configurations().map(encode_configuration),
    samples.entries().map(lambda entry: entry.data),
    samples.groups,
    samples.requests.map(encode_request),
    samples.responses.map(encode_response),
    samples.messages.map(lambda message: b"".join(encode_frame(FrameKind.PEER, *encode_message(message)))),
)


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Something valid with a part replaced, cut off or put in between."""
    data = draw(VALID)
    begin = draw(st.integers(0, len(data)))
    between = draw(st.binary(max_size=8))
    end = draw(st.integers(begin, min(len(data), begin + 8)))
    return bytes(data[:begin] + between + data[end:])


def survives(decode: Decode, data: bytes) -> None:
    try:
        decode(data)
    except (MalformedError, UnsupportedVersionError):
        return


@every_decoder
@settings(deadline=None)
@given(st.one_of(st.binary(max_size=200), damaged()))
@example(b"\x93\x02\xa1\xff\xa1\xff")
@example(b"\x91" * 10_000)
@example(b"\x94\x05\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01\x01\x01")
def test_any_bytes(decode: Decode, data: bytes) -> None:
    survives(decode, data)


HUGE = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x10\x00\x00\x00"]
CLAIMS = [
    prefix + marker + size
    for prefix in (
        b"",
        b"\x92\x20",
        b"\x92\x20\x91",
        b"\x93\x02",
        b"\x93\x01",
        b"\x98\x01",
        b"\x95\x03\x01\x01\x00",
    )
    for marker in (b"\xc6", b"\xc9", b"\xdb", b"\xdd", b"\xdf")
    for size in HUGE
] + [
    struct.pack("<HBBII", 0xDE51, 1, 2, 2**32 - 1, 0) + bytes(4),
    struct.pack("<BBHIQQQI", 1, 1, 0, 2**32 - 1, 1, 1, 1, 2**32 - 1) + bytes(4),
    struct.pack("<QQQII", 1, 1, 0, 2**32 - 1, 2**32 - 1),
    struct.pack("<QQQII", 1, 1, 0, 1, 4) + b"\xff\xff\xff\xff",
]


@every_decoder
def test_a_claimed_length_takes_no_memory(decode: Decode) -> None:
    survives(decode, bytes(100))
    tracemalloc.start()
    for claim in CLAIMS:
        survives(decode, claim + bytes(50))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200_000


# --- each rule, once -------------------------------------------------------------------------------------------------


def refused(decode: Decode, data: bytes, text: str) -> None:
    with pytest.raises(MalformedError, match=text):
        decode(data)


def entry_with(**changes: int) -> bytes:
    fields = {"version": 1, "kind": 1, "reserved": 0, "count": 0, "term": 1, "index": 1, "time": 0} | changes
    header = struct.pack("<BBHIQQQI", *fields.values(), 0)
    return header + struct.pack("<I", crc32c.crc32c(header))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"version": 2}, "version 2"),
        ({"kind": 9}, "kind 9"),
        ({"reserved": 1}, "kind"),
        ({"term": 0}, "out of range"),
        ({"term": MAX_TERM + 1}, "out of range"),
        ({"term": 2**64 - 1}, "out of range"),
        ({"index": 0}, "out of range"),
        ({"index": MAX_LOG_INDEX + 1}, "out of range"),
        ({"time": 2**63}, "out of range"),
    ],
)
def test_entry_with_a_good_checksum_and_bad_fields(changes: dict[str, int], text: str) -> None:
    assert Entry.decode(entry_with()).index == 1
    refused(Entry.decode, entry_with(**changes), text)


def test_every_bit_of_an_entry_counts() -> None:
    data = Entry.create(EntryKind.COMMANDS, 3, 7, 9, (b"payload",), 1).data
    for bit in range(len(data) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        with pytest.raises(MalformedError):
            Entry.decode(bytes(flipped))


def test_entry_that_is_cut_off_or_too_long() -> None:
    data = Entry.create(EntryKind.NOOP, 1, 1, 0, (b"1234",)).data
    for length in range(len(data)):
        refused(Entry.decode, data[:length], "cut off|has only")
    long = struct.pack("<BBHIQQQI", 1, 1, 0, 0, 1, 1, 0, MAX_ENTRY_BYTES + 1) + bytes(ENTRY_HEADER_BYTES)
    refused(Entry.decode, long, "limit")


@pytest.mark.parametrize(
    ("header", "text"),
    [
        ((2**63, 1, 0, 0, 0), "out of range"),
        ((1, 2**63, 0, 0, 0), "out of range"),
        ((1, 1, 2, 0, 0), "out of range"),
        ((1, 0, 0, 0, 0), "cannot hold"),
        ((0, 1, 0, 1, 4), "cannot hold"),
        ((1, 1, 0, 2, 4), "cannot hold"),
        ((1, 1, 0, 0, MAX_GROUP_BYTES + 1), "limit"),
        ((1, 1, 0, 0, 100), "cut off"),
        ((1, 1, 0, 0, 4), "end at 0"),
    ],
)
def test_group_with_bad_fields(header: tuple[int, int, int, int, int], text: str) -> None:
    refused(decode_group, struct.pack("<QQQII", *header) + bytes(4), text)


def test_group_whose_commands_do_not_fit() -> None:
    data = encode_group(1, 1, 0, [b"abc", b"de"])
    for length in range(len(data)):
        refused(decode_group, data[:length], "cut off")
    refused(decode_group, data.replace(b"\x03\0\0\0abc", b"\x04\0\0\0abc"), "past its end|end at")
    refused(decode_group, data.replace(b"\x02\0\0\0de", b"\x03\0\0\0de"), "end at")
    refused(lambda payload: list(decode_groups(payload, 1)), data + b"?", "groups end at")
    refused(lambda payload: list(decode_groups(payload, 2)), data, "cut off")


def frame_with(**changes: int) -> bytes:
    fields = {"magic": 0xDE51, "version": 1, "kind": 2, "length": 4, "head": 4} | changes
    return struct.pack("<HBBII", *fields.values()) + bytes(8)


@pytest.mark.parametrize(
    "changes",
    [
        {"magic": 0xDE50},
        {"kind": 0},
        {"kind": 5},
        {"length": MAX_FRAME_BYTES + 1},
        {"length": 2**32 - 1},
        {"head": 5},
        {"head": 2**32 - 1},
    ],
)
def test_frame_with_bad_header(changes: dict[str, int]) -> None:
    with pytest.raises(MalformedError):
        frame_size(frame_with(**changes))


def test_frame_of_another_version() -> None:
    with pytest.raises(UnsupportedVersionError, match="version 2, this one 1"):
        frame_size(frame_with(version=2))
    assert issubclass(UnsupportedVersionError, ProtocolError)


def test_frame_within_its_own_limit() -> None:
    assert frame_size(frame_with(length=100), limit=100) == 116
    with pytest.raises(MalformedError, match="limit is 99"):
        frame_size(frame_with(length=100), limit=99)


def test_every_bit_of_a_frames_head_counts() -> None:
    data = b"".join(encode_frame(FrameKind.PEER, b"head", [b"tail"]))
    for bit in range((len(data) - 4) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        try:
            frame = whole_frame(bytes(flipped))
        except ProtocolError:
            continue
        assert frame is None  # it claims to be longer, and is waited for
        with pytest.raises(ProtocolError):
            whole_frame(bytes(flipped).ljust(MAX_FRAME_BYTES + 16, b"\0"))


@pytest.mark.parametrize(
    ("configuration", "text"),
    [
        (Configuration(1, (), ()), "no voters"),
        (Configuration(1, (Member(1),), ()), "no voters"),
        (Configuration(1, (Member(0),), (0,)), "rising ids"),
        (Configuration(1, (Member(2), Member(1)), (1, 2)), "rising ids"),
        (Configuration(1, (Member(1), Member(1)), (1,)), "rising ids"),
        (Configuration(1, tuple(Member(n) for n in range(1, MAX_MEMBERS + 2)), (1,)), "up to 64"),
        (Configuration(1, (Member(1, "x" * 256),), (1,)), "address"),
        (Configuration(1, (Member(1),), (1, 2)), "members of"),
        (Configuration(1, (Member(1), Member(2)), (2, 1)), "rising members"),
        (Configuration(1, (Member(1), Member(2)), (1,)), "neither voter nor learner"),
        (Configuration(1, (Member(1), Member(2)), (1, 2), learners=(2,)), "voter too"),
        (Configuration(1, (Member(1), Member(2)), (1, 2), learners_next=(2,)), "outgoing voter"),
        (Configuration(1, (Member(1), Member(2)), (1, 2), (2,), learners_next=(2,)), "incoming voter"),
        (Configuration(1, (Member(1),), (1,), read_only=(3,)), "members of"),
        (Configuration(1, (Member(1),), (1,), demoted=(3,)), "members of"),
        (Configuration(1, (Member(1),), (1,), demoted=(1,)), "only learners"),
    ],
)
def test_configuration_whose_parts_do_not_fit(configuration: Configuration, text: str) -> None:
    with pytest.raises(MalformedError, match=text):
        validate_configuration(configuration)
    refused(decode_configuration, encode_configuration(configuration), text)


def append(*entries: Entry, term: int = 5, prev_index: int = 0, prev_term: int = 0) -> bytes:
    head, tail = encode_message(AppendRequest(term, prev_index, prev_term, 0, entries))
    return b"".join((struct.pack("<I", len(head)), head, *tail))


def decode_append(data: bytes) -> object:
    (length,) = struct.unpack_from("<I", data)
    return decode_message(data[4 : 4 + length], data[4 + length :])


def entry(index: int, term: int) -> Entry:
    return Entry.create(EntryKind.NOOP, term, index, 0)


@pytest.mark.parametrize(
    "data",
    [
        append(entry(2, 1)),
        append(entry(1, 1), entry(3, 1)),
        append(entry(1, 3), entry(2, 2)),
        append(entry(1, 6)),
        append(entry(8, 1), prev_index=7, prev_term=2),
        append(entry(1, 1)) + b"?",
        append(entry(1, 1), entry(2, 1))[:-1],
        append(entry(1, 1), entry(2, 1))[:-40],
    ],
)
def test_append_whose_entries_do_not_follow(data: bytes) -> None:
    with pytest.raises(MalformedError):
        decode_append(data)


def test_nothing_may_stand_behind_other_messages() -> None:
    head, _ = encode_message(Heartbeat(1, 1, 1, 1))
    with pytest.raises(MalformedError, match="behind it"):
        decode_message(head, b"x")


def test_a_batch_has_a_limit() -> None:
    head, _ = encode_message(Forward((b"",) * MAX_BATCH_ITEMS))
    assert decode_message(head) == Forward((b"",) * MAX_BATCH_ITEMS)
    head, _ = encode_message(Forward((b"",) * (MAX_BATCH_ITEMS + 1)))
    refused(decode_message, head, "length")


@pytest.mark.parametrize("field", range(1, 5))
def test_numbers_of_a_hello_have_bounds(field: int) -> None:
    good: list[object] = [1, int(Channel.DATA), 1, 1, 1, "address"]
    assert decode_greeting(msgspec.msgpack.encode(good)) == Hello(Channel.DATA, 1, 1, 1, "address")
    for bad in (-1, 2**64 - 1, 1.5, float("nan"), "1", None, [1]):
        refused(
            decode_greeting,
            msgspec.msgpack.encode([*good[:field], bad, *good[field + 1 :]]),
            "does not decode",
        )


def test_more_fields_than_known_are_refused() -> None:
    refused(decode_greeting, msgspec.msgpack.encode([1, 2, 1, 1, 1, "", 0]), "does not decode")
