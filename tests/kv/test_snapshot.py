"""Streams that are cut, foreign, or say what cannot be."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from d_engine.format.errors import SnapshotError, StorageError, UnknownFormatError
from d_engine.kv.snapshot import PIECE_BYTES, SnapshotReader, write_pieces
from d_engine.kv.store import Store

Entry = tuple[int, int, int, int, bytes, bytes]


def stream(
    revision: int,
    *entries: Entry,
    count: int | None = None,
    version: int = 2,
    reserved: int = 0,
    granted: int | None = None,
    leases: tuple[tuple[int, int, int, int], ...] = (),
) -> bytes:
    counts = (len(entries) if count is None else count, len(leases) if granted is None else granted)
    head = struct.pack("<4sHHQQQI", b"DEKV", version, reserved, revision, *counts, len(leases))
    head += b"".join(struct.pack("<QQQB", *lease) for lease in leases)
    return head + b"".join(
        struct.pack("<QQQQHI", *numbers, len(key), len(value)) + key + value
        for *numbers, key, value in entries
    )


def read(data: bytes, step: int = 1 << 30) -> tuple[int, list[Entry]]:
    reader = SnapshotReader()
    entries = []
    for offset in range(0, len(data), step):
        reader.feed(data[offset : offset + step])
        entries += reader.take()
    revision, _ = reader.finish()
    return revision, [
        (entry.create_revision, entry.mod_revision, entry.version, entry.lease, entry.key, entry.value)
        for entry in entries
    ]


SECOND = 1_000_000_000
LEASES = ((3, SECOND, 5 * SECOND, 0), (9, SECOND, 4 * SECOND, 1))
GOOD: tuple[Entry, ...] = ((1, 1, 1, 0, b"", b""), (2, 5, 3, 9, b"a", b"x"), (3, 4, 2, 0, b"ab", b"y" * 100))
PLAIN = (GOOD[0], GOOD[2])


@pytest.mark.parametrize("step", [1, 2, 37, 38, 39, 1000])
def test_stream_may_be_cut_anywhere(step: int) -> None:
    assert read(stream(5, *GOOD, granted=12, leases=LEASES), step) == (5, list(GOOD))


def test_every_cut_off_stream_is_refused() -> None:
    whole = stream(5, *GOOD, granted=12, leases=LEASES)
    for size in range(len(whole)):
        with pytest.raises(SnapshotError, match="ends after"):
            read(whole[:size])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"XXXX" + stream(5)[4:], "it begins with b'XXXX'"),
        (stream(5, reserved=1), "reserved: 1"),
        (stream(2**63), "at revision 9223372036854775808"),
        (stream(0, count=6), "claims 6 entries at revision 0"),
        (stream(5, *PLAIN, count=1), "after 1 of 1 entries with 140 bytes left over"),
        (stream(5, *PLAIN) + b"x", "with 1 bytes left over"),
        (stream(5, PLAIN[1], PLAIN[0]), "b'' does not stand behind b'ab'"),
        (stream(5, PLAIN[1], PLAIN[1]), "b'ab' does not stand behind b'ab'"),
        (stream(5, (0, 1, 1, 0, b"", b"")), "revisions 0 and 1"),
        (stream(5, (2, 1, 1, 0, b"", b"")), "revisions 2 and 1"),
        (stream(5, (1, 6, 1, 0, b"", b"")), "in a section of revision 5"),
        (stream(5, (1, 1, 0, 0, b"", b"")), "version 0"),
        (stream(5, (2, 4, 4, 0, b"", b"")), "version 4"),
        (stream(5, (1, 1, 1, 2**63, b"", b"")), "lease 9223372036854775808"),
        (stream(5, *GOOD), "version 3, lease 9"),
        (stream(5, *PLAIN, leases=LEASES, granted=12), "a key's own lease without the key"),
        (stream(5, leases=LEASES), "lease 3 .kind 0. stands behind lease 0"),
        (stream(5, leases=LEASES[::-1], granted=12), "lease 3 .kind 0. stands behind lease 9"),
        (stream(5, leases=LEASES, granted=1), "claims 2 leases of 1 ever granted"),
        (stream(5, leases=((1, SECOND, SECOND, 2),)), "lease 1 .kind 2."),
        (stream(5, leases=((1, 1, SECOND, 0),)), "lease 1 has a TTL of 1 and"),
        (stream(5, leases=((1, SECOND, SECOND - 1, 0),)), "ends at 999999999"),
        (
            stream(5, count=1) + struct.pack("<QQQQHI", 1, 1, 1, 0, 0, 2**32 - 1),
            "claims a value of 4294967295",
        ),
    ],
)
def test_wrong_streams(data: bytes, text: str) -> None:
    with pytest.raises(SnapshotError, match=text):
        read(data)


def test_unknown_version_is_refused_by_name() -> None:
    with pytest.raises(UnknownFormatError, match="version 1; this release knows 2"):
        read(stream(5, version=1))


@given(st.binary(max_size=100), st.booleans(), st.integers(1, 100))
def test_any_bytes_are_a_stream_or_refused(data: bytes, with_header: bool, step: int) -> None:
    try:
        read(stream(2**62, count=1) + data if with_header else data, step)
    except StorageError:
        return


def test_pieces_are_of_one_size_and_large_values_are_cut() -> None:
    store = Store()
    store.put(b"large", bytes(5 * PIECE_BYTES))
    store.put(b"small", b"")
    pieces = list(write_pieces(store))
    assert {len(piece) for piece in pieces[:-1]} == {PIECE_BYTES}
    assert 0 < len(pieces[-1]) < PIECE_BYTES
    assert read(b"".join(pieces), PIECE_BYTES)[0] == 2


def test_empty_store() -> None:
    assert b"".join(write_pieces(Store())) == stream(0)
    assert read(stream(0)) == (0, [])


def test_a_transaction_leaves_more_keys_than_revisions() -> None:
    both = ((1, 1, 1, 0, b"a", b""), (1, 1, 1, 0, b"b", b""))
    assert read(stream(1, *both)) == (1, list(both))
