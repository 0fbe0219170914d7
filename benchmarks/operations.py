"""The works of our clients, embedded or remote: what one task does again and again.

`operation_of` gives a function that starts one operation; `measure_operations` lets a number of tasks each await one
after the other. Reads that never suspend are measured by `benchmarks.load.measure_gets`, whose loop costs less.
"""

import random
from array import array
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from itertools import cycle
from time import perf_counter_ns, process_time
from typing import cast

from benchmarks.cases import Sample, Work
from benchmarks.load import VALUE, fresh_keys, known_keys, measure_gets, measure_puts, run_workers, summary
from d_engine.client.api import Client, Consistency
from d_engine.client.operations import Compare, Put

Operation = Callable[[], Awaitable[object]]

HOT_KEYS = 16
BATCH = 100
_WARM_UP_SHARE = 0.15
_SIZES = {"4 KiB values": 4096, "64 KiB values": 65536}


def hot_keys() -> Iterator[bytes]:
    """A few of the known keys, again and again."""
    return cycle(known_keys()[:HOT_KEYS])


def operation_of(client: Client, work: Work) -> Operation:
    """A function that starts one operation of this kind."""
    keys = cycle(known_keys())
    if work.operation == "put":
        value = random.Random(1).randbytes(_SIZES.get(work.variant, len(VALUE)))
        chosen = {"hot keys": hot_keys, "fresh keys": fresh_keys}.get(work.variant, lambda: keys)()
        return lambda: client.put(next(chosen), value)
    if work.operation == "batch":
        return lambda: client.write_batch([Put(next(keys), VALUE) for _ in range(BATCH)])
    if work.operation == "txn":
        return lambda: _transaction(client, next(keys))
    if work.operation == "mixed":
        turns = cycle([*[False] * 9, True])
        return lambda: client.put(next(keys), VALUE) if next(turns) else client.get(next(keys))
    raise ValueError(f"there is no work {work.operation!r}")


def _transaction(client: Client, key: bytes) -> Awaitable[object]:
    return client.txn(when=[Compare.exists(key)], then=[Put(key, VALUE)])


async def measure_operations(operation: Operation, tasks: int, seconds: float) -> Sample:
    """`tasks` tasks that each await one operation after the other, for `seconds` after a short warm-up."""

    async def worker(until: int, latencies: "array[int]") -> None:
        append = latencies.append
        start = perf_counter_ns()
        while start < until:
            await operation()
            end = perf_counter_ns()
            append(end - start)
            start = end

    warm_up, _ = await run_workers(worker, tasks, seconds * _WARM_UP_SHARE)
    cpu = process_time()
    latencies, elapsed = await run_workers(worker, tasks, seconds)
    cpu = process_time() - cpu
    count = len(latencies)
    return summary(latencies, count, elapsed, performed=len(warm_up) + count, cpu=cpu)


async def measure(client: Client, operation: str, variant: str, tasks: int, seconds: float) -> Sample:
    """One case, by whatever measures it best."""
    if operation == "get":
        read = partial(client.get, consistency=cast(Consistency, variant))
        return await measure_gets(read, tasks, seconds)
    if operation == "put" and variant in ("overwrites", "fresh keys"):
        return await measure_puts(client.put, variant, tasks, seconds)
    work = Work(operation, variant)
    return await measure_operations(operation_of(client, work), tasks, seconds)
