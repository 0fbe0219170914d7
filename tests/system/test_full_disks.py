"""Disks that are full, for real. (Faults page, scenarios 27 and 31.)"""

import asyncio
import os
import subprocess
import time
from pathlib import Path

import pytest

from d_engine.client.remote import RemoteClient, connect
from d_engine.engine.rescue import Surviving
from d_engine.format.errors import DiskFullError, OutcomeUnknownError
from d_engine.testing.processes import LocalCluster, ServerProcess, free_ports
from tests.system.small_disk import SmallDisk, small_disk

pytestmark = pytest.mark.slow
SETTINGS = {"storage.segment_bytes": str(1 << 20)}
VALUE = os.urandom(40_000)


async def fill(client: RemoteClient, acknowledged: dict[str, bytes]) -> str:
    """Write until a write is refused; its key."""
    for number in range(len(acknowledged), 2000):
        key, value = f"key {number}", b"%d " % number + VALUE
        try:
            await client.put(key, value)
        except DiskFullError:
            return key
        acknowledged[key] = value
    raise AssertionError("the disk is never full")


async def until_written(client: RemoteClient, key: str, seconds: float = 30.0) -> None:
    """Write, again and again as long as the disk is full."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            await client.put(key, "written")
            return
        except DiskFullError:
            assert time.monotonic() < deadline, "it does not recover"
            await asyncio.sleep(0.2)


async def check_all_there(client: RemoteClient, acknowledged: dict[str, bytes]) -> None:
    for key, value in acknowledged.items():
        assert await client.get(key) == value, key


def alone(disk: SmallDisk, folder: Path) -> LocalCluster:
    """One node, whose data is on the small disk."""
    cluster = LocalCluster(folder, 1, SETTINGS)
    cluster.nodes[1].data_dir = disk.path / "node1"
    return cluster


def test_a_full_disk_refuses_writes_serves_reads_and_recovers_by_itself(tmp_path: Path) -> None:
    """The next segment has no room (segment roll)."""

    async def run(cluster: LocalCluster, disk: SmallDisk) -> None:
        await cluster.wait_leader()
        acknowledged: dict[str, bytes] = {}
        disk.load(leave_bytes=4 << 20)
        async with connect(cluster.endpoints, request_timeout=20.0) as client:
            refused = await fill(client, acknowledged)
            status = await client.status()
            assert status.disk_full
            assert await client.get(refused) is None
            await check_all_there(client, acknowledged)
            disk.unload()
            await until_written(client, "after")
            assert not (await client.status()).disk_full
            assert await client.get(refused) is None
        cluster.kill_all()
        cluster.start()
        await cluster.wait_leader()
        async with connect(cluster.endpoints, request_timeout=20.0) as client:
            await check_all_there(client, {**acknowledged, "after": b"written"})

    with small_disk(tmp_path / "disk", 24) as disk, alone(disk, tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster, disk))


def test_a_node_starts_on_a_full_disk(tmp_path: Path) -> None:
    async def run(cluster: LocalCluster, disk: SmallDisk) -> None:
        await cluster.wait_leader()
        acknowledged: dict[str, bytes] = {}
        disk.load(leave_bytes=2 << 20)
        async with connect(cluster.endpoints, request_timeout=20.0) as client:
            await fill(client, acknowledged)
        disk.load()
        cluster.kill_all()
        cluster.start()
        await cluster.wait_leader()
        async with connect(cluster.endpoints, request_timeout=20.0) as client:
            await check_all_there(client, acknowledged)
            disk.unload()
            await until_written(client, "after")

    with small_disk(tmp_path / "disk", 24) as disk, alone(disk, tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster, disk))


def test_a_snapshot_without_room_is_given_up_and_nothing_else(tmp_path: Path) -> None:
    async def run(cluster: LocalCluster, disk: SmallDisk) -> None:
        node = cluster.nodes[await cluster.wait_leader()]
        acknowledged: dict[str, bytes] = {}
        async with connect(cluster.endpoints, request_timeout=20.0) as client:
            for number in range(100):
                acknowledged[f"key {number}"] = b"%d " % number + VALUE
                await client.put(f"key {number}", acknowledged[f"key {number}"])
            disk.load(leave_bytes=2 << 20)
            with pytest.raises(DiskFullError):
                await client.take_snapshot()
            async with asyncio.timeout(10):
                while [name for name in os.listdir(node.data_dir) if name.startswith("snapshot-")]:
                    await asyncio.sleep(0.02)
            await check_all_there(client, acknowledged)
            disk.unload()
            taken = await client.take_snapshot()
            assert taken.size_bytes > 100 * len(VALUE)
            await until_written(client, "after")

    with small_disk(tmp_path / "disk", 32) as disk, alone(disk, tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster, disk))


def test_who_has_no_room_for_a_snapshot_says_so_and_gets_it_later(tmp_path: Path) -> None:
    """A newcomer whose disk is too small for what it is to install."""

    async def run(cluster: LocalCluster, newcomer: ServerProcess, disk: SmallDisk) -> None:
        await cluster.wait_leader()
        async with connect(cluster.endpoints, request_timeout=20.0) as client:
            for number in range(200):
                await client.put(f"key {number}", b"%d " % number + VALUE)
        old = cluster.nodes[1]
        old.kill()
        # The log of a recovered node begins with its snapshot: nobody can do without it.
        with Surviving(old.data_dir) as surviving:
            surviving.recover(tmp_path / "recovered" / "node1")
        leader = cluster.nodes[1] = ServerProcess(1, tmp_path / "recovered", old.address, SETTINGS)
        leader.start()
        await cluster.wait_leader()
        disk.load(leave_bytes=6 << 20)
        newcomer.start()
        said = "a snapshot of another member's, of log index"
        async with asyncio.timeout(60):
            while not newcomer.log.exists() or said not in newcomer.log.read_text():
                assert newcomer.exit_code is None
                await asyncio.sleep(0.1)
        async with connect(newcomer.address, discover=False, request_timeout=20.0) as client:
            status = await client.status()
            assert (status.disk_full, status.metrics["snapshots_installed"]) == (True, 0)
            disk.unload()
            async with asyncio.timeout(60):
                while not (await client.status()).metrics["snapshots_installed"]:
                    await asyncio.sleep(0.1)
            cluster.nodes[2] = newcomer
            await cluster.wait_caught_up(2, 60)
            for number in range(200):
                value = await client.get(f"key {number}", consistency="eventual")
                assert value == b"%d " % number + VALUE, number
            assert not (await client.status()).disk_full
        log = newcomer.log.read_text()
        assert log.count(said) == 1, "it is said once, however often it is tried"
        assert "node 2 has room on its disk again" in log

    with small_disk(tmp_path / "disk", 64) as disk, LocalCluster(tmp_path, 1, SETTINGS) as cluster:
        (port,) = free_ports(1)
        joining = {**SETTINGS, "cluster.join": cluster.nodes[1].address, "cluster.read_only": "true"}
        newcomer = ServerProcess(2, tmp_path, f"127.0.0.1:{port}", joining)
        newcomer.data_dir = disk.path / "node2"
        cluster.start()
        try:
            asyncio.run(run(cluster, newcomer, disk))
        finally:
            newcomer.kill()


def test_a_leader_with_a_full_disk_hands_over_and_catches_up_later(tmp_path: Path) -> None:
    async def run(cluster: LocalCluster, disk: SmallDisk) -> None:
        first = await cluster.wait_leader()
        acknowledged: dict[str, bytes] = {}
        async with connect(cluster.endpoints, request_timeout=20.0) as client:
            if first != 1:
                await client.transfer(1)
            disk.load(leave_bytes=3 << 20)
            for number in range(200):
                key, value = f"key {number}", b"%d " % number + VALUE
                try:
                    await client.put(key, value)
                except (DiskFullError, OutcomeUnknownError):
                    continue
                acknowledged[key] = value
            assert len(acknowledged) > 190, "the others take over"
            assert await cluster.wait_leader(among=(2, 3))
            async with connect(cluster.nodes[1].address, discover=False) as full:
                assert (await full.status()).disk_full
            disk.unload()
            await cluster.wait_caught_up(1, 60)
        async with connect(cluster.nodes[1].address, discover=False, request_timeout=20.0) as client:
            await check_all_there(client, acknowledged)
            assert not (await client.status()).disk_full

    with small_disk(tmp_path / "disk", 32) as disk, LocalCluster(tmp_path, 3, SETTINGS) as cluster:
        cluster.nodes[1].data_dir = disk.path / "node1"
        cluster.start()
        asyncio.run(run(cluster, disk))


def refusal(node: ServerProcess) -> str:
    """The last words of a node that does not start."""
    ended = subprocess.run(node.command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 6, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr


def test_directories_that_a_node_must_not_use(tmp_path: Path) -> None:
    """Scenario 31: in use, of another node, not writable."""
    with small_disk(tmp_path / "disk", 16) as disk, alone(disk, tmp_path) as cluster:
        node = cluster.nodes[1]
        cluster.start()
        asyncio.run(cluster.wait_leader())
        twin = ServerProcess(1, tmp_path / "twin", "127.0.0.1:0", {})
        twin.data_dir = node.data_dir
        said = refusal(twin)
        assert "data_directory_locked" in said
        assert f"process with the id {node.pid}" in said
        assert node.running
        node.kill()
        stranger = ServerProcess(2, tmp_path / "twin", "127.0.0.1:0", {})
        stranger.data_dir = node.data_dir
        assert "belongs to node 1, this is node 2" in refusal(stranger)
        disk.remount("ro")
        try:
            said = refusal(node)
        finally:
            disk.remount("rw")
        assert "data_directory: " in said
        assert "EROFS" in said
        node.start()
        asyncio.run(cluster.wait_leader())
