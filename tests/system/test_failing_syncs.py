"""Disks that fail or hang at a sync, for real: strace makes the kernel's answer. (Faults page, scenarios 6, 26, 28.)"""

import asyncio
import signal
from pathlib import Path

import pytest

from d_engine.client.remote import RemoteClient, connect
from d_engine.format.errors import DEngineError
from d_engine.testing.processes import LocalCluster, ServerProcess
from tests.system.strace import Strace, need_strace

pytestmark = pytest.mark.slow
ELECTION_MAX_SECONDS = 1.0
"""By default."""


async def write_until_it_fails(client: RemoteClient, acknowledged: dict[str, bytes]) -> DEngineError:
    """One write after the other; those that were acknowledged, and what ended it."""
    while True:
        key, value = f"key {len(acknowledged)}", b"value %d" % len(acknowledged)
        try:
            await client.put(key, value)
        except DEngineError as error:
            return error
        acknowledged[key] = value


async def check_all_there(node: ServerProcess, acknowledged: dict[str, bytes]) -> None:
    async with connect(node.address, discover=False, request_timeout=20.0) as client:
        for key, value in acknowledged.items():
            assert await client.get(key) == value, key


def check_no_second_sync(trace: Strace, call: str) -> None:
    """After the failure nothing was synced any more, on that descriptor or on any."""
    lines = [line for line in trace.lines if f"{call}(" in line]
    (failed,) = [number for number, line in enumerate(lines) if "EIO" in line and "INJECTED" in line]
    target = lines[failed].split("(")[1].split(")")[0]
    assert not [line for line in lines[failed + 1 :] if target in line], lines[failed:]


@pytest.mark.parametrize("size", [1, 3])
def test_a_sync_of_the_log_that_fails_stops_the_node(tmp_path: Path, size: int) -> None:
    """It fails once; the next one would succeed, and must not be asked for."""
    need_strace()

    async def run(cluster: LocalCluster) -> None:
        leader = cluster.nodes[await cluster.wait_leader()]
        acknowledged: dict[str, bytes] = {}
        async with connect(leader.address, discover=False) as client:
            for number in range(20):
                acknowledged[f"key {number}"] = b"value %d" % number
                await client.put(f"key {number}", b"value %d" % number)
            with Strace(leader.pid, "fdatasync:error=EIO:when=5", tmp_path / "trace") as trace:
                await write_until_it_fails(client, acknowledged)
                assert await asyncio.to_thread(leader.wait) == 6
        assert len(acknowledged) >= 23
        check_no_second_sync(trace, "fdatasync")
        said = leader.log.read_text()
        assert "disk: syncing log-000000000001.wal failed: [errno 5 EIO]" in said
        assert "Traceback" not in said
        if size > 1:
            others = [node for node in cluster.nodes if node != leader.node_id]
            await check_all_there(cluster.nodes[await cluster.wait_leader(among=others)], acknowledged)
        leader.start()
        await cluster.wait_leader()
        await check_all_there(leader, acknowledged)

    with LocalCluster(tmp_path, size) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_a_sync_of_the_directory_that_fails_stops_the_node(tmp_path: Path) -> None:
    """The rename of a snapshot may not have reached the disk: nothing may be built on it."""
    need_strace()

    async def run(cluster: LocalCluster) -> None:
        node = cluster.nodes[await cluster.wait_leader()]
        async with connect(node.address, discover=False) as client:
            await client.put("k", "v")
            with Strace(node.pid, "fsync:error=EIO:when=1", tmp_path / "trace") as trace:
                with pytest.raises(DEngineError):
                    await client.take_snapshot()
                assert await asyncio.to_thread(node.wait) == 6
        check_no_second_sync(trace, "fsync")
        assert "disk: syncing the directory failed: [errno 5 EIO]" in node.log.read_text()
        node.start()
        await cluster.wait_leader()
        await check_all_there(node, {"k": b"v"})

    with LocalCluster(tmp_path, 1) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_a_leader_whose_sync_hangs_is_replaced(tmp_path: Path) -> None:
    """The network is fine, the disk says nothing: another leads within ten election time-outs, and when the sync comes
    back the node is a good follower."""
    need_strace()

    async def run(cluster: LocalCluster) -> None:
        leader = cluster.nodes[await cluster.wait_leader()]
        others = [node for node in cluster.nodes if node != leader.node_id]
        acknowledged: dict[str, bytes] = {}
        async with connect(cluster.endpoints, request_timeout=20.0) as client:
            await client.put("before", "v")
            with Strace(leader.pid, "fdatasync:delay_enter=8s", tmp_path / "trace"):
                writing = asyncio.create_task(client.put("during", "v"))
                await cluster.wait_leader(10 * ELECTION_MAX_SECONDS, among=others)
                await writing
                for number in range(20):
                    acknowledged[f"key {number}"] = b"v"
                    await client.put(f"key {number}", b"v")
                await asyncio.sleep(8)
            acknowledged |= {"before": b"v", "during": b"v"}
            await cluster.wait_leader()
            await cluster.wait_caught_up(leader.node_id, 60)
        for node in cluster.nodes.values():
            assert node.running
            await check_all_there(node, acknowledged)

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_what_was_proposed_and_not_synced_was_not_acknowledged(tmp_path: Path) -> None:
    """Scenario 6: a single voter dies between a write and its sync."""
    need_strace()

    async def run(cluster: LocalCluster) -> None:
        node = cluster.nodes[await cluster.wait_leader()]
        acknowledged: dict[str, bytes] = {}
        async with connect(node.address, discover=False) as client:
            await client.put("k", "v")
            for nth in (1, 4):
                with Strace(node.pid, f"fdatasync:signal=KILL:when={nth}", tmp_path / "trace"):
                    error = await write_until_it_fails(client, acknowledged)
                assert error.code.startswith("outcome_unknown"), error
                assert node.wait() == -signal.SIGKILL
                node.start()
                await cluster.wait_leader()
                await check_all_there(node, acknowledged)

    with LocalCluster(tmp_path, 1) as cluster:
        cluster.start()
        asyncio.run(run(cluster))
