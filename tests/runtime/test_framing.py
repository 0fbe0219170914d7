"""Frames are cut out of a stream the same way, however it is split, and nothing is believed before it has come."""

import struct
import tracemalloc
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d_engine.format.errors import MalformedError, ProtocolError, UnsupportedVersionError
from d_engine.format.frames import FRAME_HEADER_BYTES, Frame, FrameKind, encode_frame
from d_engine.format.limits import MAX_FRAME_BYTES
from d_engine.runtime.framing import SHARED_BUFFER_BYTES, FrameReader

Plain = tuple[FrameKind, bytes, bytes]


def encoded(kind: FrameKind, head: bytes, tail: bytes = b"") -> bytes:
    return b"".join(encode_frame(kind, head, [tail] if tail else []))


def header(magic: int = 0xDE51, version: int = 1, kind: int = 2, length: int = 0, head: int = 0) -> bytes:
    return struct.pack("<HBBII", magic, version, kind, length, head) + bytes(4)


def plain(frames: list[Frame]) -> list[Plain]:
    return [(frame.kind, bytes(frame.head), bytes(frame.tail)) for frame in frames]


def feed(reader: FrameReader, data: bytes) -> list[Plain]:
    """One read, or as many as the buffer makes of it."""
    found: list[Plain] = []
    while data:
        buffer = reader.buffer()
        count = min(len(buffer), len(data))
        assert count
        buffer[:count] = data[:count]
        data = data[count:]
        reader.received(count)
        while frames := reader.take():
            found += plain(frames)
        reader.settle()
    return found


FRAMES = st.lists(
    st.tuples(
        st.sampled_from(FrameKind),
        st.binary(max_size=200),
        st.one_of(st.binary(max_size=50), st.integers(0, 700_000).map(bytes)),
    ),
    max_size=6,
)


@settings(deadline=None, max_examples=150)
@given(FRAMES, st.lists(st.integers(0, 10_000_000), max_size=12))
def test_any_split_gives_the_same_frames(frames: list[Plain], cuts: list[int]) -> None:
    stream = b"".join(encoded(*frame) for frame in frames)
    places = sorted({0, len(stream), *(cut % (len(stream) + 1) for cut in cuts)})
    reader = FrameReader(MAX_FRAME_BYTES)
    found: list[Plain] = []
    for begin, end in pairwise(places):
        found += feed(reader, stream[begin:end])
    assert found == frames
    assert reader.pending == 0
    assert reader.total == len(stream)


def test_byte_by_byte() -> None:
    reader = FrameReader(100)
    stream = encoded(FrameKind.HELLO, b"abc") + encoded(FrameKind.PEER, b"", b"tail")
    found = [
        frame for position in range(len(stream)) for frame in feed(reader, stream[position : position + 1])
    ]
    assert found == [(FrameKind.HELLO, b"abc", b""), (FrameKind.PEER, b"", b"tail")]


def test_readers_of_one_thread_share_a_buffer_without_mixing() -> None:
    first, second = FrameReader(MAX_FRAME_BYTES), FrameReader(MAX_FRAME_BYTES)
    one, two = encoded(FrameKind.PEER, b"1" * 1000), encoded(FrameKind.PEER, b"2" * 400_000)
    for number in range(0, len(one), 100):
        assert feed(first, one[number : number + 100]) or number < len(one) - 100
        step = len(two) // 11 + 1
        begin = number // 100 * step
        assert feed(second, two[begin : begin + step]) or begin + step < len(two)
    assert first.pending == second.pending == 0


@pytest.mark.parametrize(
    "bad",
    [
        header(magic=0x5544),
        b"GET / HTTP/1.1\r\n\r\n",
        bytes(32),
        b"\xff" * 32,
        header(version=2),
        header(kind=0),
        header(kind=200),
        header(length=2**31),
        header(length=2**32 - 1),
        header(length=MAX_FRAME_BYTES + 1),
        header(length=10, head=11),
        header(length=10, head=10) + bytes(10),
    ],
    ids=lambda bad: bad[:12].hex(),
)
def test_bad_frame_is_refused_after_the_good_ones(bad: bytes) -> None:
    reader = FrameReader(MAX_FRAME_BYTES)
    good = encoded(FrameKind.PEER, b"good")
    data = good + bad + good
    buffer = reader.buffer()
    buffer[: len(data)] = data
    reader.received(len(data))
    assert plain(reader.take()) == [(FrameKind.PEER, b"good", b"")]
    with pytest.raises(UnsupportedVersionError if bad == header(version=2) else MalformedError):
        reader.take()


def test_limit_holds_for_each_frame_and_may_rise() -> None:
    reader = FrameReader(10)
    buffer = reader.buffer()
    data = encoded(FrameKind.HELLO, b"0123456789") + encoded(FrameKind.PEER, b"0123456789a")
    buffer[: len(data)] = data
    reader.received(len(data))
    assert plain(reader.take(only_one=True)) == [(FrameKind.HELLO, b"0123456789", b"")]
    with pytest.raises(MalformedError, match="limit is 10"):
        reader.take(only_one=True)
    reader.limit = 11
    assert plain(reader.take(only_one=True)) == [(FrameKind.PEER, b"0123456789a", b"")]


def test_a_claimed_length_costs_nothing() -> None:
    FrameReader(MAX_FRAME_BYTES)
    tracemalloc.start()
    readers = [FrameReader(MAX_FRAME_BYTES) for _ in range(20)]
    for reader in readers:
        assert feed(reader, header(length=MAX_FRAME_BYTES) + bytes(1000)) == []
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(readers) * 3 * SHARED_BUFFER_BYTES


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(0, 60), st.binary(max_size=3))
def test_garbage_ends_in_a_typed_error_or_waits(garbage: bytes, place: int, flip: bytes) -> None:
    stream = bytearray(encoded(FrameKind.PEER, b"head", b"tail") * 2 + garbage)
    stream[place : place + len(flip)] = flip
    reader = FrameReader(1000)
    try:
        feed(reader, bytes(stream))
    except ProtocolError:
        return
    assert reader.pending <= FRAME_HEADER_BYTES + 1000
