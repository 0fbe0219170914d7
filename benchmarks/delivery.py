"""How long it takes from a write to the watchers, at a steady rate.

    python -m benchmarks.delivery                     1,000 writes a second for 10 s: 1, 10, 100 watchers
    python -m benchmarks.delivery --rate 200 --seconds 5

Three real nodes on the loopback, logs on the disk. One remote client writes, each write at its own time whether or not
the ones before are done; another client watches the written prefix. Counted is from the call of `put` until the writer
has its acknowledgement, and until the event is in the hands of the application that iterates over the first of the
watches; and the time between the two, which no disk is in (0: the event was there first). Both clients are in this
process, and so on one clock. Every event must come.
"""

import argparse
import asyncio
import sys
import tempfile
from array import array
from collections.abc import Sequence
from pathlib import Path
from time import perf_counter_ns

from benchmarks.snapshots import millisecond_at
from d_engine.client.remote import RemoteClient, connect
from d_engine.testing.processes import LocalCluster

PREFIX = "watched/"
KEYS = 1000
_WARM_UP_SECONDS = 1.0
_PATIENCE_SECONDS = 30.0


class Latencies:
    """When each put was called, was acknowledged and came as an event: nanoseconds, by its number."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.called, self.acknowledged, self.told = (array("Q", bytes(8 * count)) for _ in range(3))

    def between(self, first: "array[int]", second: "array[int]") -> "array[int]":
        """How much later the second thing happened."""
        return array("Q", (max(0, later - sooner) for sooner, later in zip(first, second, strict=True)))

    async def watch(self, client: RemoteClient, entered: asyncio.Barrier, notes: bool) -> None:
        """Until all events have come."""
        left = self.count
        async with client.watch(prefix=PREFIX) as watch:
            await entered.wait()
            async for batch in watch:
                now = perf_counter_ns()
                left -= len(batch.events)
                if notes:
                    for event in batch.events:
                        self.told[int(event.value or b"")] = now
                if left <= 0:
                    return

    async def write(self, client: RemoteClient, number: int) -> None:
        self.called[number] = perf_counter_ns()
        await client.put(f"{PREFIX}{number % KEYS}", str(number))
        self.acknowledged[number] = perf_counter_ns()


async def write_steadily(latencies: Latencies, client: RemoteClient, rate: float) -> None:
    """So many a second, whatever becomes of them."""
    loop = asyncio.get_running_loop()
    began, tasks = loop.time(), []
    for number in range(latencies.count):
        delay = began + number / rate - loop.time()
        if delay > 0:
            await asyncio.sleep(delay)
        tasks.append(asyncio.create_task(latencies.write(client, number)))
    await asyncio.gather(*tasks)


async def deliver(cluster: LocalCluster, watchers: int, rate: float, seconds: float) -> Latencies:
    async with connect(cluster.endpoints) as writer, connect(cluster.endpoints) as reader:
        latencies, entered = Latencies(int(rate * seconds)), asyncio.Barrier(watchers + 1)
        watching = [
            asyncio.create_task(latencies.watch(reader, entered, number == 0)) for number in range(watchers)
        ]
        await entered.wait()
        await write_steadily(latencies, writer, rate)
        async with asyncio.timeout(_PATIENCE_SECONDS):
            await asyncio.gather(*watching)
        return latencies


async def measure(cluster: LocalCluster, watchers: Sequence[int], rate: float, seconds: float) -> None:
    await cluster.wait_leader()
    await deliver(cluster, 1, rate, _WARM_UP_SECONDS)
    for number in watchers:
        latencies = await deliver(cluster, number, rate, seconds)
        called, acknowledged, told = latencies.called, latencies.acknowledged, latencies.told
        for what, values in (
            ("put to acknowledgement", latencies.between(called, acknowledged)),
            ("put to event", latencies.between(called, told)),
            ("acknowledgement to event", latencies.between(acknowledged, told)),
        ):
            print(
                f"{number:>5} watchers, {rate:g} writes/s, {what:24}"
                f"   p50 {millisecond_at(values, 0.5):.2f} ms"
                f"   p99 {millisecond_at(values, 0.99):.2f} ms"
                f"   longest {max(values) / 1e6:.1f} ms   of {len(values):,}",
                flush=True,
            )


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--watchers", type=int, nargs="+", default=[1, 10, 100])
    parser.add_argument("--rate", type=float, default=1000.0, help="writes a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="for each number of watchers")
    parser.add_argument("--directory", default="/var/tmp", help="where the data goes: not into memory")
    options = parser.parse_args(arguments)
    with (
        tempfile.TemporaryDirectory(prefix="d-engine-delivery-", dir=options.directory) as directory,
        LocalCluster(Path(directory), 3) as cluster,
    ):
        cluster.start()
        asyncio.run(measure(cluster, options.watchers, options.rate, options.seconds))


if __name__ == "__main__":
    main(sys.argv[1:])
