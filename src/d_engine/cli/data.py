"""Commands about keys."""

import click

from d_engine.cli.common import (
    EXIT_NO,
    ask,
    consistency_option,
    document_of,
    endpoints_option,
    fails_clearly,
    output_option,
    print_document,
    timeout_option,
    value_or_stdin,
    write_raw,
)
from d_engine.client.api import Consistency


@click.command()
@click.argument("key")
@click.argument("value", required=False)
@click.option("--ttl", type=click.FloatRange(min=0.01), help="Seconds after which KEY goes by itself.")
@click.option(
    "--lease", type=click.IntRange(min=1), help="KEY goes when this lease ends (see d-engine lease)."
)
@click.option("--keep-lease", is_flag=True, help="KEY stays as long as it would have stayed.")
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def put(
    key: str,
    value: str | None,
    ttl: float | None,
    lease: int | None,
    keep_lease: bool,
    endpoints: str,
    output: str,
    timeout: float,
) -> None:
    """Set KEY to VALUE ("-" or nothing: read it from standard input). It stays until it is deleted, unless told
    otherwise."""
    if (ttl is not None) + (lease is not None) + keep_lease > 1:
        raise click.UsageError("give one of --ttl, --lease, --keep-lease")
    data = value_or_stdin(value)
    result = ask(
        endpoints,
        timeout,
        lambda client: client.put(key, data, ttl=ttl, lease=lease, keep_lease=keep_lease),
    )
    if output == "json":
        print_document({"revision": result.revision})
    else:
        click.echo(f"revision {result.revision}")


@click.command()
@click.argument("key")
@consistency_option
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def get(key: str, consistency: Consistency, endpoints: str, output: str, timeout: float) -> None:
    """Print the value of KEY as it is. Exit code 1 if there is none."""
    entry = ask(endpoints, timeout, lambda client: client.get_entry(key, consistency=consistency))
    if output == "json":
        print_document(None if entry is None else document_of(entry))
    elif entry is not None:
        write_raw(entry.value)
    if entry is None:
        if output == "text":
            click.echo(f"d-engine: the key {key!r} does not exist", err=True)
        raise SystemExit(EXIT_NO)


@click.command()
@click.argument("key", required=False)
@click.option("--prefix", help="Instead of KEY: delete all keys that begin with this.")
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def delete(key: str | None, prefix: str | None, endpoints: str, output: str, timeout: float) -> None:
    """Delete KEY, or all keys with a prefix at once. Deleting what does not exist is a success."""
    if (key is None) == (prefix is None):
        raise click.UsageError("give either KEY or --prefix")
    if prefix is not None:
        _delete_prefix(prefix, endpoints, output, timeout)
        return
    name = key or ""
    result = ask(endpoints, timeout, lambda client: client.delete(name))
    if output == "json":
        print_document({"deleted": result.deleted, "revision": result.revision})
    else:
        click.echo(f"{'deleted' if result.deleted else 'did not exist'}, revision {result.revision}")


def _delete_prefix(prefix: str, endpoints: str, output: str, timeout: float) -> None:
    result = ask(endpoints, timeout, lambda client: client.delete_prefix(prefix))
    if output == "json":
        print_document({"deleted": result.deleted, "revision": result.revision})
    else:
        click.echo(f"{result.deleted} keys deleted, revision {result.revision}")


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
@consistency_option
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
        items = [document_of(item) for item in result.items]
        print_document({"revision": result.revision, "items": items, "more": result.more})
        return
    for item in result.items:
        key = item.key.decode("utf-8", "backslashreplace")
        click.echo(f"{key}\t{item.value.decode('utf-8', 'backslashreplace')}")
    click.echo(f"{len(result.items)} entries at revision {result.revision}", err=True)
