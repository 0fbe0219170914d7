"""Commands about snapshots."""

import click

from d_engine.cli.common import (
    endpoints_option,
    fails_clearly,
    output_option,
    print_document,
    run_loop,
)
from d_engine.client.api import SnapshotInfo
from d_engine.client.remote import connect


@click.group()
def snapshot() -> None:
    """Snapshots of a node's state. Nodes take them by themselves as their logs grow."""


@snapshot.command()
@endpoints_option
@output_option
@click.option(
    "--timeout",
    type=click.FloatRange(min=0.001),
    default=600.0,
    show_default=True,
    help="Seconds to wait until it is on stable storage.",
)
@fails_clearly
def now(endpoints: str, output: str, timeout: float) -> None:
    """Let the node at the endpoint take one of what it has applied, and wait until it is on stable storage."""

    async def ask() -> SnapshotInfo:
        # Of this very node: no other is looked for.
        async with connect(endpoints, discover=False) as client:
            return await client.take_snapshot(timeout=timeout)

    taken = run_loop(ask())
    if output == "json":
        print_document(taken)
    else:
        click.echo(f"log index {taken.index}, term {taken.term}, {taken.size_bytes} bytes")
