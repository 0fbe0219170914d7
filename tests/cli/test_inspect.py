"""`d-engine inspect` on a directory that a real node has written."""

import json
from pathlib import Path

from click.testing import CliRunner, Result

from d_engine import EmbeddedEngine
from d_engine.cli.app import app
from d_engine.cli.common import EXIT_LOCAL, EXIT_NO


def run(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["inspect", *arguments])


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def used_directory(folder: Path) -> str:
    async with EmbeddedEngine(folder) as engine:
        for number in range(10):
            await engine.client.put(f"key {number}", "value")
        await engine.take_snapshot()
        running = run(str(folder))
    assert running.exit_code == EXIT_LOCAL
    assert "data_directory_locked" in running.stderr
    return str(folder)


async def test_a_whole_directory(tmp_path: Path) -> None:
    folder = await used_directory(tmp_path)
    before = contents(tmp_path)
    result = run(folder)
    assert result.exit_code == 0, result.output
    assert "every checksum matches" in result.output
    assert "1  voter  (listens nowhere)" in result.output
    document = json.loads(run(folder, "-o", "json").output)
    assert (document["node_id"], document["damage"]) == (1, [])
    assert document["log"]["segments"][0]["name"] == "log-000000000001.wal"
    assert document["snapshots"][0]["index"] == document["log"]["last_index"]
    assert [member["role"] for member in document["configuration"]["members"]] == ["voter"]
    assert contents(tmp_path) == before


async def test_a_damaged_directory(tmp_path: Path) -> None:
    folder = await used_directory(tmp_path)
    log = tmp_path / "log-000000000001.wal"
    data = bytearray(log.read_bytes())
    record = data.index(b"rec1", 4300)
    data[record + 35] ^= 1
    log.write_bytes(data)
    before = contents(tmp_path)
    result = run(folder)
    assert result.exit_code == EXIT_NO
    assert f"damage         {log.name}, offset {record}: " in result.output
    assert contents(tmp_path) == before


def test_what_is_no_data_directory(tmp_path: Path) -> None:
    assert "is empty" in run(str(tmp_path)).stderr
    missing = run(str(tmp_path / "nowhere"))
    assert (missing.exit_code, "nowhere" in missing.stderr) == (EXIT_LOCAL, True)
