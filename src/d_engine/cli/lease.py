"""Commands about leases."""

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
)
from d_engine.client.api import Client, LeaseInfo

_PAGE = 1000


@click.group()
def lease() -> None:
    """Leases: keys that hang on one go when it ends. Put keys on one with "d-engine put --lease ID"."""


@lease.command()
@click.argument("ttl", type=click.FloatRange(min=0.01))
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def grant(ttl: float, endpoints: str, output: str, timeout: float) -> None:
    """A new lease of TTL seconds. Prints its id. It ends unless "keep-alive" is called in time, again and again."""
    granted = ask(endpoints, timeout, lambda client: client.grant_lease(ttl))
    if output == "json":
        print_document({"id": granted.id, "ttl": granted.ttl})
    else:
        click.echo(granted.id)


@lease.command("keep-alive")
@click.argument("leases", metavar="ID...", type=click.IntRange(min=1), nargs=-1, required=True)
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def keep_alive(leases: tuple[int, ...], endpoints: str, output: str, timeout: float) -> None:
    """Let leases live their whole TTL from now on. Exit code 1 if one of them does not exist (any more)."""
    kept = ask(endpoints, timeout, lambda client: client.keep_alive(*leases))
    if output == "json":
        print_document({str(number): alive for number, alive in zip(leases, kept, strict=True)})
    else:
        for number, alive in zip(leases, kept, strict=True):
            click.echo(f"{number}\t{'kept alive' if alive else 'does not exist'}")
    if not all(kept):
        raise SystemExit(EXIT_NO)


@lease.command()
@click.argument("number", metavar="ID", type=click.IntRange(min=1))
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def revoke(number: int, endpoints: str, output: str, timeout: float) -> None:
    """End a lease now, and delete the keys that hang on it."""
    count = ask(endpoints, timeout, lambda client: client.revoke_lease(number))
    if output == "json":
        print_document({"id": number, "deleted": count})
    else:
        click.echo(f"revoked, {count} keys deleted")


@lease.command("list")
@click.argument("number", metavar="[ID]", type=click.IntRange(min=1), required=False)
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def list_(number: int | None, endpoints: str, output: str, timeout: float) -> None:
    """List all leases: id, TTL, seconds that are left, count of keys. With ID: that one, and its keys. Exit code 1 if
    it does not exist."""
    if number is not None:
        _show(ask(endpoints, timeout, lambda client: client.lease_info(number)), number, output)
        return

    async def list_all(client: Client) -> None:
        after, more = 0, True
        while more:
            page = await client.leases(after=after, limit=_PAGE)
            for info in page.items:
                _print(info, output)
            more = page.more
            after = page.items[-1].id if page.items else after

    ask(endpoints, timeout, list_all)


def _show(info: LeaseInfo | None, number: int, output: str) -> None:
    if info is None:
        click.echo(f"d-engine: the lease {number} does not exist", err=True)
        raise SystemExit(EXIT_NO)
    _print(info, output)
    if output == "text":
        for key in info.keys:
            click.echo(f"\t{key.decode('utf-8', 'backslashreplace')}")


def _print(info: LeaseInfo, output: str) -> None:
    if output == "json":
        document: dict[str, object] = {
            "id": info.id,
            "ttl": info.ttl,
            "remaining": info.remaining,
            "key_count": info.key_count,
            "single": info.single,
        }
        if info.keys:
            document["keys"] = list(map(text_of, info.keys))
        print_document(document)
    else:
        click.echo(f"{info.id}\t{info.ttl:g}\t{info.remaining:.1f}\t{info.key_count}")
