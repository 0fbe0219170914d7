"""Keys in order: chunks stay within bounds, and frozen ones never change."""

import random
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from d_engine.kv.ordered import CHUNK_LIMIT, PENDING_LIMIT, OrderedKeys

COUNT = 5000
NUMBERS = [b"%05d" % number for number in range(COUNT)]


def shuffled(keys: list[bytes]) -> list[bytes]:
    return random.Random(1).sample(keys, len(keys))


def check_chunks(keys: OrderedKeys) -> None:
    chunks, starts = keys._chunks, keys._starts
    assert len(chunks) == len(starts) == len(keys._shared)
    assert starts[0] == b""
    for at, chunk in enumerate(chunks):
        assert len(chunk) <= CHUNK_LIMIT
        assert chunk == sorted(chunk)
        end = starts[at + 1] if at + 1 < len(starts) else None
        assert all(starts[at] <= key and (end is None or key < end) for key in chunk)


@pytest.mark.parametrize(
    "order", [NUMBERS, NUMBERS[::-1], shuffled(NUMBERS)], ids=["rising", "falling", "random"]
)
def test_keys_come_out_in_order_whatever_way_they_came(order: list[bytes]) -> None:
    keys = OrderedKeys()
    for key in order:
        keys.add(key)
    assert keys.count == COUNT
    assert list(keys.from_key(b"")) == NUMBERS
    check_chunks(keys)
    assert len(keys._chunks) <= 3 * COUNT // CHUNK_LIMIT


@pytest.mark.parametrize(
    "order", [NUMBERS, NUMBERS[::-1], shuffled(NUMBERS)], ids=["rising", "falling", "random"]
)
def test_chunks_are_joined_when_keys_go(order: list[bytes]) -> None:
    keys = OrderedKeys(NUMBERS)
    for done, key in enumerate(order, 1):
        keys.discard(key)
        if done % 500 == 0:
            keys.settle()
            check_chunks(keys)
            small = [len(chunk) <= CHUNK_LIMIT // 4 for chunk in keys._chunks]
            assert not any(left and right for left, right in pairwise(small))
    assert list(keys.from_key(b"")) == []
    assert keys._chunks == [[]]


def test_a_queue_of_keys_does_not_grow() -> None:
    keys = OrderedKeys()
    for number in range(30_000):
        keys.add(b"%08d" % number)
        if number >= 100:
            keys.discard(b"%08d" % (number - 100))
    assert keys.count == 100
    assert len(keys._chunks) <= 4


def test_changes_wait_until_there_are_many_or_somebody_looks() -> None:
    keys = OrderedKeys()
    for key in NUMBERS[: PENDING_LIMIT - 1]:
        keys.add(key)
    assert keys._chunks == [[]]
    keys.add(NUMBERS[PENDING_LIMIT])
    assert sum(map(len, keys._chunks)) == PENDING_LIMIT
    keys.discard(NUMBERS[0])
    assert keys._chunks[0][0] == NUMBERS[0]
    assert next(keys.from_key(b"")) == NUMBERS[1]


def test_a_key_that_comes_and_goes_leaves_nothing_behind() -> None:
    keys = OrderedKeys(NUMBERS[:10])
    keys.add(b"x")
    keys.discard(b"x")
    keys.discard(NUMBERS[3])
    keys.add(NUMBERS[3])
    assert (len(keys._added), len(keys._discarded), keys.count) == (0, 0, 10)


def test_frozen_keys_stay_and_only_changed_chunks_are_copied() -> None:
    keys = OrderedKeys(NUMBERS)
    frozen = keys.freeze()
    keys.discard(NUMBERS[0])
    keys.add(b"00000x")
    keys.settle()
    assert list(frozen.from_key(b"")) == NUMBERS
    assert list(keys.from_key(b"")) == [b"00000x", *NUMBERS[1:]]
    shared = [ours is theirs for ours, theirs in zip(keys._chunks, frozen._chunks, strict=True)]
    assert shared == [False] + [True] * (len(shared) - 1)


@given(st.sets(st.binary(max_size=3)), st.binary(max_size=3))
def test_walk_starts_at_the_key_or_behind_it(present: set[bytes], start: bytes) -> None:
    expected = [key for key in sorted(present) if key >= start]
    keys = OrderedKeys(sorted(present))
    assert list(keys.from_key(start)) == list(keys.freeze().from_key(start)) == expected


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 3000), st.one_of(st.none(), st.integers(0, 3000))), max_size=6),
    st.integers(0, 2000),
)
def test_ranges_are_discarded_whole(ranges: list[tuple[int, int | None]], more: int) -> None:
    expected = [b"%04d" % number for number in range(3000)]
    keys = OrderedKeys(expected)
    frozen = keys.freeze()
    for first, last in ranges:
        start, end = b"%04d" % first, None if last is None else b"%04d" % last
        gone = [key for key in expected if start <= key and (end is None or key < end)]
        assert keys.discard_range(start, end) == gone
        expected = [key for key in expected if key not in set(gone)]
        check_chunks(keys)
        assert list(keys.from_key(b"")) == expected
        assert keys.count == len(expected)
        fresh = b"%04d" % more
        if fresh not in expected:
            keys.add(fresh)
            expected = sorted([*expected, fresh])
        assert list(keys.before_key(None)) == expected[::-1]
        assert keys.count_range(b"1", b"2") == sum(b"1" <= key < b"2" for key in expected)
    assert list(frozen.from_key(b"")) == [b"%04d" % number for number in range(3000)]


def test_discarding_leaves_no_small_chunks_side_by_side() -> None:
    keys = OrderedKeys(b"%05d" % number for number in range(20_000))
    for first in range(0, 20_000, 500):
        keys.discard_range(b"%05d" % first, b"%05d" % (first + 490))
    sizes = [len(chunk) for chunk in keys._chunks]
    assert all(left + right > CHUNK_LIMIT // 4 for left, right in pairwise(sizes))
    keys.discard_range(b"", None)
    assert (keys._chunks, keys._starts, keys.count) == ([[]], [b""], 0)
