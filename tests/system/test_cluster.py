"""Real processes on loopback: membership, transfer, strangers, and what a client sees of a minority."""

import asyncio
import shutil
import signal
from pathlib import Path

import pytest

from d_engine.client.remote import connect
from d_engine.format.errors import DEngineError, MembershipError, NotAppliedError, OutcomeUnknownError
from d_engine.testing.processes import LocalCluster, ServerProcess, free_ports

pytestmark = pytest.mark.slow


def test_a_client_of_any_node_just_works(tmp_path: Path) -> None:
    async def run(cluster: LocalCluster) -> None:
        await cluster.wait_leader()
        for node in cluster.nodes.values():
            async with connect(node.address, discover=False) as client:
                written = await client.put(f"through {node.node_id}", "v", previous=True)
                assert await client.get(f"through {node.node_id}", consistency="eventual") == b"v"
                assert await client.get(f"through {node.node_id}", consistency="lease") == b"v"
                assert (await client.get_entry(f"through {node.node_id}")).mod_revision == written.revision  # type: ignore[union-attr]
                assert await client.compare_and_swap("shared", None, "x") == (node.node_id == 1)
        async with connect(cluster.endpoints) as client:
            assert len((await client.scan_prefix("through ")).items) == 3
            assert [member.id for member in await client.members()] == [1, 2, 3]

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_leadership_can_be_transferred_under_load(tmp_path: Path) -> None:
    async def run(cluster: LocalCluster) -> None:
        leader = await cluster.wait_leader()
        async with connect(cluster.endpoints) as client:
            written: dict[str, bytes] = {}
            stop = asyncio.Event()

            async def write(number: int) -> None:
                turn = 0
                while not stop.is_set():
                    turn += 1
                    await client.put(f"key {number}", f"{turn}")
                    written[f"key {number}"] = b"%d" % turn

            writers = [asyncio.create_task(write(number)) for number in range(20)]
            for turn in range(3):
                target = (leader + turn) % 3 + 1
                await client.transfer(target)
                assert await cluster.wait_leader() == target
            stop.set()
            await asyncio.gather(*writers)
            for key, value in written.items():
                assert await client.get(key) == value

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_a_node_joins_as_a_learner_and_just_goes_on_after_a_restart(tmp_path: Path) -> None:
    async def role_of(cluster: LocalCluster, node_id: int) -> str | None:
        async with connect(cluster.endpoints) as client:
            return next((member.role for member in await client.members() if member.id == node_id), None)

    async def run(cluster: LocalCluster, learner: ServerProcess) -> None:
        await cluster.wait_leader()
        async with connect(cluster.endpoints) as client:
            for number in range(100):
                await client.put(f"key {number}", "v")
        learner.start()
        cluster.nodes[4] = learner
        await cluster.wait_caught_up(4)
        assert await role_of(cluster, 4) == "learner"
        async with connect(learner.address, discover=False) as client:
            assert await client.get("key 99") == b"v"
            assert (await client.status()).role == "learner"
            await client.put("through the learner", "v")
        learner.kill()
        learner.start()
        await cluster.wait_caught_up(4)
        async with connect(cluster.endpoints) as client:
            await client.remove(4)
            assert await role_of(cluster, 4) is None
        assert await asyncio.to_thread(learner.wait) != 0
        assert "not_member" in learner.log.read_text() or "removed" in learner.log.read_text()

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        (port,) = free_ports(1)
        settings = {"cluster.join": cluster.endpoints}
        learner = ServerProcess(4, tmp_path, f"127.0.0.1:{port}", settings)
        asyncio.run(run(cluster, learner))


def test_a_client_pinned_to_a_minority_leader_is_told_no_lies(tmp_path: Path) -> None:
    """Faults page, scenario 36."""

    async def run(cluster: LocalCluster) -> None:
        leader = await cluster.wait_leader()
        async with connect(cluster.nodes[leader].address, discover=False, request_timeout=3.0) as client:
            await client.put("k", "before")
            for node in cluster.nodes.values():
                if node.node_id != leader:
                    node.signal(signal.SIGSTOP)
            with pytest.raises((OutcomeUnknownError, NotAppliedError)):
                await client.put("k", "after")
            with pytest.raises(NotAppliedError):
                await client.get("k")
            assert await client.get("k", consistency="eventual") in (b"before", b"after")
            for node in cluster.nodes.values():
                node.signal(signal.SIGCONT)
            await cluster.wait_leader()
        async with connect(cluster.endpoints) as client:
            assert await client.get("k") in (b"before", b"after")
            await client.put("k", "healed")

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_a_wiped_disk_is_no_member_any_more(tmp_path: Path) -> None:
    """Faults page, scenario 15."""

    async def run(cluster: LocalCluster) -> None:
        leader = await cluster.wait_leader()
        wiped = cluster.nodes[leader % 3 + 1]
        async with connect(cluster.nodes[leader].address, discover=False) as client:
            await client.put("k", "v")
            await cluster.wait_caught_up(wiped.node_id)
            wiped.kill()
            shutil.rmtree(wiped.data_dir)
            wiped.start()
            assert await asyncio.to_thread(wiped.wait) != 0
            assert "incarnation_mismatch" in wiped.log.read_text()
            await client.put("k", "w")

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_nodes_of_two_clusters_do_not_mix(tmp_path: Path) -> None:
    """Faults page, scenario 43."""

    async def run(first: LocalCluster, second: LocalCluster) -> None:
        await first.wait_leader()
        await second.wait_leader()
        async with connect(first.endpoints) as client:
            term = (await client.status()).term
            identity = (await client.status()).cluster_id
        lost = second.nodes[3]
        lost.kill()
        astray = ServerProcess(
            3,
            tmp_path / "second",
            lost.address,
            {
                "cluster.initial": f"1={first.nodes[1].address},2={first.nodes[2].address},3={lost.address}",
            },
        )
        astray.start()
        async with connect(first.endpoints) as client:
            for _ in range(20):
                await client.put("k", "v")
                await asyncio.sleep(0.1)
            status = await client.status()
            assert (status.term, status.cluster_id) == (term, identity)
        astray.kill()

    with LocalCluster(tmp_path / "first") as first, LocalCluster(tmp_path / "second") as second:
        first.start()
        second.start()
        asyncio.run(run(first, second))


def test_a_taken_port_is_one_clear_error(tmp_path: Path) -> None:
    async def run(cluster: LocalCluster) -> None:
        await cluster.wait_leader()
        intruder = ServerProcess(9, tmp_path, cluster.nodes[1].address, {})
        intruder.start()
        assert await asyncio.to_thread(intruder.wait) == 6
        text = intruder.log.read_text()
        assert "address_in_use" in text
        assert cluster.nodes[1].address in text
        assert "Traceback" not in text

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_changes_that_make_no_sense_are_refused(tmp_path: Path) -> None:
    async def run(cluster: LocalCluster) -> None:
        await cluster.wait_leader()
        async with connect(cluster.endpoints) as client:
            with pytest.raises(MembershipError):
                await client.transfer(7)
            with pytest.raises(DEngineError):
                await client.remove(7)
            assert [member.id for member in await client.members()] == [1, 2, 3]

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))


def test_sigterm_stops_a_node_in_order(tmp_path: Path) -> None:
    async def run(cluster: LocalCluster) -> None:
        leader = await cluster.wait_leader()
        async with connect(cluster.endpoints) as client:
            await client.put("k", "v")
            cluster.nodes[leader].signal(signal.SIGTERM)
            assert await asyncio.to_thread(cluster.nodes[leader].wait) == 0
            assert await cluster.wait_leader() != leader
            assert await client.get("k") == b"v"

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))
