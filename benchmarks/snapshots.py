"""What a snapshot costs those who write meanwhile, and how long a start from one takes.

    python -m benchmarks.snapshots                     1,000,000 keys of 256 bytes, about three minutes
    python -m benchmarks.snapshots --keys 200000

One node, embedded; 100 tasks overwrite random keys all the time. First for a while in quiet, then while snapshots are
taken, one after the other. Printed are the latencies of the writes, and the pauses of the engine's event loop: how much
later than it was due a timer of one millisecond comes. Then the node is stopped and started again.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from array import array
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from random import Random
from time import perf_counter, perf_counter_ns

from d_engine.engine.config import EngineConfig
from d_engine.engine.embedded import EmbeddedEngine

TASKS = 100
VALUE = b"v" * 256
_TICK_SECONDS = 0.001
_BATCH = 1000


def key(number: int) -> bytes:
    return b"key%012d" % number


class Pauses:
    """How late the engine's loop is, sampled all the time."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self.late = array("Q")
        self._ticking: Future[None] = engine.node.thread.run(self._tick())

    async def _tick(self) -> None:
        while True:
            due = perf_counter_ns() + int(_TICK_SECONDS * 1e9)
            await asyncio.sleep(_TICK_SECONDS)
            self.late.append(max(0, perf_counter_ns() - due))

    def stop(self) -> None:
        self._ticking.cancel()


def millisecond_at(values: "array[int]", share: float) -> float:
    """The value below which so large a share of them is."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] / 1e6


async def write_during(engine: EmbeddedEngine, keys: int, work: Callable[[], Awaitable[None]]) -> None:
    """Overwrite while the work goes on, and print what it was like."""
    latencies, over = array("Q"), False

    async def task(number: int) -> None:
        random, client = Random(number), engine.client
        while not over:
            before = perf_counter_ns()
            await client.put(key(random.randrange(keys)), VALUE)
            latencies.append(perf_counter_ns() - before)

    pauses = Pauses(engine)
    began = perf_counter()
    writers = [asyncio.create_task(task(number)) for number in range(TASKS)]
    await work()
    over = True
    await asyncio.gather(*writers)
    seconds = perf_counter() - began
    pauses.stop()
    print(
        f"    {len(latencies) / seconds:>9,.0f} writes/s"
        f"   p50 {millisecond_at(latencies, 0.5):.2f} ms"
        f"   p99 {millisecond_at(latencies, 0.99):.2f} ms"
        f"   longest {max(latencies) / 1e6:.1f} ms"
        f"   pauses of the loop: p99 {millisecond_at(pauses.late, 0.99):.2f} ms,"
        f" longest {max(pauses.late) / 1e6:.1f} ms",
        flush=True,
    )


async def fill(engine: EmbeddedEngine, keys: int) -> None:
    for start in range(0, keys, _BATCH):
        numbers = range(start, min(start + _BATCH, keys))
        await asyncio.gather(*(engine.client.put(key(number), VALUE) for number in numbers))


async def measure(directory: Path, keys: int, seconds: float, snapshots: int) -> None:
    config = EngineConfig.single_node(directory)
    async with EmbeddedEngine(config=config) as engine:
        print(f"{keys:,} keys of {len(VALUE)} bytes are written", flush=True)
        await fill(engine, keys)
        print(f"quiet, {seconds:g} s")
        await write_during(engine, keys, lambda: asyncio.sleep(seconds))

        async def take() -> None:
            for _ in range(snapshots):
                began = perf_counter()
                taken = await engine.take_snapshot()
                print(f"    {taken.size_bytes / 1e6:.1f} MB in {perf_counter() - began:.1f} s", flush=True)

        print(f"while {snapshots} snapshots are taken, one after the other")
        await write_during(engine, keys, take)
        await engine.take_snapshot()
    began = perf_counter()
    async with EmbeddedEngine(config=config) as engine:
        ready = perf_counter() - began
        metrics = (await engine.client.status()).metrics
        print(f"started from a snapshot of {metrics['snapshot_bytes'] / 1e6:.1f} MB in {ready:.1f} s")


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--snapshots", type=int, default=2)
    parser.add_argument("--directory", default="/var/tmp", help="where the data goes: not into memory")
    options = parser.parse_args(arguments)
    directory = Path(tempfile.mkdtemp(prefix="d-engine-snapshots-", dir=options.directory))
    try:
        asyncio.run(measure(directory / "data", options.keys, options.seconds, options.snapshots))
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main(sys.argv[1:])
