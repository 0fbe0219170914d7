"""`d-engine watch` against a node."""

import asyncio
import json
from pathlib import Path

from click.testing import CliRunner

from d_engine import EmbeddedEngine, EngineConfig
from d_engine.cli.app import app
from d_engine.engine.config_sections import ClusterConfig, NodeConfig


async def test_events_are_printed_as_they_come(tmp_path: Path) -> None:
    address = f"unix:{tmp_path}/s"
    config = EngineConfig(
        node=NodeConfig(data_dir=str(tmp_path / "data")), cluster=ClusterConfig(client_listen=address)
    )

    def run(*arguments: str) -> str:
        return CliRunner().invoke(app, ["watch", *arguments, "-e", address], catch_exceptions=False).output

    async with EmbeddedEngine(config=config) as engine:
        await engine.client.put("a/1", "x")
        await engine.client.put("b", b"\xff")
        await engine.client.delete("a/1")
        text = await asyncio.to_thread(run, "--prefix", "", "--since", "0", "--count", "3")
        assert text == "1 put a/1 x\n2 put b \\xff\n3 deleted a/1\n"
        lines = await asyncio.to_thread(run, "a/1", "--since", "1", "--count", "1", "-o", "json")
        assert json.loads(lines) == {
            "revision": 3,
            "cause": "deleted",
            "key": {"text": "a/1"},
            "value": None,
            "create_revision": 0,
            "version": 0,
            "lease": 0,
        }


def test_either_a_key_or_a_prefix() -> None:
    assert CliRunner().invoke(app, ["watch"]).exit_code == 2
    assert CliRunner().invoke(app, ["watch", "k", "--prefix", "p"]).exit_code == 2
