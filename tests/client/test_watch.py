"""A remote watch goes on over broken connections and other nodes (docs/design/watches.md, "Clients")."""

import asyncio

import pytest

from d_engine.client.remote import connect
from d_engine.format.errors import CompactedError
from d_engine.kv.key_value import KeyValue
from tests.client.fake_cluster import start_nodes, until


async def test_a_watch_survives_its_connection() -> None:
    (node,) = await start_nodes(1)
    async with connect(node.address) as client, client.watch(prefix="k") as watch:
        for number in range(5):
            await client.put(f"k{number}", "")
            assert (await anext(watch)).revision == number + 1
            node.drop()
            # What is written while nobody listens comes when there is a connection again.
            await client.put(f"k{number}", "again") if number % 2 else None
            if number % 2:
                assert (await anext(watch)).revision == number + 2
                break
    node.stop()


async def test_what_one_node_has_let_go_another_may_have() -> None:
    node, other = await start_nodes(2)
    async with connect([node.address, other.address]) as client:
        await client.put("a", "1")
        await client.put("a", "2")
        # Node 1 was started anew, say: what happened before is not known to it.
        machine = node.state.machine
        node.watches.__init__(node.watches.settings, type(machine)(), lambda: 0, node.wake)  # type: ignore[misc]
        history = node.watches._history
        assert history is not None
        history.reset(2)
        async with asyncio.timeout(5), client.watch("a", since=0) as watch:
            assert (await anext(watch)).revision == 1
            assert (await anext(watch)).revision == 2
        other.stop()
        other.drop()
        with pytest.raises(CompactedError) as caught:
            await client.watch("a", since=0, timeout=0.5).__aenter__()
        assert caught.value.oldest == 2
    node.stop()


async def test_who_is_left_behind_by_a_snapshot_goes_on_where_its_events_are() -> None:
    node, other = await start_nodes(2)
    async with connect([node.address, other.address]) as client:
        # Node 1 hears nothing from the others any more, and then gets a snapshot under the watch that it serves.
        node.watches.__init__(  # type: ignore[misc]
            node.watches.settings, type(node.state.machine)(), lambda: 0, node.wake
        )
        async with asyncio.timeout(5), client.watch("a", timeout=0.5) as watch:
            await client.put("a", "1")
            await client.put("a", "2")
            history = node.watches._history
            assert history is not None
            history.reset(2)
            node.wake()
            assert (await anext(watch)).revision == 1
            assert (await anext(watch)).revision == 2
            # Where nobody has them any more, the watch ends, once.
            other.stop()
            other.drop()
            await client.put("a", "3")
            history.reset(3)
            node.wake()
            with pytest.raises(CompactedError) as caught:
                await anext(watch)
            assert caught.value.oldest == 3
    node.stop()


async def test_a_watch_that_is_closed_while_it_is_entered_ends() -> None:
    (node,) = await start_nodes(1)
    async with connect(node.address) as client, asyncio.timeout(5):
        await client.put("k", "1")
        watch = client.snapshot_then_watch("k")
        entering = asyncio.ensure_future(watch.__aenter__())
        await asyncio.sleep(0)
        watch.close()
        await entering
        await client.put("k", "2")
        assert [batch async for batch in watch] == []
        assert not node.watches.watchers.count
        # While pages of different revisions are made one, of which the last is not here yet.
        watch = client.snapshot_then_watch("k")
        read = watch._read

        async def later() -> tuple[int, int, list[KeyValue]]:
            first, last, items = await read()
            return first, last + 1, items

        watch._read = later
        entering = asyncio.ensure_future(watch.__aenter__())
        await asyncio.sleep(0.2)
        watch.close()
        await entering
        assert not watch.items
    node.stop()


async def test_a_client_that_is_closed_while_others_are_asked_for_what_is_gone_asks_nobody_any_more() -> None:
    nodes = await start_nodes(3)
    client = await connect([node.address for node in nodes])
    await client.put("a", "1")
    history = nodes[0].watches._history
    assert history is not None
    history.reset(2)
    for other in nodes[1:]:
        other.silent = True
    watch = client.watch("a", since=0)
    entering = asyncio.create_task(watch.__aenter__())
    async with asyncio.timeout(5):
        await until(lambda: any(node.connections for node in nodes[1:]))
        await client.close()
        with pytest.raises(CompactedError):
            await entering
    for node in nodes:
        node.stop()
