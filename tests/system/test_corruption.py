"""Damage on a real disk, while the node is down (architecture, section 11; faults page, scenario 25)."""

import asyncio
from pathlib import Path

import pytest

from d_engine.client.remote import connect
from d_engine.storage.segment import HEADER_BYTES
from d_engine.testing.processes import LocalCluster, ServerProcess

_KEYS = 200
_SETTINGS = {"storage.segment_bytes": str(1024 * 1024)}


def flip_a_byte_in_the_middle(log: Path) -> None:
    """In the body of some entry: the values are all of the letter x."""
    data = bytearray(log.read_bytes())
    used = len(data.rstrip(b"\0"))
    place = data.index(b"x" * 400, HEADER_BYTES + (used - HEADER_BYTES) // 2)
    data[place + 200] ^= 0x04
    log.write_bytes(data)


async def write(cluster: LocalCluster, first: int, last: int) -> None:
    async with connect(cluster.endpoints) as client:
        for number in range(first, last):
            await client.put(f"key {number}", b"x" * 1000 + b"%d" % number)


async def missing(address: str, count: int) -> list[int]:
    """Acknowledged writes that this node alone, by its own state, does not have."""
    async with connect(address, discover=False) as client:
        return [
            number
            for number in range(count)
            if await client.get(f"key {number}", consistency="eventual") != b"x" * 1000 + b"%d" % number
        ]


async def until_whole(node: ServerProcess) -> None:
    async with asyncio.timeout(60), connect(node.address, discover=False, connect_timeout=30) as client:
        while (await client.status()).quarantine:
            await asyncio.sleep(0.1)


@pytest.mark.slow
def test_a_follower_with_a_damaged_log_repairs_itself_and_nothing_is_lost(tmp_path: Path) -> None:
    async def run() -> None:
        with LocalCluster(tmp_path, settings=_SETTINGS) as cluster:
            cluster.start()
            leader = await cluster.wait_leader()
            await write(cluster, 0, _KEYS)
            victim, other = (node for number, node in cluster.nodes.items() if number != leader)
            victim.kill()
            flip_a_byte_in_the_middle(victim.data_dir / "log-000000000001.wal")
            await write(cluster, _KEYS, _KEYS + 20)
            victim.start()
            # What it had, and what came meanwhile; an entry more makes sure that its log gets as far as it once was.
            await cluster.wait_caught_up(victim.node_id)
            await until_whole(victim)
            assert "is in quarantine" in victim.log.read_text()
            assert not (victim.data_dir / "quarantine").exists()
            assert await missing(victim.address, _KEYS + 20) == []
            # It counts again: the two that are left elect a leader and lose nothing.
            cluster.nodes[leader].kill()
            await cluster.wait_leader(among=[victim.node_id, other.node_id])
            await write(cluster, _KEYS + 20, _KEYS + 25)
            assert await missing(victim.address, _KEYS + 25) == []

    asyncio.run(run())


@pytest.mark.slow
def test_without_repair_a_damaged_log_is_refused_and_nothing_is_changed(tmp_path: Path) -> None:
    async def run() -> None:
        with LocalCluster(tmp_path, settings={**_SETTINGS, "storage.repair": "false"}) as cluster:
            cluster.start()
            leader = await cluster.wait_leader()
            await write(cluster, 0, _KEYS)
            victim = next(node for number, node in cluster.nodes.items() if number != leader)
            victim.kill()
            log = victim.data_dir / "log-000000000001.wal"
            flip_a_byte_in_the_middle(log)
            before = log.read_bytes()
            victim.start()
            assert victim.wait() != 0
            assert "a record that had been synced is damaged" in victim.log.read_text()
            assert log.read_bytes() == before
            assert not (victim.data_dir / "quarantine").exists()

    asyncio.run(run())
