"""What a node says while it opens its data: from the first moment on, and while it takes long."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from d_engine import EmbeddedEngine
from d_engine.engine import opening as opening_module
from d_engine.engine.config import EngineConfig
from d_engine.engine.opening import Opening
from d_engine.runtime.disk import FileDisk
from d_engine.storage.disk import CreateFile, SyncDirectory, SyncFile, WriteFile


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """What was logged, as it goes; the interval is short."""
    monkeypatch.setattr(opening_module, "INTERVAL_SECONDS", 0.01)
    caplog.set_level(logging.INFO, opening_module.__name__)
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(record.getMessage())  # type: ignore[method-assign]
    logger = logging.getLogger(opening_module.__name__)
    logger.addHandler(handler)
    yield lines
    logger.removeHandler(handler)


async def until_said(lines: list[str], text: str) -> None:
    async with asyncio.timeout(10):
        while not any(text in line for line in lines):
            await asyncio.sleep(0.005)


async def test_from_the_first_moment_on_it_is_said_what_is_done(said: list[str]) -> None:
    opening = Opening(EngineConfig.single_node("data"))
    opened: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    watching = asyncio.create_task(opening.watch(opened))
    await until_said(said, "node 1 is opening, for 0 s: nothing is read yet")
    assert said[0] == "node 1 opens data"
    opening.reading("log-000000000003.wal", 5 << 20, 64 << 20)
    await until_said(said, "node 1 is opening, for 0 s: it reads log-000000000003.wal, at 5 of 64 MiB")
    # A disk that hangs is seen as such.
    opening.performing(SyncFile("log-000000000003.wal"))
    await until_said(said, "node 1 is opening, for 0 s: SyncFile log-000000000003.wal")
    opened.set_result(None)
    await watching
    assert said[-1].startswith("node 1 has opened its data, in ")


async def test_who_waits_gets_the_error_or_may_go(said: list[str]) -> None:
    loop = asyncio.get_running_loop()
    failed: asyncio.Future[None] = loop.create_future()
    failed.set_exception(ValueError("no"))
    with pytest.raises(ValueError, match="no"):
        await Opening(EngineConfig.single_node("data")).watch(failed)
    opened: asyncio.Future[None] = loop.create_future()
    watching = asyncio.create_task(Opening(EngineConfig.single_node("data")).watch(opened))
    await asyncio.sleep(0)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
    assert opened.cancelled()
    assert not any("has opened" in line for line in said)


def test_a_disk_tells_of_reads_and_operations_while_it_is_watched(tmp_path: Path) -> None:
    disk = FileDisk(tmp_path, lambda call: None)
    told: list[object] = []
    disk.watch(lambda *read: told.append(read), told.append)
    operations = (CreateFile("file", 4096), WriteFile("file", 0, (b"data",)), SyncDirectory())
    disk.run(operations)
    assert disk.read("file", 2, 2) == b"ta"
    assert told == [*operations, ("file", 2, 4096)]
    disk.watch(None, None)
    disk.run((SyncDirectory(),))
    assert disk.read("file", 0, 1) == b"d"
    assert len(told) == 4
    disk.close(10)


async def test_a_node_says_when_it_has_opened(tmp_path: Path, said: list[str]) -> None:
    async with EmbeddedEngine(tmp_path) as engine:
        await engine.client.put("key", "value")
    assert said[0] == f"node 1 opens {tmp_path}"
    assert "node 1 has opened its data, in " in said[-1]
