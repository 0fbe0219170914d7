"""The remote client against nodes behind real sockets."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import wraps
from typing import Any

import pytest

from d_engine.client import dialer, pulse
from d_engine.client.api import LeaderInfo
from d_engine.client.remote import RemoteClient, connect
from d_engine.format.errors import (
    ConfigError,
    DiskFullError,
    EngineStoppedError,
    InvalidRequestError,
    NoLeaderError,
    NotAppliedTimeoutError,
    OutcomeUnknownError,
    OutcomeUnknownTimeoutError,
    UnavailableError,
)
from d_engine.runtime.thread import new_loop
from tests.client.fake_cluster import FakeNode, start_nodes, until


def on_a_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(test(*args, **kwargs))

    return run


@asynccontextmanager
async def cluster(count: int = 1, timeout: float = 5.0) -> AsyncIterator[tuple[RemoteClient, list[FakeNode]]]:
    nodes = await start_nodes(count)
    addresses = ",".join(node.address for node in nodes)
    try:
        async with connect(addresses, request_timeout=timeout) as client:
            yield client, nodes
    finally:
        for node in nodes:
            node.stop()


def hold(node: FakeNode) -> list[Callable[[], None]]:
    """Let no answer of this node leave; returns where they gather."""
    held: list[Callable[[], None]] = []
    node.answer = held.append
    return held


def client_links(client: RemoteClient) -> int:
    return len(client._dispatcher._links)


def put_key(number: int) -> str:
    return f"key-{number:05}"


# --- the interface ---------------------------------------------------------------------------------------------------


@on_a_loop
async def test_everything_that_the_interface_offers() -> None:
    async with cluster() as (client, nodes):
        assert await client.get("a") is None
        first = await client.put("a", "1")
        second = await client.put(b"a", b"2", previous=True)
        assert (first.revision, first.previous) == (1, None)
        assert second.revision == 2
        assert second.previous is not None
        assert second.previous.value == b"1"
        assert await client.get("a") == b"2"
        entry = await client.get_entry("a", consistency="eventual", min_revision=2)
        assert entry is not None
        assert (entry.create_revision, entry.mod_revision, entry.version, entry.lease) == (1, 2, 2, 0)
        assert await client.compare_and_swap("b", None, "x")
        assert not await client.compare_and_swap("b", "y", "z")
        assert await client.get_multi(["b", "nothing", "a"], consistency="lease") == [b"x", None, b"2"]
        scan = await client.scan_prefix("")
        assert [item.key for item in scan.items] == [b"a", b"b"]
        assert scan.revision == 3
        page = await client.scan_prefix("", limit=1, after="a")
        assert [item.key for item in page.items] == [b"b"]
        assert (await client.delete("a", previous=True)).deleted
        assert not (await client.delete("a")).deleted
        assert await client.members() == nodes[0].members
        assert await client.leader() == LeaderInfo(1, 1)
        assert (await client.status()).node_id == 1
        await client.transfer(1)


@on_a_loop
async def test_what_can_never_succeed_is_not_sent() -> None:
    async with cluster() as (client, nodes):
        for call in (
            client.put("k" * 1025, ""),
            client.put("k", bytes(1024 * 1024 + 1)),
            client.put("k", bytearray(1)),  # type: ignore[arg-type]
            client.put("k", "v", timeout=0),
            client.get("k", timeout=float("nan")),
            client.get("k", consistency="strong"),  # type: ignore[arg-type]
            client.get("k", min_revision=0),
            client.get_multi("key"),
            client.scan_prefix("", limit=0),
        ):
            with pytest.raises(InvalidRequestError):
                await call
        assert not {"propose", "read"} & set(nodes[0].asked)
        with pytest.raises(ConfigError):
            connect("nonsense")
        with pytest.raises(ConfigError):
            connect([])


@on_a_loop
async def test_what_tasks_ask_for_in_one_turn_travels_together() -> None:
    async with cluster() as (client, nodes):
        await client.put("warm", "up")
        nodes[0].asked.clear()
        await asyncio.gather(*(client.put(put_key(number), "v") for number in range(500)))
        values = await asyncio.gather(*(client.get(put_key(number)) for number in range(500)))
        assert values == [b"v"] * 500
        assert nodes[0].asked == ["propose", "read"]


@on_a_loop
async def test_a_scan_that_exceeds_an_answer_says_so_and_can_be_paged() -> None:
    async with cluster() as (client, _):
        await asyncio.gather(*(client.put(put_key(number), bytes(1024 * 1024)) for number in range(10)))
        with pytest.raises(InvalidRequestError, match="pages"):
            await client.scan_prefix("")
        page = await client.scan_prefix("", limit=100)
        assert page.more
        rest = await client.scan_prefix("", limit=100, after=page.items[-1].key)
        assert len(page.items) + len(rest.items) == 10
        assert not rest.more
        # Many large answers to one batch come in parts.
        values = await asyncio.gather(*(client.get(put_key(number % 10)) for number in range(40)))
        assert [len(value or b"") for value in values] == [1024 * 1024] * 40


# --- errors ----------------------------------------------------------------------------------------------------------


@on_a_loop
async def test_a_refusal_of_the_node_arrives_as_what_it_is() -> None:
    async with cluster() as (client, nodes):
        await client.put("a", "1")
        nodes[0].fail = DiskFullError("no room for the log")
        with pytest.raises(DiskFullError, match="no room for the log"):
            await client.put("a", "2")
        nodes[0].fail = NoLeaderError("nobody leads; reachable: node 3")
        with pytest.raises(NoLeaderError, match="reachable: node 3"):
            await client.get("a")


@on_a_loop
async def test_time_outs_say_whether_something_was_sent() -> None:
    async with cluster(timeout=0.3) as (client, nodes):
        await client.put("a", "1")
        held = hold(nodes[0])
        with pytest.raises(OutcomeUnknownTimeoutError, match=nodes[0].address):
            await client.put("a", "2")
        with pytest.raises(NotAppliedTimeoutError, match=nodes[0].address):
            await client.get("a", timeout=0.1)
        # The answers come after all, to nobody.
        for send in held:
            send()
        nodes[0].answer = lambda send: send()
        assert await client.get("a") == b"2"


@on_a_loop
async def test_connecting_to_nothing_names_what_was_tried() -> None:
    nodes = await start_nodes(2)
    for node in nodes:
        node.stop()
    with pytest.raises(UnavailableError) as raised:
        await connect([node.address for node in nodes], connect_timeout=0.3)
    for node in nodes:
        assert node.address in str(raised.value)


@on_a_loop
async def test_when_all_nodes_are_gone_what_was_never_sent_was_not_applied() -> None:
    async with cluster(2, timeout=0.3) as (client, nodes):
        await client.put("a", "1")
        for node in nodes:
            node.stop()
        await until(lambda: not client_links(client))
        with pytest.raises(UnavailableError) as raised:
            await client.put("a", "2")
        assert all(node.address in str(raised.value) for node in nodes)
        with pytest.raises(UnavailableError):
            await client.get("a")
        for node in nodes:
            await node.start()
        await client.put("a", "3", timeout=5)
        assert await client.get("a") == b"3"


@on_a_loop
async def test_close_answers_everybody() -> None:
    nodes = await start_nodes(1)
    client = await connect(nodes[0].address)
    await client.put("a", "1")
    hold(nodes[0])
    tasks = [asyncio.create_task(call) for call in (client.put("a", "2"), client.get("a"), client.status())]
    await until(lambda: {"propose", "read", "status"} <= set(nodes[0].asked))
    await client.close()
    write, read, status = await asyncio.gather(*tasks, return_exceptions=True)
    assert isinstance(write, OutcomeUnknownError)
    assert isinstance(read, EngineStoppedError)
    assert isinstance(status, EngineStoppedError)
    for call in (client.put("a", "3"), client.get("a"), client.status()):
        with pytest.raises(EngineStoppedError):
            await call
    await client.close()
    nodes[0].stop()


# --- other nodes -----------------------------------------------------------------------------------------------------


@on_a_loop
async def test_an_unanswered_group_is_sent_to_another_node_and_applied_once() -> None:
    async with cluster(2) as (client, nodes):
        await client.put("a", "1")
        hold(nodes[0])
        writes = [asyncio.create_task(client.put(put_key(number), "v")) for number in range(10)]
        await until(lambda: nodes[0].state.groups == 2)
        nodes[0].stop()
        results = await asyncio.gather(*writes)
        assert [result.revision for result in results] == list(range(2, 12))
        assert nodes[0].state.groups == 2
        assert nodes[0].state.copies == 3
        assert "propose" in nodes[1].asked


@on_a_loop
async def test_a_refused_second_copy_does_not_hide_that_the_first_may_be_applied() -> None:
    async with cluster(2, timeout=0.5) as (client, nodes):
        await client.put("a", "1")
        hold(nodes[0])
        nodes[1].fail = DiskFullError("no room")
        write = asyncio.create_task(client.put("a", "2"))
        await until(lambda: nodes[0].state.groups == 2)
        nodes[0].stop()
        with pytest.raises(OutcomeUnknownTimeoutError):
            await write


@on_a_loop
async def test_a_node_that_stops_is_left() -> None:
    async with cluster(2) as (client, nodes):
        await client.put("a", "1")
        nodes[0].fail = EngineStoppedError()
        assert (await client.put("a", "2")).revision == 2
        assert await client.get("a") == b"2"
        assert "propose" in nodes[1].asked


@on_a_loop
async def test_an_unknown_outcome_of_a_stopping_node_is_asked_for_elsewhere() -> None:
    async with cluster(2) as (client, nodes):
        await client.put("a", "1")
        state = nodes[0].state

        def unknown(group: bytes, timeout: int, done: Any, /) -> None:
            nodes[0]._check("propose")
            state.apply(group)
            nodes[0].fail = EngineStoppedError()
            raise OutcomeUnknownError("the write was on its way when the node stopped")

        nodes[0].propose = unknown  # type: ignore[method-assign]
        assert (await client.put("a", "2")).revision == 2
        assert len(state.applied) == 2


@on_a_loop
async def test_the_client_follows_the_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "PULSE_SECONDS", 0.02)
    async with cluster(3) as (client, nodes):
        for node in nodes:
            node.leader = LeaderInfo(3, 2)
        while "propose" not in nodes[2].asked:
            await client.put("a", "1")
        # Whoever knows no leader does not change anything.
        for node in nodes:
            node.leader = None
        for node in nodes:
            node.asked.clear()
        while nodes[2].asked.count("leader") < 3:
            await client.put("a", "1")
        assert not nodes[0].asked


@on_a_loop
async def test_a_client_that_knows_one_node_finds_the_leader() -> None:
    nodes = await start_nodes(2)
    async with connect(nodes[1].address) as client:
        await until(lambda: "members" in nodes[0].asked)
        await client.put("a", "1")
        assert "propose" not in nodes[1].asked
        nodes[0].stop()
        assert await client.get("a") == b"1"
    nodes[1].stop()


@on_a_loop
async def test_a_node_that_is_connected_and_silent_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulse, "PULSE_SECONDS", 0.05)
    async with cluster(2) as (client, nodes):
        await client.put("a", "1")
        nodes[0].silent = True
        assert (await client.put("a", "2")).revision == 2
        assert "propose" in nodes[1].asked


@on_a_loop
async def test_a_node_that_accepts_and_says_nothing_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dialer, "DIAL_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as mute:
        nodes = await start_nodes(1)
        port = mute.getsockname()[1]
        async with connect([f"127.0.0.1:{port}", nodes[0].address]) as client:
            await client.put("a", "1")
        nodes[0].stop()


@on_a_loop
async def test_another_cluster_is_not_talked_to() -> None:
    nodes = await start_nodes(1)
    with pytest.raises(UnavailableError, match="belongs to cluster"):
        await connect(nodes[0].address, cluster_id=5, connect_timeout=0.2)
    nodes[0].stop()
