"""Killed at every system call of saving a snapshot, and of installing one: what the next process finds is what was
before or what was to be, nothing between. (Faults page, scenario 18.)"""

import asyncio
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from d_engine.client.remote import connect
from d_engine.engine.rescue import Surviving
from d_engine.format.errors import DEngineError, OutcomeUnknownError
from d_engine.kv.machine import KvStateMachine
from d_engine.testing.processes import LocalCluster, ServerProcess, free_ports
from tests.system.strace import Strace, need_strace

pytestmark = pytest.mark.slow
CALLS = ("renameat", "fsync", "fdatasync", "pwritev,pwritev2", "unlinkat", "openat")
"""Those that make a snapshot, and one that reading back makes, of which there are too many to die at each."""
SAMPLED = {"openat": (1, 2, 20)}
BUDGET_SECONDS = 110.0
"""Then it has to do: a slow machine sees fewer of the last kind of call."""
KEYS = 60
VALUE = b"v" * 40_000


class Deaths:
    """Which call is to be the last: each kind, the first, second... of it, until there are no more."""

    def __init__(self) -> None:
        self.died: dict[str, int] = dict.fromkeys(CALLS, 0)
        self.alive = False
        """The last one that was asked for did not come."""

    def __iter__(self) -> Iterator[tuple[str, str]]:
        deadline = time.monotonic() + BUDGET_SECONDS
        for call in CALLS:
            for nth in SAMPLED.get(call, range(1, 40)):
                if time.monotonic() > deadline:
                    return
                yield call, f"{call}:signal=KILL:when={nth}"
                if self.alive:
                    break
                self.died[call] += 1

    def check(self) -> None:
        """The disk was written to, synced and renamed on, and each of it was the last thing once."""
        assert all(self.died[call] for call in CALLS[:4]), self.died


def contents(node: ServerProcess) -> tuple[list[int], int, int]:
    """What a start would find: the snapshots' indexes, newest first; the last index; how many keys. All is whole."""
    with Surviving(node.data_dir) as surviving:
        assert surviving.report.damage == ()
        machine = surviving.state.applier.state_machine
        assert isinstance(machine, KvStateMachine)
        return (
            [each.meta.index for each in surviving.report.snapshots],
            surviving.state.last_index,
            machine.store.count,
        )


async def fill(cluster: LocalCluster) -> None:
    async with connect(cluster.endpoints, request_timeout=20.0) as client:
        await asyncio.gather(*(client.put(f"key {number}", VALUE) for number in range(KEYS)))


def test_saving(tmp_path: Path) -> None:
    need_strace()
    deaths = Deaths()

    async def save_and_die(node: ServerProcess, fault: str) -> tuple[int, int]:
        """The index of the snapshot before, and of what is applied."""
        async with connect(node.address, discover=False, request_timeout=20.0) as client:
            await client.put("turn", fault)
            status = await client.status()
            before = int(status.metrics["snapshot_index"])
            with Strace(node.pid, fault, tmp_path / "trace"):
                try:
                    await client.take_snapshot(timeout=20.0)
                except OutcomeUnknownError:
                    assert await asyncio.to_thread(node.wait) == -signal.SIGKILL
        return before, status.applied_index

    async def run(cluster: LocalCluster) -> None:
        await cluster.wait_leader()
        await fill(cluster)
        node = cluster.nodes[1]
        for _, fault in deaths:
            before, applied = await save_and_die(node, fault)
            deaths.alive = node.running
            if node.running:
                continue
            indexes, last_index, keys = contents(node)
            assert (last_index, keys) == (applied, KEYS + 1), fault
            assert indexes[:1] in ([before] if before else [], [before], [applied]), (fault, indexes)
            node.start()
            await cluster.wait_leader()

    with LocalCluster(tmp_path, 1) as cluster:
        cluster.start()
        asyncio.run(run(cluster))
    deaths.check()


def test_installing(tmp_path: Path) -> None:
    """Each time by a newcomer, whose first entries the leader does not have any more."""
    need_strace()
    deaths = Deaths()

    async def until_dead_or_equal(cluster: LocalCluster, node: ServerProcess) -> None:
        equal = asyncio.ensure_future(cluster.wait_caught_up(node.node_id, 60))
        while node.running and not equal.done():
            await asyncio.sleep(0.02)
        equal.cancel()
        with suppress(asyncio.CancelledError, DEngineError, TimeoutError):
            await equal

    async def join_and_die(cluster: LocalCluster, leader: ServerProcess, number: int, fault: str) -> None:
        (port,) = free_ports(1)
        joining = {"cluster.join": leader.address, "cluster.read_only": "true"}
        node = cluster.nodes[number] = ServerProcess(number, tmp_path, f"127.0.0.1:{port}", joining)
        leader.signal(signal.SIGSTOP)
        node.start()
        while not node.log.exists() or "serves at" not in node.log.read_text():
            await asyncio.sleep(0.02)
        with Strace(node.pid, fault, tmp_path / "trace"):
            leader.signal(signal.SIGCONT)
            await until_dead_or_equal(cluster, node)
        deaths.alive = node.running
        if not node.running:
            indexes, last_index, keys = contents(node)
            assert keys == (KEYS if indexes else 0), (fault, indexes, last_index)
            node.start()
            await cluster.wait_caught_up(number, 60)
        node.kill()
        assert contents(node)[2] == KEYS, fault
        del cluster.nodes[number]

    async def run(cluster: LocalCluster) -> None:
        await cluster.wait_leader()
        await fill(cluster)
        old = cluster.nodes[1]
        old.kill()
        # The log of a recovered node begins with its snapshot.
        with Surviving(old.data_dir) as surviving:
            surviving.recover(tmp_path / "recovered" / "node1")
        leader = cluster.nodes[1] = ServerProcess(1, tmp_path / "recovered", old.address, {})
        leader.start()
        await cluster.wait_leader()
        for number, (_, fault) in enumerate(deaths, 2):
            await join_and_die(cluster, leader, number, fault)

    with LocalCluster(tmp_path, 1) as cluster:
        cluster.start()
        asyncio.run(run(cluster))
    deaths.check()
