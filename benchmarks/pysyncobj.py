"""The subjects `pysyncobj` and `pysyncobj, 1 ms batches`: PySyncObj with its journal, three processes, the load in the
leader's.

It never syncs: what it acknowledges survives a crash of its process and not a loss of power. The load is a number of
calls under way, each of which starts the next one from its callback; so no thread has to be crossed for it.
"""

import asyncio
import sys
import time
from array import array
from collections.abc import Sequence
from importlib.util import find_spec
from itertools import cycle
from pathlib import Path
from threading import Event
from time import perf_counter_ns, process_time
from typing import Any

from benchmarks.cases import Sample, Work
from benchmarks.control import BenchmarkError, Process, run_measured, serve
from benchmarks.load import VALUE, fresh_keys, known_keys, summary
from benchmarks.servers import free_ports

_NODES = 3
_LEADER_SECONDS = 30.0
_WARM_UP_SHARE = 0.15


class PySyncObj:
    """Three processes of this module. `batches`: whether commands wait for the tick, which comes every millisecond."""

    def __init__(self, batches: bool) -> None:
        self._batches = batches
        self.nodes: list[Process] = []

    def start(self, directory: Path) -> None:
        addresses = [f"127.0.0.1:{port}" for port in free_ports(_NODES)]
        for own in addresses:
            folder = directory / own.rpartition(":")[2]
            folder.mkdir()
            others = ",".join(address for address in addresses if address != own)
            self.nodes.append(Process("pysyncobj", own, others, str(folder), str(int(self._batches))))
        self.leader()  # it is not filled: that would take minutes, and its dict does not care

    def run(self, work: Work, tasks: int, seconds: float) -> Sample:
        leader = self.leader()
        others = {
            f"follower {number}": node
            for number, node in enumerate((node for node in self.nodes if node is not leader), 1)
        }
        return run_measured(leader, others, "put", variant=work.variant, tasks=tasks, seconds=seconds)

    def stop(self) -> None:
        for node in self.nodes:
            node.close()
        for node in self.nodes:
            node.stop()
        self.nodes.clear()

    def leader(self) -> Process:
        """The process that leads."""
        until = time.monotonic() + _LEADER_SECONDS
        while time.monotonic() < until:
            leaders = [node for node in self.nodes if node.call("is_leader")]
            if len(leaders) == 1:
                return leaders[0]
            time.sleep(0.1)
        raise BenchmarkError(f"PySyncObj has no leader within {_LEADER_SECONDS:.0f} s")


def why_not() -> str:
    """Why it cannot be measured here; empty if it can."""
    return "" if find_spec("pysyncobj") else "not installed: pysyncobj"


def _put_all(replicated: Any, keys: Any, tasks: int, until: int) -> "array[int]":
    """`tasks` calls under way until that time. Their latencies."""
    latencies = array("Q")
    running = [tasks]
    over, failed = Event(), [0]

    def start() -> None:
        began = perf_counter_ns()

        def ended(result: object, error: int) -> None:
            now = perf_counter_ns()
            latencies.append(now - began)
            failed[0] += bool(error)
            if now < until and not failed[0]:
                start()
            else:
                running[0] -= 1
                if not running[0]:
                    over.set()

        replicated.set(next(keys), VALUE, callback=ended)

    for _ in range(tasks):
        start()
    if not over.wait(60.0) or failed[0]:
        raise BenchmarkError(f"PySyncObj failed {failed[0]} calls")
    return latencies


async def run_node(own: str, others: Sequence[str], folder: Path, batches: bool) -> None:
    """The process of one node."""
    from pysyncobj import SyncObj, SyncObjConf
    from pysyncobj.batteries import ReplDict

    configuration = SyncObjConf(
        journalFile=str(folder / "journal"),
        appendEntriesUseBatch=batches,
        autoTickPeriod=0.001 if batches else 0.05,
        appendEntriesPeriod=0.001 if batches else 0.05,
        commandsQueueSize=1_000_000,
        logCompactionMinEntries=1 << 40,
        logCompactionMinTime=1 << 40,
    )
    replicated = ReplDict()
    node = SyncObj(own, list(others), configuration, consumers=[replicated])

    async def is_leader() -> bool:
        leader = node._getLeader()
        return leader is not None and str(leader) == own and node.isReady()

    async def put(variant: str, tasks: int, seconds: float) -> Sample:
        keys = cycle(known_keys()) if variant == "overwrites" else fresh_keys()

        def run(seconds: float) -> "array[int]":
            return _put_all(replicated, keys, tasks, perf_counter_ns() + int(seconds * 1e9))

        warm_up = await asyncio.to_thread(run, seconds * _WARM_UP_SHARE)
        cpu, start = process_time(), perf_counter_ns()
        latencies = await asyncio.to_thread(run, seconds)
        elapsed, cpu = (perf_counter_ns() - start) / 1e9, process_time() - cpu
        count = len(latencies)
        return summary(latencies, count, elapsed, performed=len(warm_up) + count, cpu=cpu)

    await serve({"is_leader": is_leader, "put": put})


def main(arguments: Sequence[str]) -> None:
    """Own address, the others', directory, whether commands wait for the tick."""
    own, others, folder, batches = arguments
    asyncio.run(run_node(own, others.split(","), Path(folder), batches == "1"))


if __name__ == "__main__":
    main(sys.argv[1:])
