"""Watches of real processes that are killed under them: every event once, in order (docs/design/watches.md)."""

import asyncio
from contextlib import suppress
from pathlib import Path

import pytest

from d_engine import Client, Event
from d_engine.client.remote import connect
from d_engine.client.watch import Watch
from d_engine.format.errors import DEngineError
from d_engine.testing.processes import LocalCluster

pytestmark = pytest.mark.slow

KILLS = 3


async def _write(client: Client, stop: asyncio.Event) -> None:
    number = 0
    while not stop.is_set():
        number += 1
        # What became of a write whose leader was killed is for the events to tell.
        with suppress(DEngineError):
            await client.put(f"k/{number % 7}", f"{number}", timeout=2)
        await asyncio.sleep(0.002)


async def _collect(watch: Watch, events: list[Event], until: asyncio.Future[int]) -> None:
    while not (until.done() and watch.revision >= until.result()):
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                batch = await anext(watch)
                events.extend(batch.events)


def test_a_watch_outlives_the_nodes_that_it_is_on(tmp_path: Path) -> None:
    """One watch follows the leader, which is killed again and again; one waits for the return of its only node."""

    async def run(cluster: LocalCluster) -> None:
        stop, last = asyncio.Event(), asyncio.get_running_loop().create_future()
        lone = cluster.nodes[1]
        await cluster.wait_leader()
        async with connect(cluster.endpoints) as client, connect(lone.address, discover=False) as other:
            async with (
                client.watch(prefix="k/", since=0, previous=True) as following,
                other.watch(prefix="k/", since=0, previous=True) as waiting,
                asyncio.TaskGroup() as tasks,
            ):
                seen: tuple[list[Event], list[Event]] = ([], [])
                writer = tasks.create_task(_write(client, stop))
                tasks.create_task(_collect(following, seen[0], last))
                tasks.create_task(_collect(waiting, seen[1], last))
                for turn in range(KILLS):
                    leader = await cluster.wait_leader()
                    for node in {leader, 1} if turn == 0 else {leader}:
                        cluster.nodes[node].kill()
                        cluster.nodes[node].start()
                    await asyncio.sleep(2)
                await cluster.wait_leader()
                stop.set()
                await writer
                last.set_result((await client.put("k/last", "")).revision)
            # A write that nobody knows the outcome of may come late, behind the last one.
            followed, waited = (
                [event for event in events if event.revision <= last.result()] for events in seen
            )
            assert [event.revision for event in followed] == list(range(1, last.result() + 1))
            assert waited == followed
            state: dict[bytes, bytes] = {}
            for event in followed:
                assert event.value is not None
                assert state.get(event.key) == (None if event.previous is None else event.previous.value)
                state[event.key] = event.value
            scan = await client.scan_prefix("k/")
            assert scan.revision > last.result() or {item.key: item.value for item in scan.items} == state

    with LocalCluster(tmp_path) as cluster:
        cluster.start()
        asyncio.run(run(cluster))
