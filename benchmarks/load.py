"""The load: N tasks, each with one operation at a time.

Latencies are taken with one clock reading per operation: the end of one is the start of the next. That is about 60 ns;
beside a write it does not show, beside a read that never suspends it does. So reads are run twice, once without any
clock between them for the rate, and once with it for the percentiles.
"""

import asyncio
import random
from array import array
from collections.abc import Awaitable, Callable, Iterator
from itertools import cycle, islice
from math import ceil
from time import perf_counter, perf_counter_ns, process_time

from benchmarks.cases import KEY_BYTES, KEY_COUNT, VALUE_BYTES, Sample

Put = Callable[[bytes, bytes], Awaitable[object]]
Get = Callable[[bytes], Awaitable[object]]

_NANOSECONDS = 1_000_000_000
_WARM_UP_SHARE = 0.15
_FILL_TASKS = 500

VALUE = random.Random(256).randbytes(VALUE_BYTES)


_keys: list[bytes] = []


def known_keys(count: int | None = None) -> list[bytes]:
    """The keys of overwrites and gets, in random order, the same in every process. There are `KEY_COUNT`, or as many as
    this process was told last."""
    if len(_keys) != (count or len(_keys) or KEY_COUNT):
        _keys[:] = [number.to_bytes(KEY_BYTES, "big") for number in range(count or KEY_COUNT)]
        random.Random(len(_keys)).shuffle(_keys)
    return _keys


def fresh_keys() -> Iterator[bytes]:
    """Random keys that nobody had before, in slabs, because asking for eight random bytes at a time is slow."""
    source = random.SystemRandom()
    while True:
        slab = source.randbytes(KEY_BYTES * 1024)
        for offset in range(0, len(slab), KEY_BYTES):
            yield slab[offset : offset + KEY_BYTES]


async def fill(put: Put, keys: int = KEY_COUNT) -> None:
    """Write every known key once."""
    unwritten = iter(known_keys(keys))

    async def writer() -> None:
        for key in unwritten:
            await put(key, VALUE)

    await asyncio.gather(*(writer() for _ in range(_FILL_TASKS)))


async def measure_puts(put: Put, variant: str, tasks: int, seconds: float) -> Sample:
    """`tasks` tasks that each await one put after the other, for `seconds` after a short warm-up."""
    keys = cycle(known_keys()) if variant == "overwrites" else fresh_keys()

    async def writer(until: int, latencies: "array[int]") -> None:
        append = latencies.append
        start = perf_counter_ns()
        while start < until:
            await put(next(keys), VALUE)
            end = perf_counter_ns()
            append(end - start)
            start = end

    warm_up, _ = await run_workers(writer, tasks, seconds * _WARM_UP_SHARE)
    cpu = process_time()
    latencies, elapsed = await run_workers(writer, tasks, seconds)
    cpu = process_time() - cpu
    count = len(latencies)
    return summary(latencies, count, elapsed, performed=len(warm_up) + count, cpu=cpu)


async def measure_gets(get: Get, tasks: int, seconds: float) -> Sample:
    """The same for gets: half of the time for the rate, half for the percentiles."""
    keys = cycle(known_keys())
    in_a_row = 64 if tasks == 1 else 8

    async def plain_reader(until: int, counts: "array[int]") -> None:
        count = 0
        while perf_counter_ns() < until:
            for key in islice(keys, in_a_row):
                await get(key)
            count += in_a_row
        counts.append(count)

    async def timed_reader(until: int, latencies: "array[int]") -> None:
        append = latencies.append
        start = perf_counter_ns()
        while start < until:
            await get(next(keys))
            end = perf_counter_ns()
            append(end - start)
            start = end

    warm_up, _ = await run_workers(plain_reader, tasks, seconds * _WARM_UP_SHARE)
    cpu = process_time()
    counts, elapsed = await run_workers(plain_reader, tasks, seconds / 2)
    cpu = process_time() - cpu
    latencies, _ = await run_workers(timed_reader, tasks, seconds / 2)
    count = sum(counts)
    return summary(latencies, count, elapsed, performed=sum(warm_up) + count + len(latencies), cpu=cpu)


async def run_workers(
    worker: Callable[[int, "array[int]"], Awaitable[None]], tasks: int, seconds: float
) -> "tuple[array[int], float]":
    numbers = array("Q")
    start = perf_counter()
    until = perf_counter_ns() + int(seconds * _NANOSECONDS)
    await asyncio.gather(*(worker(until, numbers) for _ in range(tasks)))
    return numbers, perf_counter() - start


def summary(
    latencies: "array[int]", operations: int, elapsed: float, *, performed: int = 0, cpu: float | None = None
) -> Sample:
    """Rate and exact percentiles of one run; `cpu` is what this process spent on it, in seconds."""
    ordered = sorted(latencies)
    return Sample(
        operations=operations,
        seconds=elapsed,
        performed=performed or operations,
        p50_us=percentile(ordered, 50) / 1000,
        p99_us=percentile(ordered, 99) / 1000,
        max_us=ordered[-1] / 1000,
        cpu_us={} if cpu is None else {"load": cpu * 1e6 / operations},
    )


def percentile(ordered: list[int], percent: int) -> int:
    """The smallest value that at least `percent` of a hundred values do not exceed."""
    return ordered[max(0, ceil(len(ordered) * percent / 100) - 1)]
