"""An application that blocks its own event loop, or keeps it busy, does not cost the cluster its leader (architecture,
section 9)."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from d_engine import EmbeddedEngine, load_config
from d_engine.client.remote import connect
from d_engine.testing.processes import LocalCluster

_SECONDS = 3.0


def sleep() -> None:
    time.sleep(_SECONDS)


def compute() -> None:
    end = time.monotonic() + _SECONDS
    number = 0
    while time.monotonic() < end:
        number += 1


async def block(work: Callable[[], None]) -> None:
    """The loop does nothing else meanwhile."""
    work()


async def short_callbacks() -> None:
    """The loop is busy, and releases the interpreter a thousand times a second, each time for a moment only
    (`d_engine.runtime.courtesy`)."""
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end:
        until = time.monotonic() + 0.001
        while time.monotonic() < until:
            pass
        await asyncio.sleep(0)


@pytest.mark.slow
@pytest.mark.parametrize(
    "occupy",
    [partial(block, sleep), partial(block, compute), short_callbacks],
    ids=["sleep", "compute", "short callbacks"],
)
def test_no_election_while_the_leaders_application_is_busy(
    tmp_path: Path, occupy: Callable[[], Awaitable[None]]
) -> None:
    with LocalCluster(tmp_path) as cluster:
        for node in (2, 3):
            cluster.nodes[node].start()
        here = cluster.nodes[1]
        initial = ",".join(f"{number}={node.address}" for number, node in cluster.nodes.items())
        config = load_config(
            overrides={
                "node.id": "1",
                "node.data_dir": str(here.data_dir),
                "cluster.listen": here.address,
                "cluster.initial": initial,
            }
        )
        asyncio.run(_lead_and_block(EmbeddedEngine(config=replace(config)), cluster, occupy))


async def _lead_and_block(
    engine: EmbeddedEngine, cluster: LocalCluster, occupy: Callable[[], Awaitable[None]]
) -> None:
    async with engine:
        client = engine.client
        if not engine.is_leader:
            await client.transfer(1)
        await engine.leader_changes().wait_for(lambda leader: leader is not None and leader.leader_id == 1)
        before = engine.leader
        elections = (await client.status()).metrics["elections_won"]
        acknowledged = {}
        for turn in range(3):
            writes = {f"turn {turn} key {number}": f"{turn}.{number}" for number in range(200)}
            tasks = {key: asyncio.ensure_future(client.put(key, value)) for key, value in writes.items()}
            await asyncio.sleep(0)
            await occupy()
            for key, task in tasks.items():
                await task
                acknowledged[key] = writes[key].encode()
        assert engine.leader == before, "there was an election"
        assert (await client.status()).metrics["elections_won"] == elections
        async with connect(cluster.nodes[2].address, discover=False) as other:
            for key, value in acknowledged.items():
                assert await other.get(key) == value
