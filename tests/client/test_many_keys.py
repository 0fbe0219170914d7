"""Transactions, ranges and batches over a connection. (What they do is tested with an engine in `tests/engine`.)"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import pytest
from msgspec import msgpack

from d_engine import Client, Compare, Count, Delete, DeleteRange, DeleteRangeResult, Get, Put, WriteResult
from d_engine.client.pager import RangePager
from d_engine.client.remote import connect
from d_engine.format.errors import InvalidRequestError, MalformedError, OutcomeUnknownError
from d_engine.kv.queries import Scan
from d_engine.runtime.thread import new_loop
from tests.client.fake_cluster import FakeNode, start_nodes, until


def with_nodes(count: int, test: Callable[[Client, Sequence[FakeNode]], Awaitable[None]]) -> None:
    async def run() -> None:
        nodes = await start_nodes(count)
        try:
            async with connect(",".join(node.address for node in nodes), request_timeout=5.0) as client:
                await test(client, nodes)
        finally:
            for node in nodes:
                node.stop()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(run())


def test_everything_that_the_interface_offers() -> None:
    async def test(client: Client, nodes: Sequence[FakeNode]) -> None:
        assert await client.write_batch([Put("a/1", "x"), Put("a/2", "y")]) == [
            WriteResult(1),
            WriteResult(2),
        ]
        result = await client.txn(
            when=[Compare.exists("a/1")], then=[Put("b", "z"), Delete("a/1"), Get("a/2"), Get("a/1")]
        )
        assert (result.succeeded, result.revision, result.results[3]) == (True, 3, None)
        assert await client.count() == Count(3, 2)
        assert [[entry.key for entry in page.items] async for page in client.range(limit=1)] == [
            [b"a/2"],
            [b"b"],
        ]
        assert await client.delete_prefix("a/") == DeleteRangeResult(4, 1)
        assert await client.delete_range("b", "c") == DeleteRangeResult(5, 1)
        with pytest.raises(InvalidRequestError, match="twice"):
            await client.txn(then=[Put("a", ""), Put("a", "")])
        with pytest.raises(InvalidRequestError, match="not by both"):
            await client.count(start="a", prefix="a")

    with_nodes(1, test)


def test_a_batch_travels_together() -> None:
    async def test(client: Client, nodes: Sequence[FakeNode]) -> None:
        await client.put("first", "")
        before = nodes[0].state.groups
        await client.write_batch([Put(f"{number}", "") for number in range(500)])
        assert nodes[0].state.groups == before + 1

    with_nodes(1, test)


def test_each_write_of_a_batch_has_its_own_error() -> None:
    async def test(client: Client, nodes: Sequence[FakeNode]) -> None:
        held: list[Callable[[], None]] = []
        await client.put("first", "")
        nodes[0].answer = held.append
        batch = asyncio.ensure_future(
            client.write_batch([Put("a", ""), DeleteRange(prefix="b")], timeout=0.2)
        )
        await until(lambda: bool(held))
        results = await batch
        assert all(isinstance(result, OutcomeUnknownError) for result in results)
        assert all(isinstance(result, TimeoutError) for result in results)

    with_nodes(1, test)


async def test_a_page_that_promises_more_and_holds_nothing_is_refused() -> None:
    async def ask(query: bytes, seen: int | None) -> bytes:
        return msgpack.encode(Scan(1, (), True))

    with pytest.raises(MalformedError, match="has no items"):
        await anext(RangePager(ask, b"", None, 10, False, False))
