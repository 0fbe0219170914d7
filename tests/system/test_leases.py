"""Leases on real processes: kept through the death of a leader, ended after the death of a holder."""

import asyncio
import subprocess
import sys
import time
from pathlib import Path

import pytest

from d_engine.client.remote import connect
from d_engine.testing.processes import LocalCluster

pytestmark = pytest.mark.slow

TTL = 3.0
HOLDER = """
import asyncio, sys
import d_engine

async def main(endpoints, ttl):
    async with d_engine.connect(endpoints) as client, client.lease(ttl) as lease:
        await client.put("held", "by somebody", lease=lease)
        print("held", flush=True)
        await lease.lost
        print("lost", flush=True)

asyncio.run(main(sys.argv[1], float(sys.argv[2])))
"""


async def test_a_holder_keeps_its_lease_over_a_leader_s_death_and_a_dead_one_does_not(tmp_path: Path) -> None:
    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        leader = await cluster.wait_leader()
        command = [sys.executable, "-c", HOLDER, cluster.endpoints, str(TTL)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert await asyncio.to_thread(holder.stdout.readline) == b"held\n"
            cluster.nodes[leader].kill()
            others = [node for node in cluster.nodes if node != leader]
            await cluster.wait_leader(among=others)
            async with connect(cluster.endpoints) as client:
                watched_until = time.monotonic() + 2 * TTL
                while time.monotonic() < watched_until:
                    assert await client.get("held") == b"by somebody"
                    await asyncio.sleep(0.05)
                holder.kill()
                killed = time.monotonic()
                while await client.get("held") is not None:
                    await asyncio.sleep(0.01)
                # The last keep-alive was sent at most a third of the TTL (and a little) before.
                assert TTL / 2 < time.monotonic() - killed < 3 * TTL
            assert holder.stdout.read() == b""


async def test_a_holder_that_the_cluster_has_left_alone_loses_its_lease_by_itself(tmp_path: Path) -> None:
    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        await cluster.wait_leader()
        command = [sys.executable, "-c", HOLDER, cluster.endpoints, str(TTL)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
            assert holder.stdout is not None
            assert await asyncio.to_thread(holder.stdout.readline) == b"held\n"
            cluster.kill_all()
            gone = time.monotonic()
            assert await asyncio.to_thread(holder.stdout.readline) == b"lost\n"
            assert TTL / 3 < time.monotonic() - gone < TTL
            holder.kill()
