"""The subject `embedded`: three engines in three processes, the load on an application's loop in the leader's, or in a
follower's."""

import socket
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import uvloop

from benchmarks.cases import KEY_COUNT, Sample, Work
from benchmarks.control import BenchmarkError, Process, run_measured, serve
from benchmarks.load import fill
from benchmarks.operations import measure
from d_engine.engine.config import load_config
from d_engine.engine.embedded import EmbeddedEngine

NODES = 3
_LEADER_SECONDS = 20.0
_ATTEMPTS = 3


class Embedded:
    """Three processes of this module. A run during which the leader changed does not count and is repeated."""

    module = "embedded"
    """Of the processes."""

    def __init__(self, from_follower: bool = False, nodes: int = NODES, keys: int = KEY_COUNT) -> None:
        self._nodes: list[Process] = []
        self._from_follower = from_follower
        self._count = nodes
        self._keys = keys

    def start(self, directory: Path) -> None:
        members = ",".join(
            f"{number}={address}" for number, address in enumerate(free_addresses(self._count), 1)
        )
        for number in range(1, self._count + 1):
            own = directory / f"node-{number}"
            own.mkdir()
            self._nodes.append(Process(self.module, str(number), str(own), members))
        self.fill(self._keys)

    def fill(self, keys: int) -> None:
        """There are so many known keys from now on."""
        self._keys = keys
        self.leader().call("fill", keys=keys)

    def run(self, work: Work, tasks: int, seconds: float) -> Sample:
        for _ in range(_ATTEMPTS):
            leader = self.leader()
            loaded = next(node for node in self._nodes if (node is not leader) == self._from_follower)
            others = {
                "leader" if node is leader else f"follower {number}": node
                for number, node in enumerate(self._nodes, 1)
                if node is not loaded
            }
            arguments = {"operation": work.operation, "variant": work.variant}
            sample = run_measured(loaded, others, "measure", **arguments, tasks=tasks, seconds=seconds)
            if self.leader() is leader:
                return sample
        raise BenchmarkError(f"the leader changed during each of {_ATTEMPTS} runs")

    def stop(self) -> None:
        for node in self._nodes:
            node.close()
        for node in self._nodes:
            node.stop()
        self._nodes.clear()

    def leader(self) -> Process:
        """The process that leads."""
        until = time.monotonic() + _LEADER_SECONDS
        while time.monotonic() < until:
            leaders = [node for node in self._nodes if node.call("is_leader")]
            if len(leaders) == 1:
                return leaders[0]
            time.sleep(0.1)
        raise BenchmarkError(f"no leader within {_LEADER_SECONDS:.0f} s")


def free_addresses(count: int) -> Sequence[str]:
    """Addresses on the loopback that nobody listens on."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in sockets]
    for each in sockets:
        each.close()
    return addresses


async def run_node(
    number: int,
    directory: Path,
    members: str,
    more: Mapping[str, Callable[..., Awaitable[object]]] | None = None,
) -> None:
    """The process of one node. `more` can be asked for, too; it gets the client's `put`."""
    addresses = dict(member.split("=") for member in members.split(","))
    config = load_config(
        environ={},
        overrides={
            "node.id": number,
            "node.data_dir": str(directory),
            "cluster.listen": addresses[str(number)],
            "cluster.initial": members,
            "cluster.lease_reads": True,
        },
    )
    async with EmbeddedEngine(config=config) as engine:
        client = engine.client

        async def is_leader() -> bool:
            return engine.is_leader

        await serve(
            {
                "is_leader": is_leader,
                "fill": partial(fill, client.put),
                "measure": partial(measure, client),
                **{name: partial(handler, client.put) for name, handler in (more or {}).items()},
            }
        )


def main(arguments: Sequence[str]) -> None:
    """Number, directory, and all members as `1=host:port,2=...`."""
    number, directory, members = arguments
    uvloop.run(run_node(int(number), Path(directory), members))


if __name__ == "__main__":
    main(sys.argv[1:])
