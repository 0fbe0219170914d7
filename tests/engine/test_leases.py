"""Leases through both clients of an engine that runs: the same, embedded and remote."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from d_engine import Client, Compare, EmbeddedEngine, EngineConfig, KeyValue, Put, connect
from d_engine.engine.config_sections import LimitsConfig
from d_engine.format.errors import InvalidRequestError, LeaseNotFoundError

BOTH = pytest.mark.parametrize("kind", ["embedded", "remote"])


@asynccontextmanager
async def client_in(
    path: Path, kind: str = "embedded", limits: LimitsConfig | None = None
) -> AsyncIterator[Client]:
    config = EngineConfig(limits=limits or LimitsConfig())
    address = f"unix:{path}/socket"
    config = replace(
        config,
        node=replace(config.node, data_dir=str(path / "data")),
        cluster=replace(config.cluster, client_listen=address),
    )
    async with EmbeddedEngine(config=config) as engine:
        if kind == "embedded":
            yield engine.client
        else:
            async with connect(address, discover=False) as client:
                yield client


async def until_gone(client: Client, key: str) -> None:
    while await client.get(key) is not None:
        await asyncio.sleep(0.005)


@BOTH
async def test_a_lease_is_kept_alive_and_given_back(tmp_path: Path, kind: str) -> None:
    async with client_in(tmp_path, kind) as client:
        async with client.lease(0.6) as lease:
            await client.put("a", "1", lease=lease)
            await client.put("b", "2", lease=lease.id)
            info = await client.lease_info(lease)
            assert info is not None
            assert (info.id, info.ttl, info.keys, info.single) == (lease.id, 0.6, (b"a", b"b"), False)
            until = lease.until
            while lease.until == until:
                await asyncio.sleep(0.02)
            assert 0 < lease.remaining() <= 0.5
            assert not lease.lost.is_set()
            assert (await client.get_entry("a")) == KeyValue(b"a", b"1", 1, 1, 1, lease.id)
        assert lease.lost.is_set()
        assert lease.remaining() == 0
        assert await client.get_multi(["a", "b"]) == [None, None]
        assert await client.lease_info(lease) is None


@BOTH
async def test_a_key_with_a_ttl_goes_by_itself(tmp_path: Path, kind: str) -> None:
    async with client_in(tmp_path, kind) as client:
        await client.put("short", "x", ttl=0.05)
        await client.put("long", "x", ttl=3600)
        assert await client.get("short") == b"x"
        await until_gone(client, "short")
        assert await client.get("long") == b"x"
        (info,) = (await client.leases()).items
        assert (info.ttl, info.key_count, info.single) == (3600.0, 1, True)
        assert 3500 < info.remaining <= 3600
        status = await client.status()
        assert status.metrics["leases"] == 1
        assert 3500 < status.metrics["lease_next_end_seconds"] <= 3600


@BOTH
async def test_a_plain_write_drops_the_ttl_unless_told_to_keep_it(tmp_path: Path, kind: str) -> None:
    async with client_in(tmp_path, kind) as client:
        for keep in (True, False):
            await client.put("put", "", ttl=3600)
            await client.put("swap", "", ttl=3600)
            await client.put("txn", "", ttl=3600)
            await client.put("batch", "", ttl=3600)
            await client.put("put", "x", keep_lease=keep)
            assert await client.compare_and_swap("swap", "", "x", keep_lease=keep)
            await client.txn(then=[Put("txn", "x", keep_lease=keep)])
            await client.write_batch([Put("batch", "x", keep_lease=keep)])
            held = [entry.lease > 0 for entry in (await client.scan_prefix("")).items]
            assert held == [keep] * 4


@BOTH
async def test_a_lock_by_comparison_and_lease(tmp_path: Path, kind: str) -> None:
    async with client_in(tmp_path, kind) as client:
        async with client.lease(60) as mine, client.lease(60) as other:
            assert await client.compare_and_swap("lock", None, "me", lease=mine)
            assert not await client.compare_and_swap("lock", None, "you", lease=other)
            result = await client.txn(
                when=[Compare.lease("lock", "==", mine.id)],
                then=[Put("state", "x", lease=mine), Put("t", "", ttl=60)],
            )
            assert result.succeeded
        assert await client.get_multi(["lock", "state"]) == [None, None]


@BOTH
async def test_errors_are_typed_and_nothing_is_written(tmp_path: Path, kind: str) -> None:
    async with client_in(tmp_path, kind) as client:
        with pytest.raises(LeaseNotFoundError, match="there is no lease 77"):
            await client.put("a", "", lease=77)
        with pytest.raises(LeaseNotFoundError):
            await client.txn(then=[Put("b", ""), Put("a", "", lease=77)])
        with pytest.raises(LeaseNotFoundError):
            await client.revoke_lease(77)
        (result,) = await client.write_batch([Put("a", "", lease=77)])
        assert isinstance(result, LeaseNotFoundError)
        assert await client.keep_alive(77) == [False]
        assert await client.lease_info(77) is None
        for wrong in (0, 0.001, -1, float("nan"), float("inf"), 1e12):
            with pytest.raises(InvalidRequestError):
                await client.put("a", "", ttl=wrong)
            with pytest.raises(InvalidRequestError):
                client.lease(wrong)
        with pytest.raises(InvalidRequestError, match="give one of them"):
            await client.put("a", "", ttl=1, lease=1)
        with pytest.raises(InvalidRequestError, match="by its id"):
            await client.put("a", "", lease=0)
        assert (await client.count()).count == 0


@BOTH
async def test_a_lease_that_the_cluster_has_ended_is_lost(tmp_path: Path, kind: str) -> None:
    async with client_in(tmp_path, kind) as client, client.lease(0.3) as lease:
        await client.revoke_lease(lease.id)
        await asyncio.wait_for(lease.lost.wait(), 5)
        assert "expired or was revoked" in lease.lost.reason
        with pytest.raises(LeaseNotFoundError, match="is lost"):
            await client.put("a", "", lease=lease)


@BOTH
async def test_a_closed_client_has_lost_its_leases(tmp_path: Path, kind: str) -> None:
    async with client_in(tmp_path, kind) as client:
        entered = client.lease(60)
        lease = await entered.__aenter__()
    await asyncio.wait_for(lease.lost, 5)
    assert lease.lost.reason == "the client is closed"
    await entered.__aexit__(None, None, None)


@BOTH
async def test_many_leases_are_kept_alive_together(tmp_path: Path, kind: str) -> None:
    async with client_in(tmp_path, kind) as client:
        granted = [await client.grant_lease(60) for _ in range(5)]
        assert await client.keep_alive(*(info.id for info in granted)) == [True] * 5
        page = await client.leases(after=granted[1].id, limit=2)
        assert [info.id for info in page.items] == [granted[2].id, granted[3].id]
        assert page.more


async def test_leases_outlive_the_process(tmp_path: Path) -> None:
    async with client_in(tmp_path) as client:
        granted = await client.grant_lease(60)
        await client.put("a", "", lease=granted.id)
        await client.put("b", "", ttl=0.5)
    async with client_in(tmp_path) as client:
        info = await client.lease_info(granted.id)
        assert info is not None
        assert info.keys == (b"a",)
        await until_gone(client, "b")
