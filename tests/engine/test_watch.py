"""Watches through both clients: the same promises in the same process and over the network (docs/design/watches.md)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from d_engine import Client, DeleteRange, EmbeddedEngine, EngineConfig, Event, KeyValue, connect
from d_engine.client.operations import Delete, Put
from d_engine.client.watch import Watch
from d_engine.engine.config_sections import ClusterConfig, LimitsConfig, NodeConfig
from d_engine.format.errors import (
    CompactedError,
    EngineStoppedError,
    ForkedError,
    InvalidRequestError,
    WatchLaggedError,
    WatchLimitError,
)
from tests.runtime.test_fork import in_child


@asynccontextmanager
async def client_of(kind: str, directory: Path, limits: LimitsConfig | None = None) -> AsyncIterator[Client]:
    address = f"unix:{directory}/s"
    config = EngineConfig(
        node=NodeConfig(data_dir=str(directory / "data")),
        cluster=ClusterConfig(client_listen=address),
        limits=limits or LimitsConfig(),
    )
    async with EmbeddedEngine(config=config) as engine:
        if kind == "embedded":
            yield engine.client
        else:
            async with connect(address) as client:
                yield client


both = pytest.mark.parametrize("kind", ["embedded", "remote"])


async def take(watch: Watch, count: int) -> list[Event]:
    found: list[Event] = []
    async for event in watch.events():
        found.append(event)
        if len(found) == count:
            break
    return found


@both
async def test_a_transaction_comes_together_and_each_revision_alone(kind: str, tmp_path: Path) -> None:
    async with client_of(kind, tmp_path) as client, client.watch(prefix="a/", previous=True) as watch:
        await client.put("a/1", "x")
        await client.put("b/1", "x")
        await client.txn(then=[Put("a/2", ""), Delete("a/1"), Put("c", "")])
        first, second = await anext(watch), await anext(watch)
        assert (first.revision, [event.key for event in first.events]) == (1, [b"a/1"])
        assert first.events[0].previous is None
        assert second.revision == 3
        assert [(event.kind, event.key, event.value) for event in second.events] == [
            ("put", b"a/2", b""),
            ("delete", b"a/1", None),
        ]
        assert second.events[1].previous is not None
        assert second.events[1].previous.value == b"x"
        assert watch.revision == 3
        # Nothing that concerns it: the watch is true further on all the same.
        await client.put("b/2", "x")
        assert await watch.progress() == 4 == watch.revision


@both
async def test_since_kinds_ranges_and_marks(kind: str, tmp_path: Path) -> None:
    async with client_of(kind, tmp_path) as client:
        for number in range(4):
            await client.put(f"k{number}", b"%d" % number)
        await client.delete("k1")
        async with client.watch(since=0) as watch:
            assert [event.revision for event in await take(watch, 5)] == [1, 2, 3, 4, 5]
        async with client.watch(start="k1", end="k3", since=1, kinds=["put"]) as watch:
            assert [event.key for event in await take(watch, 2)] == [b"k1", b"k2"]
        async with client.watch("k1", since=1, kinds=["delete"], progress=True) as watch:
            batch = await anext(watch)
            assert [event.cause for event in batch.events] == ["deleted"]
            await client.put("other", "")
            mark = watch.revision
            while mark < 6:
                await watch.progress()
                batch = await anext(watch)
                assert batch.events == ()
                mark = batch.revision


@both
async def test_who_takes_nothing_misses_nothing_while_the_history_lasts(kind: str, tmp_path: Path) -> None:
    async with client_of(kind, tmp_path) as client, client.watch(prefix="k") as watch:
        for _ in range(10):
            await asyncio.gather(*(client.put(f"k{number}", bytes(1000)) for number in range(100)))
        events = await take(watch, 1000)
        assert [event.revision for event in events] == list(range(1, 1001))


@both
async def test_who_is_too_slow_is_told(kind: str, tmp_path: Path) -> None:
    limits = LimitsConfig(watch_history_bytes=100_000)
    async with client_of(kind, tmp_path, limits) as client, client.watch() as watch:
        for _ in range(20):
            await asyncio.gather(*(client.put(f"k{number}", bytes(1000)) for number in range(100)))
        seen = 0

        async def take_all() -> None:
            nonlocal seen
            async for batch in watch:
                assert batch.revision == seen + 1
                seen = batch.revision

        with pytest.raises(WatchLaggedError) as caught:
            await take_all()
        assert caught.value.last_revision == seen < 2000
        with pytest.raises(CompactedError) as compacted:
            await client.watch(since=1).__aenter__()
        assert 1 < compacted.value.oldest <= 2000


@both
async def test_limits_and_misuse_are_typed(kind: str, tmp_path: Path) -> None:
    async with client_of(kind, tmp_path, LimitsConfig(max_watches=1)) as client:
        with pytest.raises(InvalidRequestError, match="of a key, of a prefix, or of a range"):
            client.watch("a", prefix="b")
        with pytest.raises(InvalidRequestError, match="from 0 on"):
            client.watch(since=-1)
        watch = client.watch("a")
        with pytest.raises(InvalidRequestError, match="entered first"):
            await anext(watch)
        async with watch:
            with pytest.raises(InvalidRequestError, match="entered once"):
                await watch.__aenter__()
            with pytest.raises(WatchLimitError, match="max_watches"):
                await client.watch("b").__aenter__()
        with pytest.raises(StopAsyncIteration):
            await anext(watch)
        assert (await client.status()).metrics["watches"] == 0


@both
async def test_cancelled_and_closed_watches_leave_nothing_behind(kind: str, tmp_path: Path) -> None:
    async with client_of(kind, tmp_path) as client:
        entered = asyncio.Event()

        async def wait_for_ever() -> None:
            async with client.watch("never") as watch:
                entered.set()
                await anext(watch)

        task = asyncio.create_task(wait_for_ever())
        await entered.wait()
        assert (await client.status()).metrics["watches"] == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await client.status()).metrics["watches"] == 0
        async with client.watch("a") as watch:
            reader = asyncio.ensure_future(anext(watch, None))
            await asyncio.sleep(0)
            watch.close()
            assert await reader is None


@both
async def test_state_and_then_every_change(kind: str, tmp_path: Path) -> None:
    async with client_of(kind, tmp_path) as client:
        for number in range(5):
            await client.put(f"c/{number}", b"%d" % number)
        await client.put("other", "")
        async with client.snapshot_then_watch("c/") as watch:
            assert [entry.key for entry in watch.items] == [b"c/%d" % number for number in range(5)]
            assert watch.snapshot_revision == 6
            await client.delete("c/0")
            assert [(event.key, event.revision) for event in await take(watch, 1)] == [(b"c/0", 7)]


async def test_an_engine_that_stops_ends_its_watches(tmp_path: Path) -> None:
    async with client_of("embedded", tmp_path) as client:
        watch = await client.watch("a").__aenter__()
    with pytest.raises(EngineStoppedError):
        await anext(watch)


async def test_a_client_that_is_closed_ends_its_watches(tmp_path: Path) -> None:
    async with client_of("remote", tmp_path) as client:
        watch = await client.watch("a").__aenter__()
    with pytest.raises(EngineStoppedError, match="client is closed"):
        await anext(watch)


# --- where it does not belong ----------------------------------------------------------------------------------------


@both
async def test_a_forked_child_is_told_that_the_watch_is_not_its_own(kind: str, tmp_path: Path) -> None:
    async with client_of(kind, tmp_path) as client, client.watch("a") as watch:

        def child() -> None:
            with pytest.raises(ForkedError, match="parent process"):
                anext(watch).send(None)
            with pytest.raises(ForkedError, match="parent process"):
                client.watch("a").__aenter__().send(None)
            with pytest.raises(ForkedError, match="parent process"):
                client.snapshot_then_watch("a").__aenter__().send(None)

        in_child(child)
        await client.put("a", "1")
        assert [event.value for event in await take(watch, 1)] == [b"1"]


@both
async def test_a_watch_belongs_to_the_loop_on_which_it_was_made(kind: str, tmp_path: Path) -> None:
    async with client_of(kind, tmp_path) as client, client.watch("a") as entered:
        others = (client.watch("a").__aenter__, client.snapshot_then_watch("a").__aenter__, entered.__anext__)

        async def elsewhere() -> None:
            for use in others:
                with pytest.raises(InvalidRequestError, match="on the event loop on which it was made"):
                    await use()

        await asyncio.to_thread(asyncio.run, elsewhere())
        await client.put("a", "1")
        assert [event.value for event in await take(entered, 1)] == [b"1"]


async def test_a_watch_whose_loop_is_closed_leaves_nothing_on_the_node(tmp_path: Path) -> None:
    async with client_of("embedded", tmp_path) as client:
        left: list[Watch] = []

        async def elsewhere() -> None:
            left.append(await client.watch("a").__aenter__())

        await asyncio.to_thread(asyncio.run, elsewhere())
        with pytest.raises(InvalidRequestError, match="on the event loop on which it was made"):
            await anext(left[0])
        assert (await client.status()).metrics["watches"] == 1
        # The node finds out when it has something to tell.
        await client.put("a", "1")
        while (await client.status()).metrics["watches"]:
            await asyncio.sleep(0)


@both
async def test_state_of_many_pages_is_one_moment_though_it_changes_meanwhile(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page holds 1,000 entries; behind each of them the state is changed, in front of the reader and behind it."""
    async with client_of(kind, tmp_path) as client:
        await client.write_batch([Put(f"c/{number:05}", "0") for number in range(3500)])
        read: Callable[..., Awaitable[bytes]] = client._ask
        between: list[list[Put | Delete | DeleteRange]] = [
            [Put("c/00000", "behind"), Delete("c/00001"), Put("c/03499", "in front"), Delete("c/03000")],
            [Put("c/00001", "again"), Put("c/01500", "behind"), Put("c/99999", "in front")],
            [DeleteRange(prefix="c/020"), Put("c/00000", "twice"), Delete("c/99999")],
        ]
        changes = iter(between)

        async def ask(*arguments: object) -> bytes:
            answer = await read(*arguments)
            for write in next(changes, ()):
                await client.txn(then=[write])
            return answer

        monkeypatch.setattr(client, "_ask", ask)
        async with client.snapshot_then_watch("c/") as watch:
            monkeypatch.undo()
            assert next(changes, None) is None
            held = {entry.key: entry for entry in watch.items}
            assert [*held] == sorted(held)
            assert watch.snapshot_revision == 3500 + 10
            await client.put("c/after", "x")
            async for batch in watch:
                for event in batch.events:
                    assert event.revision > watch.snapshot_revision
                    held.pop(event.key, None)
                    if event.value is not None:
                        held[event.key] = KeyValue(
                            event.key, event.value, event.create_revision, event.revision, event.version
                        )
                if b"c/after" in held:
                    break
        async with client.snapshot(prefix="c/") as view:
            assert sorted(held.values(), key=lambda entry: entry.key) == [entry async for entry in view]


@both
async def test_events_say_why_and_the_watch_how_far_it_is_true(kind: str, tmp_path: Path) -> None:
    async with client_of(kind, tmp_path) as client, client.watch(prefix="a/", previous=True) as watch:
        lease = await client.grant_lease(60)
        await client.put("a/lease", "1", lease=lease.id)
        await client.put("a/empty", "")
        await client.delete("a/empty")
        await client.revoke_lease(lease.id)
        await client.put("a/ttl", "2", ttl=0.05)
        while await client.get("a/ttl") is not None:
            await asyncio.sleep(0.005)
        # Nothing was taken yet, so nothing is known to be true.
        await watch.progress()
        assert watch.revision == 0
        batches = [await anext(watch) for _ in range(6)]
        told = [(event.kind, event.cause, event.key) for batch in batches for event in batch.events]
        assert told == [
            ("put", "put", b"a/lease"),
            ("put", "put", b"a/empty"),
            ("delete", "deleted", b"a/empty"),
            ("delete", "deleted", b"a/lease"),
            ("put", "put", b"a/ttl"),
            ("delete", "expired", b"a/ttl"),
        ]
        before = [event.previous and event.previous.value for batch in batches for event in batch.events]
        assert before == [None, None, b"", b"1", None, b"2"]
        # What concerns it not moves it, too.
        other = await client.put("elsewhere", "")
        while await watch.progress() < other.revision:
            await asyncio.sleep(0)
        assert watch.revision == other.revision
