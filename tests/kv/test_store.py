"""The store: views, copies on write, and readers on other threads."""

import sys
import threading
from collections.abc import Iterator

import pytest

from d_engine.format.errors import InvariantViolation
from d_engine.kv.key_value import KeyValue
from d_engine.kv.leases import LeaseTable
from d_engine.kv.shards import SHARD_COUNT, Shards
from d_engine.kv.store import Store
from d_engine.kv.successor import Successor


def filled(count: int) -> Store:
    store = Store()
    for number in range(count):
        store.put(b"%d" % number, b"old")
    return store


def test_keys_spread_over_the_shards() -> None:
    shards = Shards()
    for number in range(20 * SHARD_COUNT):
        shards.put(b"%d" % number, b"", 1)
    sizes = [len(shard) for shard in shards._dicts]
    assert (len(sizes), sum(sizes)) == (SHARD_COUNT, 20 * SHARD_COUNT)
    assert max(sizes) < 80


def test_one_write_after_a_view_copies_one_shard() -> None:
    shards = Shards()
    for number in range(5000):
        shards.put(b"%d" % number, b"old", 1)
    frozen = shards.freeze()
    for _ in range(3):
        shards.put(b"7", b"new", 2)
    copied = sum(ours is not theirs for ours, theirs in zip(shards._dicts, frozen._dicts, strict=True))
    assert copied == 1
    assert frozen.get(b"7") == KeyValue(b"7", b"old", 1, 1, 1)


def test_removing_what_is_not_there_copies_nothing() -> None:
    shards = Shards()
    frozen = shards.freeze()
    assert shards.pop(b"none") is None
    assert all(ours is theirs for ours, theirs in zip(shards._dicts, frozen._dicts, strict=True))


def test_views_of_different_moments_do_not_disturb_each_other() -> None:
    store = filled(2000)
    first = store.view()
    store.put(b"1", b"new")
    store.delete(b"2")
    second = store.view()
    store.put(b"1", b"newer")
    store.put(b"2", b"again")
    assert (first.revision, second.revision, store.revision) == (2000, 2002, 2004)
    assert (first.count, second.count, store.count) == (2000, 1999, 2000)
    assert first.get(b"1") == KeyValue(b"1", b"old", 2, 2, 1)
    assert second.get(b"1") == KeyValue(b"1", b"new", 2, 2001, 2)
    assert store.get(b"1") == KeyValue(b"1", b"newer", 2, 2003, 3)
    assert second.get(b"2") is None
    assert b"2" not in [entry.key for entry in second.scan(b"2")]
    assert next(entry.value for entry in store.scan(b"2", b"1")) == b"again"


def test_entries_share_the_key_that_the_store_holds() -> None:
    store = Store()
    first, second = bytes(bytearray(b"key")), bytes(bytearray(b"key"))
    store.put(first, b"1")
    store.put(second, b"2")
    entry = store.get(b"key")
    assert entry is not None
    assert entry.key is first


def test_scan_says_so_if_order_and_entries_differ() -> None:
    store = filled(3)
    store._keys.add(b"ghost")
    with pytest.raises(InvariantViolation, match="ghost"):
        list(store.scan())


def test_epoch_rises_by_two_with_a_replacement() -> None:
    store = filled(10)
    epochs: list[int] = []

    class Watching(list[KeyValue]):
        def __iter__(self) -> Iterator[KeyValue]:
            epochs.append(store.epoch)
            return super().__iter__()

    store.become(50, Successor(Watching([KeyValue(b"a", b"", 50, 50, 1)])), LeaseTable())
    assert set(epochs) == {0}
    assert store.epoch == 2
    assert (store.count, store.revision, store.get(b"1")) == (1, 50, None)
    store.put(b"b", b"")
    assert [entry.key for entry in store.scan()] == [b"a", b"b"]


def test_revision_rises_after_the_entry_is_there() -> None:
    """Too small a gap for the test with threads below to fall into reliably."""
    store = filled(3)
    seen: list[int] = []

    class WatchedShards(Shards):
        def put(
            self, key: bytes, value: bytes, revision: int, lease: int = 0
        ) -> tuple[KeyValue, KeyValue | None]:
            seen.append(store.revision)
            return super().put(key, value, revision, lease)

    store._shards = WatchedShards()
    store.put(b"new", b"")
    assert (seen, store.revision) == ([3], 4)


def test_readers_on_other_threads_see_whole_entries_and_no_step_back() -> None:
    """The owner writes, takes views and replaces everything; readers must see each key's revisions only rise, and a
    write at the latest when they see its revision."""
    store = filled(50)
    stop = threading.Event()
    problems: list[str] = []
    reads = [0, 0]

    def read(reader: int) -> None:
        latest = 0
        while not stop.is_set():
            before = store.revision
            entry = store.get(b"7")
            reads[reader] += 1
            if entry is None or entry.mod_revision < latest or entry.value != b"old%d" % entry.mod_revision:
                problems.append(repr(entry))
                return
            if entry.mod_revision < before:
                problems.append(f"{entry} although revision {before} was seen")
                return
            latest = entry.mod_revision

    store.put(b"7", b"old%d" % (store.revision + 1))
    threads = [threading.Thread(target=read, args=(reader,)) for reader in range(2)]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        for thread in threads:
            thread.start()
        for turn in range(3000):
            store.put(b"7", b"old%d" % (store.revision + 1))
            if turn % 100 == 50:
                view = store.view()
                store.become(view.revision, Successor(list(view.scan())), LeaseTable())
    finally:
        stop.set()
        sys.setswitchinterval(interval)
        for thread in threads:
            thread.join()
    assert problems == []
    assert min(reads) > 0


def test_a_view_is_let_go_a_little_at_a_time() -> None:
    store = Store()
    for number in range(5000):
        store.put(b"%d" % number, b"before")
    view = store.view()
    for number in range(5000):
        store.put(b"%d" % number, b"after")
    steps = sum(1 for _ in view.release())
    assert steps > 1000
    assert store.count == 5000
    entry = store.get(b"7")
    assert entry is not None
    assert entry.value == b"after"
    assert len(list(store.scan())) == 5000
