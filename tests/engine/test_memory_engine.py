"""Members that keep their log in memory: one that restarts has forgotten its votes, so it is nobody that they know."""

import asyncio
import logging
from pathlib import Path

import pytest

from d_engine import EmbeddedEngine
from d_engine.engine.config import ClusterConfig, EngineConfig, MemberConfig, NodeConfig, StorageConfig
from d_engine.format.errors import DataDirectoryError, IncarnationMismatchError

MEMORY = StorageConfig(engine="memory")


def configuration(folder: Path, node: int) -> EngineConfig:
    initial = tuple(MemberConfig(number, f"unix:{folder}/{number}") for number in (1, 2, 3))
    return EngineConfig(
        node=NodeConfig(id=node, data_dir=str(folder / f"d{node}")),
        cluster=ClusterConfig(listen=f"unix:{folder}/{node}", initial=initial),
        storage=MEMORY,
    )


async def test_a_member_that_restarts_is_not_let_in(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    engines = {node: EmbeddedEngine(config=configuration(tmp_path, node)) for node in (1, 2, 3)}
    caplog.set_level(logging.WARNING, "d_engine.engine.core")
    await asyncio.gather(*(engine.start() for engine in engines.values()))
    try:
        await asyncio.gather(*(engine.wait_ready() for engine in engines.values()))
        assert "storage.engine is memory" in caplog.text
        await engines[1].client.put("k", "v")
        await engines.pop(3).stop()
        again = EmbeddedEngine(config=configuration(tmp_path, 3))
        await again.start()
        with pytest.raises(IncarnationMismatchError, match="never on an older copy"):
            await again.wait_ready()
        await again.stop()
        assert await engines[2].client.get("k") == b"v"
        await engines[2].client.put("k", "w")
    finally:
        for engine in engines.values():
            await engine.stop()


async def test_a_directory_with_data_is_not_ignored(tmp_path: Path) -> None:
    async with EmbeddedEngine(tmp_path) as engine:
        await engine.client.put("k", "v")
    config = EngineConfig(node=NodeConfig(data_dir=str(tmp_path)), storage=MEMORY)
    with pytest.raises(DataDirectoryError, match="is memory"):
        await EmbeddedEngine(config=config).start()
    async with EmbeddedEngine(tmp_path) as engine:
        assert await engine.client.get("k") == b"v"
