"""The subject `standalone`: three `d-engine serve` processes, and one that makes the load through our client."""

import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvloop

from benchmarks.cases import Sample, Work
from benchmarks.control import BenchmarkError, Process, run_measured, serve
from benchmarks.load import fill
from benchmarks.operations import measure
from benchmarks.servers import ProcessOfServer
from d_engine.client.remote import connect
from d_engine.testing.processes import LocalCluster

_SETTINGS = {"cluster.lease_reads": "true"}
_ATTEMPTS = 3


class Standalone:
    """Four processes. A run during which the leader changed does not count and is repeated."""

    def __init__(self, nodes: int = 3) -> None:
        self._nodes = nodes
        self.cluster: LocalCluster | None = None
        self._load: Process | None = None

    def start(self, directory: Path) -> None:
        self.cluster = LocalCluster(directory / "cluster", self._nodes, _SETTINGS)
        self.cluster.start()
        self.leader()
        self._load = Process("standalone", self.cluster.endpoints)
        self._load.call("fill")

    def run(self, work: Work, tasks: int, seconds: float) -> Sample:
        if self.cluster is None or self._load is None:
            raise BenchmarkError("the subject was not started")
        for _ in range(_ATTEMPTS):
            leader = self.leader()
            servers = {"leader": ProcessOfServer(self.cluster.nodes[leader].pid)} | {
                f"follower {number}": ProcessOfServer(node.pid)
                for number, node in self.cluster.nodes.items()
                if number != leader
            }
            arguments = {"operation": work.operation, "variant": work.variant}
            sample = run_measured(self._load, servers, "measure", **arguments, tasks=tasks, seconds=seconds)
            if self.leader() == leader:
                return sample
        raise BenchmarkError(f"the leader changed during each of {_ATTEMPTS} runs")

    def leader(self) -> int:
        """The number of the node that leads."""
        if self.cluster is None:
            raise BenchmarkError("the subject was not started")
        return asyncio.run(self.cluster.wait_leader())

    def stop(self) -> None:
        if self._load is not None:
            self._load.stop()
        if self.cluster is not None:
            self.cluster.kill_all()
        self._load = self.cluster = None


async def run_load(endpoints: str) -> None:
    """The process that makes the load."""
    async with connect(endpoints, connect_timeout=20.0) as client:
        await serve({"fill": partial(fill, client.put), "measure": partial(measure, client)})


def main(arguments: Sequence[str]) -> None:
    """The endpoints."""
    (endpoints,) = arguments
    uvloop.run(run_load(endpoints))


if __name__ == "__main__":
    main(sys.argv[1:])
