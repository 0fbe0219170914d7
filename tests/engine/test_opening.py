"""What a node says while it opens its data: from the first moment on, and while it takes long."""

import logging
from pathlib import Path

import pytest

from d_engine import EmbeddedEngine
from d_engine.engine import opening as opening_module
from d_engine.engine.config import EngineConfig
from d_engine.engine.opening import INTERVAL_SECONDS, Opening


def said(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.message for record in caplog.records if record.name == opening_module.__name__]


def test_what_takes_long_is_said_once_in_an_interval(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = 100.0
    opening = Opening(EngineConfig.single_node("data"), lambda: now)
    assert said(caplog) == ["node 1 opens data"]
    for _ in range(100):
        now += INTERVAL_SECONDS / 40
        opening.reading("log-000000000003.wal", 5 << 20, lambda name: 64 << 20)
    opening.done()
    progress = "node 1 is opening: it reads log-000000000003.wal, at 5 of 64 MiB"
    assert said(caplog)[1:] == [progress, progress, "node 1 has opened its data, in 5.0 s"]


async def test_every_file_of_a_directory_is_told_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with EmbeddedEngine(tmp_path) as engine:
        await engine.client.put("key", "value")
        await engine.take_snapshot()
    monkeypatch.setattr(opening_module, "INTERVAL_SECONDS", 0.0)
    caplog.set_level(logging.INFO)
    async with EmbeddedEngine(tmp_path) as engine:
        opened = len(said(caplog))
        assert await engine.client.get("key") == b"value"
        assert len(said(caplog)) == opened, "only while it opens"
    names = [path.name for path in tmp_path.iterdir() if path.suffix in (".wal", ".snp")]
    assert len(names) == 2
    for name in names:
        assert any(name in line for line in said(caplog))
