"""Events as they come."""

import click

from d_engine.cli.common import (
    endpoints_option,
    fails_clearly,
    output_option,
    print_document,
    run_loop,
    text_of,
    timeout_option,
)
from d_engine.client.remote import connect
from d_engine.kv.events import Event


@click.command()
@click.argument("key", required=False)
@click.option("--prefix", help="Instead of KEY: all keys that begin with this (all keys: '').")
@click.option("--since", type=click.IntRange(min=0), help="Begin behind this revision; usual is now.")
@click.option("--count", type=click.IntRange(min=1), help="End after so many events; usual is never.")
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def watch(
    key: str | None,
    prefix: str | None,
    since: int | None,
    count: int | None,
    endpoints: str,
    output: str,
    timeout: float,
) -> None:
    """Print what happens to KEY, or to all keys with a prefix: an event on each line, until interrupted."""
    if (key is None) == (prefix is None):
        raise click.UsageError("give either KEY or --prefix")

    async def follow() -> None:
        left = count
        async with (
            connect(endpoints, request_timeout=timeout) as client,
            client.watch(key, prefix=prefix, since=since) as events,
        ):
            async for event in events.events():
                _show(event, output)
                if left is not None:
                    left -= 1
                    if not left:
                        return

    run_loop(follow())


def _show(event: Event, output: str) -> None:
    value = event.value
    if output == "json":
        print_document(
            {
                "revision": event.revision,
                "cause": event.cause,
                "key": text_of(event.key),
                "value": None if value is None else text_of(value),
                "create_revision": event.create_revision,
                "version": event.version,
                "lease": event.lease,
            }
        )
    else:
        key = event.key.decode("utf-8", "backslashreplace")
        shown = "" if value is None else " " + value.decode("utf-8", "backslashreplace")
        click.echo(f"{event.revision} {event.cause} {key}{shown}")
