"""Snapshots of a running engine, on demand, and starts from them."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from d_engine import EmbeddedEngine
from d_engine.cli.app import app
from d_engine.engine.config import ClusterConfig, EngineConfig, NodeConfig, StorageConfig
from d_engine.format.errors import EngineStoppedError


async def test_an_engine_takes_a_snapshot_and_starts_from_it(tmp_path: Path) -> None:
    async with EmbeddedEngine(tmp_path) as engine:
        for number in range(20):
            await engine.client.put(f"key {number}", "value")
        taken = await engine.take_snapshot()
        status = await engine.client.status()
        assert (taken.index, taken.term) == (status.applied_index, status.term)
        assert status.metrics["snapshot_index"] == taken.index
        assert status.metrics["snapshot_bytes"] == taken.size_bytes
        await engine.client.put("after", "it")
        assert await engine.client.take_snapshot() != taken
    assert len(list(tmp_path.glob("*.snp"))) == 2
    async with EmbeddedEngine(tmp_path) as engine:
        assert len((await engine.client.scan_prefix("")).items) == 21
        assert (await engine.client.status()).metrics["snapshot_index"] > taken.index


async def test_a_log_in_memory_has_its_snapshots_there(tmp_path: Path) -> None:
    config = EngineConfig(node=NodeConfig(data_dir=str(tmp_path)), storage=StorageConfig(engine="memory"))
    async with EmbeddedEngine(config=config) as engine:
        await engine.client.put("key", "value")
        first = await engine.take_snapshot()
        await engine.client.put("key", "value")
        assert (await engine.take_snapshot()).index > first.index
    assert list(tmp_path.glob("*.snp")) == []


async def test_a_stopped_engine_takes_none(tmp_path: Path) -> None:
    async with EmbeddedEngine(tmp_path) as engine:
        await engine.client.put("key", "value")
    with pytest.raises(EngineStoppedError):
        await engine.take_snapshot()


async def test_the_command_asks_the_node_at_the_endpoint(tmp_path: Path) -> None:
    socket = f"unix:{tmp_path}/socket"
    config = EngineConfig(
        node=NodeConfig(data_dir=str(tmp_path / "data")), cluster=ClusterConfig(client_listen=socket)
    )
    async with EmbeddedEngine(config=config) as engine:
        await engine.client.put("key", "value")
        result = await asyncio.to_thread(
            CliRunner().invoke, app, ["snapshot", "now", "-e", socket, "-o", "json"]
        )
        assert result.exit_code == 0, result.output
        assert json.loads(result.output)["index"] == (await engine.client.status()).applied_index
