"""What is no rate: failover, memory, start, growth. Each function gives a table."""

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from time import perf_counter

from benchmarks.cases import KEY_COUNT, Work
from benchmarks.embedded import Embedded
from benchmarks.etcd import Etcd, program_of, why_not
from benchmarks.load import VALUE
from benchmarks.servers import ProcessOfServer
from benchmarks.standalone import Standalone
from d_engine.client.remote import connect
from d_engine.format.errors import DEngineError
from d_engine.testing.processes import LocalCluster

Table = Sequence[Sequence[str]]

_PUTS = Work("put", "overwrites")
_LINEARIZABLE = Work("get", "linearizable")
_ATTEMPT_SECONDS = 0.2
_SETTLE_SECONDS = 1.0


async def _writes_without_pause(endpoints: str, times: list[float], over: asyncio.Event) -> None:
    """One write after the other; note when each was acknowledged."""
    async with connect(endpoints, connect_timeout=20.0) as client:
        number = 0
        while not over.is_set():
            number += 1
            try:
                await client.put(b"failover", b"%d" % number, timeout=10.0)
            except (DEngineError, TimeoutError):
                continue
            times.append(perf_counter())


async def _kill_leaders(cluster: LocalCluster, kills: int) -> list[float]:
    times: list[float] = []
    over = asyncio.Event()
    writers = [asyncio.create_task(_writes_without_pause(cluster.endpoints, times, over)) for _ in range(4)]
    pauses = []
    for _ in range(kills):
        leader = await cluster.wait_leader()
        await cluster.wait_caught_up(leader)
        await asyncio.sleep(_SETTLE_SECONDS)
        killed = perf_counter()
        cluster.nodes[leader].kill()
        while not times or times[-1] < killed + _ATTEMPT_SECONDS:  # noqa: ASYNC110 - no event a write
            await asyncio.sleep(0.01)
        # The longest time without a write since shortly before the kill: the first ones may still have been under way.
        around = [killed, *(each for each in times if each >= killed)]
        pauses.append(max(later - earlier for earlier, later in pairwise(around)))
        cluster.nodes[leader].start()
    over.set()
    await asyncio.gather(*writers)
    return pauses


def failover(directory: Path, kills: int = 20) -> Table:
    """Seconds without an acknowledged write after SIGKILL of the leader, default time-outs, as a client sees it."""
    with LocalCluster(directory / "failover") as cluster:
        cluster.start()
        pauses = sorted(asyncio.run(_kill_leaders(cluster, kills)))
    return [
        ["d-engine, default time-outs", "kills", "best", "median", "worst"],
        [
            "seconds without writes",
            str(kills),
            f"{pauses[0]:.2f}",
            f"{median(pauses):.2f}",
            f"{pauses[-1]:.2f}",
        ],
    ]


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.0f} MB"


def memory(directory: Path) -> Table:
    """Resident memory of each process with 100,000 keys."""
    rows = [["resident, 100,000 keys of 8 + 256 bytes", "leader", "follower", "follower"]]
    standalone = Standalone()
    (directory / "memory").mkdir()
    try:
        standalone.start(directory / "memory")
        time.sleep(_SETTLE_SECONDS)
        leader, nodes = standalone.leader(), standalone.cluster
        if nodes is not None:
            order = sorted(nodes.nodes, key=lambda number: number != leader)
            sizes = [ProcessOfServer(nodes.nodes[number].pid).memory_bytes() for number in order]
            rows.append(["d-engine", *map(_megabytes, sizes)])
    finally:
        standalone.stop()
    for release in ("3.4", "3.5"):
        if not why_not(release):
            etcd = Etcd(program_of(release))
            own = directory / f"memory-{release}"
            own.mkdir()
            try:
                etcd.start(own)
                rows.append([f"etcd {release}", *map(_megabytes, etcd.memory_bytes().values())])
            finally:
                etcd.stop()
    return rows


def growth(directory: Path, seconds: float) -> Table:
    """Embedded writes and reads with 100 tasks, for 1, 3 and 5 nodes, and for more and more keys."""
    rows = [
        [
            "embedded, 100 tasks",
            "keys",
            "put",
            "p50 / p99, longest",
            "linearizable get",
            "CPU s per 10,000 puts",
        ]
    ]
    for nodes, counts in ((1, (KEY_COUNT,)), (5, (KEY_COUNT,)), (3, (10_000, 100_000, 1_000_000))):
        subject = Embedded(nodes=nodes, keys=counts[0])
        own = directory / f"growth-{nodes}"
        own.mkdir()
        try:
            subject.start(own)
            for count in counts:
                subject.fill(count)
                put = subject.run(_PUTS, 100, seconds)
                get = subject.run(_LINEARIZABLE, 100, seconds)
                rows.append(
                    [
                        f"{nodes} node{'s' if nodes > 1 else ''}",
                        f"{count:,}",
                        f"{put.rate:,.0f}/s",
                        f"{put.p50_us / 1000:.2f} / {put.p99_us / 1000:.2f} ms, {put.max_us / 1000:.0f} ms",
                        f"{get.rate:,.0f}/s",
                        " + ".join(f"{each / 100:.3f}" for each in put.cpu_us.values()),
                    ]
                )
        finally:
            subject.stop()
    return rows


async def _start_and_stop(cluster: LocalCluster, keys: int) -> tuple[float, float]:
    """Seconds until three new processes have a leader; and until they have one again, with so many keys logged."""
    began = perf_counter()
    cluster.start()
    await cluster.wait_leader()
    empty = perf_counter() - began
    async with connect(cluster.endpoints) as client:
        for start in range(0, keys, 500):
            puts = (client.put(b"%08d" % number, VALUE) for number in range(start, start + 500))
            await asyncio.gather(*puts)
    cluster.kill_all()
    began = perf_counter()
    cluster.start()
    await cluster.wait_leader()
    return empty, perf_counter() - began


def start(directory: Path, keys: int = 100_000) -> Table:
    """From the start of three processes to a leader that serves."""
    with LocalCluster(directory / "start") as cluster:
        empty, full = asyncio.run(_start_and_stop(cluster, keys))
    return [
        ["three processes, from exec to a leader that serves", "empty", f"{keys:,} keys in the log"],
        ["d-engine", f"{empty:.2f} s", f"{full:.2f} s"],
    ]


def all_tables(directory: Path, seconds: float) -> dict[str, Table]:
    """By title."""
    return {
        "Failover": failover(directory),
        "Memory": memory(directory),
        "Start": start(directory),
        "Growth": growth(directory, seconds),
    }
