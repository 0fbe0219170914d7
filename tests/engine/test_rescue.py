"""Recovering from a real directory into a real one, and the command for it."""

import asyncio
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from d_engine import EmbeddedEngine
from d_engine.cli.app import app
from d_engine.cli.common import EXIT_LOCAL, EXIT_NO, EXIT_REFUSED
from d_engine.engine.config import ClusterConfig, EngineConfig, NodeConfig
from d_engine.engine.rescue import Surviving
from d_engine.format.errors import CorruptionError, DataDirectoryError, DataDirectoryLockedError
from d_engine.replica.rescue import JUMP


async def run(*arguments: str) -> Result:
    """The command has a loop of its own."""
    return await asyncio.to_thread(CliRunner().invoke, app, ["recover", *arguments])


async def used_directory(folder: Path, listen: str = "") -> Path:
    """Ten keys, a snapshot behind the fifth."""
    config = EngineConfig(node=NodeConfig(data_dir=str(folder)), cluster=ClusterConfig(listen=listen))
    async with EmbeddedEngine(config=config) as engine:
        for number in range(10):
            await engine.client.put(f"key {number}", f"value {number}")
            if number == 5:
                await engine.take_snapshot()
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


async def test_a_recovered_node_serves_all_that_survived(tmp_path: Path) -> None:
    old, new = await used_directory(tmp_path / "old"), tmp_path / "new"
    before = contents(old)
    with Surviving(old) as surviving:
        assert surviving.state.applier.state_machine.revision == 10
        meta = surviving.recover(new)
    assert contents(old) == before
    async with EmbeddedEngine(new) as engine:
        for number in range(10):
            assert await engine.client.get(f"key {number}") == b"value %d" % number
        result = await engine.client.put("key 3", "again")
        assert result.revision == JUMP + 11
        status = await engine.client.status()
        assert (status.cluster_id, status.first_index) == (meta.configuration.cluster_id, meta.index + 1)
    async with EmbeddedEngine(new) as engine:
        assert await engine.client.get("key 3") == b"again"


async def test_leases_survive_and_none_of_their_ids_is_used_twice(tmp_path: Path) -> None:
    async with EmbeddedEngine(tmp_path / "old") as engine:
        granted = await engine.client.grant_lease(60)
        await engine.client.put("held", "v", lease=granted.id)
        await engine.client.put("forever", "v")
    with Surviving(tmp_path / "old") as surviving:
        surviving.recover(tmp_path / "new")
    async with EmbeddedEngine(tmp_path / "new") as engine:
        info = await engine.client.lease_info(granted.id)
        assert info is not None
        assert (info.ttl, info.keys) == (60, (b"held",))
        assert (await engine.client.grant_lease(60)).id > granted.id + JUMP // 2
        assert await engine.client.revoke_lease(granted.id) == 1
        assert await engine.client.get("held") is None
        assert await engine.client.get("forever") == b"v"


async def test_a_second_recovery_goes_on_from_the_first(tmp_path: Path) -> None:
    folder = await used_directory(tmp_path / "0")
    for number in range(1, 3):
        with Surviving(folder) as surviving:
            folder = tmp_path / str(number)
            surviving.recover(folder)
    async with EmbeddedEngine(folder) as engine:
        assert (await engine.client.put("k", "v")).revision == 2 * JUMP + 11


async def test_nothing_runs_on_either_directory_meanwhile(tmp_path: Path) -> None:
    old = await used_directory(tmp_path / "old")
    async with EmbeddedEngine(old):
        with pytest.raises(DataDirectoryLockedError):
            Surviving(old)
    with Surviving(old) as surviving:
        with pytest.raises(DataDirectoryLockedError):
            await EmbeddedEngine(old).start()
        with pytest.raises(DataDirectoryError, match="is not empty"):
            surviving.recover(await used_directory(tmp_path / "other"))


async def test_damage_is_accepted_only_when_asked_for(tmp_path: Path) -> None:
    old, new = await used_directory(tmp_path / "old"), tmp_path / "new"
    log = old / "log-000000000001.wal"
    data = bytearray(log.read_bytes())
    records = [place for place in range(len(data)) if data.startswith(b"rec1", place)]
    data[records[-3] + 36] ^= 1
    log.write_bytes(data)
    with Surviving(old) as surviving:
        kept = surviving.state.applier.state_machine.revision
        assert 6 <= kept < 10
        with pytest.raises(CorruptionError, match=f"offset {records[-3]}"):
            surviving.recover(new)
        assert not new.exists()
    assert (await run("--plan", str(old))).exit_code == EXIT_NO
    assert (await run("--apply", str(new), str(old))).exit_code == EXIT_LOCAL
    result = await run("--apply", str(new), "--despite-damage", str(old))
    assert result.exit_code == 0, result.output
    async with EmbeddedEngine(new) as engine:
        assert len((await engine.client.scan_prefix("key")).items) == kept


async def test_the_command_plans_and_applies(tmp_path: Path) -> None:
    old, new = await used_directory(tmp_path / "old"), tmp_path / "new"
    plan = await run("--plan", str(old))
    assert plan.exit_code == 0, plan.output
    for text in ("revision 10, 10 keys, 1 sessions", "1  voter", "answering      none", "lost"):
        assert text in plan.output
    document = json.loads((await run("--plan", str(old), "-o", "json")).output)
    assert (document["revision"], document["keys"], document["answering"]) == (10, 10, [])
    done = await run("--apply", str(new), str(old), "-o", "json")
    assert done.exit_code == 0, done.output
    assert json.loads(done.output)["revision"] == 10 + JUMP
    assert (await run("--apply", str(new), str(old))).exit_code == EXIT_LOCAL
    assert (await run("--plan", str(new))).exit_code == 0


async def test_the_command_refuses_while_a_member_answers(tmp_path: Path) -> None:
    """A copy of a directory whose node lives."""
    socket = f"unix:{tmp_path}/s"
    old = await used_directory(tmp_path / "old", socket)
    copy = tmp_path / "copy"
    copy.mkdir()
    for name, data in contents(old).items():
        (copy / name).write_bytes(data)
    config = EngineConfig(node=NodeConfig(data_dir=str(old)), cluster=ClusterConfig(listen=socket))
    async with EmbeddedEngine(config=config):
        refused = await run("--apply", str(tmp_path / "new"), str(copy))
        assert refused.exit_code == EXIT_REFUSED
        assert f"node 1 at {socket}" in refused.stderr
        assert not (tmp_path / "new").exists()
        forced = await run("--apply", str(tmp_path / "new"), "--force", str(copy))
        assert forced.exit_code == 0, forced.output


async def test_usage(tmp_path: Path) -> None:
    assert (await run(str(tmp_path))).exit_code == 2
    assert (await run("--plan", "--apply", "x", str(tmp_path))).exit_code == 2
    assert "is empty" in (await run("--plan", str(tmp_path))).stderr
