"""`d-engine bench`: a quick load on a cluster that runs. (`make bench` of the sources compares with others.)"""

import asyncio
import os
from collections.abc import Awaitable, Callable
from time import perf_counter

import click

from d_engine.cli.common import (
    ask,
    endpoints_option,
    fails_clearly,
    output_option,
    print_document,
    timeout_option,
)
from d_engine.client.api import Client


@click.command()
@click.option(
    "--tasks", type=click.IntRange(1, 100_000), default=100, show_default=True, help="Concurrent tasks."
)
@click.option(
    "--seconds", type=click.FloatRange(min=0.1), default=3.0, show_default=True, help="For how long."
)
@click.option("--reads", is_flag=True, help="Read (linearizably) instead of writing.")
@click.option(
    "--value-size", type=click.IntRange(0), default=256, show_default=True, help="Bytes of a value."
)
@click.option(
    "--prefix", default="bench/", show_default=True, help="Of the keys; they are deleted afterwards."
)
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def bench(
    tasks: int,
    seconds: float,
    reads: bool,
    value_size: int,
    prefix: str,
    endpoints: str,
    output: str,
    timeout: float,
) -> None:
    """Operations a second, and how long each took."""

    async def run(client: Client) -> list[float]:
        keys = [f"{prefix}{number}" for number in range(tasks)]
        value = os.urandom(value_size)

        async def write(key: str) -> None:
            await client.put(key, value)

        async def read(key: str) -> None:
            await client.get(key)

        try:
            return await _load(keys, seconds, read if reads else write)
        finally:
            for key in keys:
                await client.delete(key)

    durations = sorted(ask(endpoints, timeout, run))
    count = len(durations)
    rate = count / seconds
    p50, p99 = durations[count // 2] * 1e3, durations[min(count - 1, count * 99 // 100)] * 1e3
    if output == "json":
        print_document({"operations": count, "per_second": rate, "p50_ms": p50, "p99_ms": p99})
    else:
        kind = "linearizable reads" if reads else "durable writes"
        click.echo(f"{rate:,.0f} {kind}/s with {tasks} tasks; p50 {p50:.2f} ms, p99 {p99:.2f} ms")


async def _load(keys: list[str], seconds: float, operate: Callable[[str], Awaitable[None]]) -> list[float]:
    durations: list[float] = []
    end = perf_counter() + seconds

    async def worker(key: str) -> None:
        before = perf_counter()
        while before < end:
            await operate(key)
            after = perf_counter()
            durations.append(after - before)
            before = after

    async with asyncio.TaskGroup() as group:
        for key in keys:
            group.create_task(worker(key))
    return durations
