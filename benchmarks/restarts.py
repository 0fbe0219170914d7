"""How long writes stand still when the leader is restarted in order, and when it is killed.

    python -m benchmarks.restarts                five of each
    python -m benchmarks.restarts --rounds 20

Three real nodes, a remote client with 100 tasks that write without end. The leader gets SIGTERM (it hands its
leadership over, then stops) or SIGKILL (the others must first miss it), and is started again. A standstill is the
longest time around that moment in which nobody's write came back. A write that fails ends the benchmark with an error.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from d_engine.client.remote import RemoteClient, connect
from d_engine.testing.processes import LocalCluster

TASKS = 100
VALUE = b"v" * 256
_CALM_SECONDS = 1.0
_WATCHED_SECONDS = 3.0


class Standstill:
    """The writers, and the longest time without an acknowledgement since `begin`."""

    def __init__(self, client: RemoteClient) -> None:
        self.longest = 0.0
        self.writes = 0
        self._last = time.perf_counter()
        self.tasks = [asyncio.create_task(self._write(client, number)) for number in range(TASKS)]

    def begin(self) -> None:
        self.longest, self.writes = 0.0, 0

    async def _write(self, client: RemoteClient, number: int) -> None:
        turn = 0
        while True:
            turn += 1
            await client.put(f"{number}.{turn % 50}", VALUE)
            now = time.perf_counter()
            self.longest, self._last = max(self.longest, now - self._last), now
            self.writes += 1

    async def watch(self, seconds: float) -> float:
        """Let time pass. Raises what a write raised."""
        done, _ = await asyncio.wait(self.tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
        return self.longest


async def restart_leader(cluster: LocalCluster, writers: Standstill, how: signal.Signals) -> float:
    """Seconds of standstill."""
    leader = cluster.nodes[await cluster.wait_leader()]
    await writers.watch(_CALM_SECONDS)
    writers.begin()
    leader.signal(how)
    longest = await writers.watch(_WATCHED_SECONDS)
    await asyncio.to_thread(leader.wait)
    leader.start()
    await cluster.wait_leader()
    await cluster.wait_caught_up(leader.node_id)
    return longest


async def measure(cluster: LocalCluster, rounds: int) -> None:
    await cluster.wait_leader()
    async with connect(cluster.endpoints, request_timeout=20.0) as client:
        writers = Standstill(client)
        for words, how in (("handed over (SIGTERM)", signal.SIGTERM), ("killed (SIGKILL)", signal.SIGKILL)):
            found = [await restart_leader(cluster, writers, how) * 1000 for _ in range(rounds)]
            print(
                f"leader {words:22}  writes stand still for {median(found):.0f} ms in the median, "
                f"{max(found):.0f} ms at most, of {rounds}"
            )
        for task in writers.tasks:
            task.cancel()
        await asyncio.gather(*writers.tasks, return_exceptions=True)


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.restarts", description="How long writes stand still."
    )
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder, LocalCluster(Path(folder) / "cluster") as cluster:
        cluster.start()
        asyncio.run(measure(cluster, arguments.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
