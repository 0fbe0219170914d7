"""Commands about keys."""

import click

from d_engine.cli.common import (
    EXIT_NO,
    ask,
    endpoints_option,
    fails_clearly,
    output_option,
    print_document,
    text_of,
    timeout_option,
    value_or_stdin,
    write_raw,
)
from d_engine.client.api import Consistency, KeyValue

_consistency_option = click.option(
    "--consistency",
    type=click.Choice(["linearizable", "lease", "eventual"]),
    default="linearizable",
    show_default=True,
    help="How fresh the answer must be.",
)


def _document(entry: KeyValue) -> dict[str, object]:
    return {
        "key": text_of(entry.key),
        "value": text_of(entry.value),
        "create_revision": entry.create_revision,
        "mod_revision": entry.mod_revision,
        "version": entry.version,
        "lease": entry.lease,
    }


@click.command()
@click.argument("key")
@click.argument("value", required=False)
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def put(key: str, value: str | None, endpoints: str, output: str, timeout: float) -> None:
    """Set KEY to VALUE ("-" or nothing: read it from standard input)."""
    data = value_or_stdin(value)
    result = ask(endpoints, timeout, lambda client: client.put(key, data))
    if output == "json":
        print_document({"revision": result.revision})
    else:
        click.echo(f"revision {result.revision}")


@click.command()
@click.argument("key")
@_consistency_option
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def get(key: str, consistency: Consistency, endpoints: str, output: str, timeout: float) -> None:
    """Print the value of KEY as it is. Exit code 1 if there is none."""
    entry = ask(endpoints, timeout, lambda client: client.get_entry(key, consistency=consistency))
    if output == "json":
        print_document(None if entry is None else _document(entry))
    elif entry is not None:
        write_raw(entry.value)
    if entry is None:
        if output == "text":
            click.echo(f"d-engine: the key {key!r} does not exist", err=True)
        raise SystemExit(EXIT_NO)


@click.command()
@click.argument("key")
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def delete(key: str, endpoints: str, output: str, timeout: float) -> None:
    """Delete KEY. Deleting a key that does not exist is a success."""
    result = ask(endpoints, timeout, lambda client: client.delete(key))
    if output == "json":
        print_document({"deleted": result.deleted, "revision": result.revision})
    else:
        click.echo(f"{'deleted' if result.deleted else 'did not exist'}, revision {result.revision}")


@click.command()
@click.argument("key")
@click.argument("value", required=False)
@click.option("--expected", help="The value that KEY must have.")
@click.option("--absent", is_flag=True, help="KEY must not exist.")
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def cas(
    key: str,
    value: str | None,
    expected: str | None,
    absent: bool,
    endpoints: str,
    output: str,
    timeout: float,
) -> None:
    """Compare and swap: set KEY to VALUE if it holds what is expected. Exit code 1 if it does not."""
    if absent == (expected is not None):
        raise click.UsageError("give either --expected VALUE or --absent")
    data = value_or_stdin(value)
    swapped = ask(endpoints, timeout, lambda client: client.compare_and_swap(key, expected, data))
    if output == "json":
        print_document({"swapped": swapped})
    else:
        click.echo("swapped" if swapped else "not swapped: the key holds something else")
    if not swapped:
        raise SystemExit(EXIT_NO)


@click.command()
@click.argument("prefix", default="")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many entries.")
@_consistency_option
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def scan(
    prefix: str, limit: int | None, consistency: Consistency, endpoints: str, output: str, timeout: float
) -> None:
    """List the entries whose keys begin with PREFIX (all of them without one), in key order: key, tab, value."""
    result = ask(
        endpoints, timeout, lambda client: client.scan_prefix(prefix, limit=limit, consistency=consistency)
    )
    if output == "json":
        items = [_document(item) for item in result.items]
        print_document({"revision": result.revision, "items": items, "more": result.more})
        return
    for item in result.items:
        key = item.key.decode("utf-8", "backslashreplace")
        click.echo(f"{key}\t{item.value.decode('utf-8', 'backslashreplace')}")
    click.echo(f"{len(result.items)} entries at revision {result.revision}", err=True)
