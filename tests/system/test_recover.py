"""A real cluster of three that loses two of its disks for good, and goes on from the third."""

import asyncio
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from d_engine.client.remote import connect
from d_engine.engine.rescue import Surviving
from d_engine.testing.processes import LocalCluster, ServerProcess, free_ports
from tests.system.strace import need_strace

pytestmark = pytest.mark.slow


def command(*words: str) -> tuple[int, str]:
    """`d-engine ...`: exit code and what it printed."""
    ended = subprocess.run(
        [sys.executable, "-m", "d_engine.cli", *words],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout + ended.stderr


async def lose_the_majority(cluster: LocalCluster) -> tuple[int, int, dict[str, bytes]]:
    """Who survives, the last revision that was given out, and what the survivor has acknowledged."""
    leader = await cluster.wait_leader()
    survivor = leader % 3 + 1
    kept: dict[str, bytes] = {}
    async with connect(cluster.nodes[leader].address, discover=False) as client:
        for number in range(200):
            kept[f"key {number}"] = b"%d" % number
        await asyncio.gather(*(client.put(key, value) for key, value in kept.items()))
        await cluster.wait_caught_up(survivor)
        # What comes now the survivor never hears of.
        cluster.nodes[survivor].signal(signal.SIGSTOP)
        lost = [await client.put(f"lost {number}", "fencing token") for number in range(50)]
    for node in cluster.nodes.values():
        if node.node_id != survivor:
            node.kill()
            shutil.rmtree(node.data_dir)
    return survivor, lost[-1].revision, kept


def test_the_survivor_becomes_a_cluster_and_grows_to_three(tmp_path: Path) -> None:
    async def run(cluster: LocalCluster) -> None:
        survivor, last_revision, kept = await lose_the_majority(cluster)
        node = cluster.nodes[survivor]
        new = tmp_path / "recovered" / f"node{survivor}"
        code, text = await asyncio.to_thread(command, "recover", "--plan", str(node.data_dir))
        assert (code, "data_directory_locked" in text) == (6, True), text
        # Still stopped: it must not come to read what waits in its sockets.
        node.kill()
        code, text = await asyncio.to_thread(command, "recover", "--plan", str(node.data_dir))
        assert (code, "200 keys" in text, "none of them" in text) == (0, True, True), text
        code, text = await asyncio.to_thread(command, "recover", "--apply", str(new), str(node.data_dir))
        assert code == 0, text

        again = ServerProcess(survivor, new.parent, node.address, {})
        cluster.nodes = {survivor: again}
        again.start()
        await cluster.wait_leader()
        async with connect(again.address, discover=False) as client:
            for key, value in kept.items():
                assert await client.get(key) == value
            assert await client.get("lost 0") is None
            assert (await client.put("token", "x")).revision > last_revision
            for number in (8, 9):
                (port,) = free_ports(1)
                joining = {"cluster.join": again.address}
                cluster.nodes[number] = ServerProcess(number, tmp_path, f"127.0.0.1:{port}", joining)
                cluster.nodes[number].start()
            async with asyncio.timeout(60):
                while {member.role for member in await client.members()} != {"voter"} or len(
                    await client.members()
                ) != 3:
                    await asyncio.sleep(0.05)
        again.kill()
        await cluster.wait_leader(among=(8, 9))
        async with connect(cluster.endpoints) as client:
            assert await client.get("token") == b"x"
            assert (await client.put("token", "y")).revision > last_revision

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_the_living_are_not_recovered_over(tmp_path: Path) -> None:
    async def run(cluster: LocalCluster) -> None:
        leader = await cluster.wait_leader()
        down = cluster.nodes[leader % 3 + 1]
        down.kill()
        # A member that hangs may come back: it answers too.
        cluster.nodes[leader].signal(signal.SIGSTOP)
        code, text = await asyncio.to_thread(
            command, "recover", "--apply", str(tmp_path / "new"), str(down.data_dir)
        )
        assert (code, f"node {leader} at" in text) == (5, True), text
        assert not (tmp_path / "new").exists()

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_old_members_that_come_back_are_strangers(tmp_path: Path) -> None:
    """Their disks were not lost after all: the new cluster does not let them in, nor join them."""

    async def run(cluster: LocalCluster) -> None:
        await cluster.wait_leader()
        async with connect(cluster.endpoints) as client:
            await client.put("k", "v")
        cluster.kill_all()
        new = tmp_path / "recovered" / "node1"
        code, text = await asyncio.to_thread(
            command, "recover", "--apply", str(new), str(cluster.nodes[1].data_dir)
        )
        assert code == 0, text
        again = ServerProcess(1, new.parent, cluster.nodes[1].address, {})
        again.start()
        try:
            old = cluster.nodes[2]
            old.start()
            async with connect(again.address, discover=False) as client:
                await client.put("k", "w")
                async with asyncio.timeout(30):
                    while "node 1 at" not in (text := old.log.read_text()) or "it refuses us" not in text:
                        await asyncio.sleep(0.1)
                assert await client.get("k") == b"w"
                assert [member.id for member in await client.members()] == [1]
        finally:
            again.kill()

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_killed_at_every_call_it_leaves_nothing_that_starts(tmp_path: Path) -> None:
    need_strace()

    async def run(cluster: LocalCluster) -> None:
        await cluster.wait_leader()
        async with connect(cluster.endpoints) as client:
            await asyncio.gather(*(client.put(f"key {number}", b"v" * 40_000) for number in range(40)))
        cluster.kill_all()

    def die(fault: str, old: Path, new: Path) -> bool:
        """Whether it died of that."""
        shutil.rmtree(new, ignore_errors=True)
        traced = [
            "strace",
            "-f",
            "-o",
            "/dev/null",
            "-e",
            f"trace={fault.partition(':')[0]}",
            "-e",
            f"inject={fault}",
        ]
        words = ["recover", "--apply", str(new), str(old)]
        ended = subprocess.run(
            [*traced, sys.executable, "-m", "d_engine.cli", *words],
            capture_output=True,
            timeout=60,
            check=False,
        )
        if ended.returncode == 0:
            return False
        if new.exists() and "identity" in os.listdir(new):
            # Only the directory's last sync was missing.
            with Surviving(new) as complete:
                assert complete.report.damage == ()
        elif new.exists() and [name for name in os.listdir(new) if name not in ("lock", "identity.tmp")]:
            code, text = command("serve", "--data-dir", str(new), "--listen", "127.0.0.1:0")
            assert (code, "no file identity" in text) == (6, True), text
        return True

    with LocalCluster(tmp_path, 1) as cluster:
        cluster.start()
        asyncio.run(run(cluster))
        died = 0
        for call in ("renameat", "fsync", "fdatasync", "pwritev,pwritev2"):
            for nth in range(1, 20):
                if not die(f"{call}:signal=KILL:when={nth}", cluster.nodes[1].data_dir, tmp_path / "new"):
                    break
                died += 1
        assert died > 8
