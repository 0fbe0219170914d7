"""Commands about many keys: transactions and ranges."""

import binascii
import sys
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import TypeAlias

import click
import msgspec
from msgspec import Struct

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
)
from d_engine.client import api
from d_engine.client.api import (
    Client,
    Consistency,
    DeleteRangeResult,
    DeleteResult,
    KeyValue,
    Scan,
    WriteResult,
)

_PAGE = 1000


class _Bytes(Struct, frozen=True, forbid_unknown_fields=True):
    """Either of the two: how this program prints keys and values, so that its output can be its input."""

    text: str | None = None
    base64: str | None = None

    def decode(self) -> bytes:
        if (self.text is None) == (self.base64 is None):
            raise click.UsageError('give bytes as a string, as {"text": ...} or as {"base64": ...}')
        if self.text is not None:
            return self.text.encode()
        try:
            return b64decode(self.base64 or "", validate=True)
        except binascii.Error as error:
            raise click.UsageError(f"{self.base64!r} is no base64: {error}") from None


_Data: TypeAlias = str | _Bytes


def _bytes(data: _Data) -> bytes:
    return data.encode() if isinstance(data, str) else data.decode()


def _maybe(data: _Data | None) -> bytes | None:
    return None if data is None else _bytes(data)


class _Compare(Struct, frozen=True, forbid_unknown_fields=True):
    key: _Data
    target: str
    relation: str
    operand: int | _Data


class _Put(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="put"):
    key: _Data
    value: _Data
    lease: int | None = None
    ttl: float | None = None
    keep_lease: bool = False


class _Get(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="get"):
    key: _Data


class _Delete(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="delete"):
    key: _Data


class _DeleteRange(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="delete_range"):
    start: _Data | None = None
    end: _Data | None = None
    prefix: _Data | None = None


class _GetRange(Struct, frozen=True, forbid_unknown_fields=True, tag_field="op", tag="get_range"):
    start: _Data | None = None
    end: _Data | None = None
    prefix: _Data | None = None
    limit: int = 100


_Operation: TypeAlias = _Put | _Get | _Delete | _DeleteRange | _GetRange


class _Transaction(Struct, frozen=True, forbid_unknown_fields=True):
    when: tuple[_Compare, ...] = ()
    then: tuple[_Operation, ...] = ()
    otherwise: tuple[_Operation, ...] = ()


def _condition(compare: _Compare) -> api.Compare:
    operand = compare.operand if isinstance(compare.operand, int) else _bytes(compare.operand)
    fields = {"target": compare.target, "relation": compare.relation}
    # What is no target or relation is refused by the client, in words that say what is.
    return msgspec.structs.replace(
        api.Compare.value(_bytes(compare.key), "==", b""), operand=operand, **fields
    )


def _operation(operation: _Operation) -> api.Operation:
    match operation:
        case _Put():
            hold = (operation.lease, operation.ttl, operation.keep_lease)
            return api.Put(_bytes(operation.key), _bytes(operation.value), *hold)
        case _Get():
            return api.Get(_bytes(operation.key))
        case _Delete():
            return api.Delete(_bytes(operation.key))
        case _DeleteRange():
            return api.DeleteRange(
                start=_maybe(operation.start), end=_maybe(operation.end), prefix=_maybe(operation.prefix)
            )
        case _GetRange():
            return api.GetRange(
                start=_maybe(operation.start),
                end=_maybe(operation.end),
                prefix=_maybe(operation.prefix),
                limit=operation.limit,
            )


def _result(result: api.OperationResult) -> object:
    """One result as JSON."""
    match result:
        case None:
            return None
        case KeyValue():
            return document_of(result)
        case Scan():
            return {"items": list(map(document_of, result.items)), "more": result.more}
        case WriteResult():
            return {"revision": result.revision}
        case DeleteResult() | DeleteRangeResult():
            return {"revision": result.revision, "deleted": result.deleted}


@click.command(
    epilog="""\b
Example of a transaction:
    {"when": [{"key": "lock", "target": "version", "relation": "==", "operand": 0}],
     "then": [{"op": "put", "key": "lock", "value": "me"}, {"op": "get", "key": "x"},
              {"op": "delete", "key": "y"}, {"op": "delete_range", "prefix": "z/"}],
     "otherwise": [{"op": "get_range", "prefix": "lock", "limit": 10}]}
"""
)
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def txn(endpoints: str, output: str, timeout: float) -> None:
    """Do a transaction, given as JSON on standard input: if everything in "when" is so, do "then", else "otherwise".

    Targets: value, version, create_revision, mod_revision, lease. Relations: == != < >. Keys and values are strings, or
    {"base64": "..."}. A put may have "lease", "ttl" (seconds) or "keep_lease". Exit code 1 if "otherwise" was done.
    """
    try:
        asked = msgspec.json.decode(sys.stdin.buffer.read(), type=_Transaction)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise click.UsageError(f"standard input is no transaction: {error}") from None
    when = list(map(_condition, asked.when))
    then, otherwise = list(map(_operation, asked.then)), list(map(_operation, asked.otherwise))
    result = ask(endpoints, timeout, lambda client: client.txn(when=when, then=then, otherwise=otherwise))
    results = list(map(_result, result.results))
    if output == "json":
        print_document({"succeeded": result.succeeded, "revision": result.revision, "results": results})
    else:
        branch = "then" if result.succeeded else "otherwise"
        click.echo(f"did {branch!r}, revision {result.revision}")
        for document in results:
            print_document(document)
    if not result.succeeded:
        raise SystemExit(EXIT_NO)


@click.command("range")
@click.option("--start", help="From this key on.")
@click.option("--end", help="Up to but without this key.")
@click.option("--prefix", help="Keys that begin with this.")
@click.option("--limit", type=click.IntRange(min=1), help="At most so many entries.")
@click.option("--reverse", is_flag=True, help="The greatest key first.")
@click.option("--keys-only", is_flag=True, help="Without values.")
@click.option("--pinned", is_flag=True, help="All pages of one revision; not with --reverse.")
@consistency_option
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def range_(
    start: str | None,
    end: str | None,
    prefix: str | None,
    limit: int | None,
    reverse: bool,
    keys_only: bool,
    pinned: bool,
    consistency: Consistency,
    endpoints: str,
    output: str,
    timeout: float,
) -> None:
    """List a range of any size, in pages: key, tab, value; with -o json a document for each page. A page is of one
    revision, which it names; pages may be of different ones, unless --pinned is given."""
    if pinned and reverse:
        raise click.UsageError("--pinned reads forwards only")

    async def list_pages(client: Client) -> None:
        if pinned:
            async with client.snapshot(start=start, end=end, prefix=prefix, consistency=consistency) as view:
                await print_pages(
                    view.pages(_PAGE if limit is None else min(limit, _PAGE), keys_only=keys_only)
                )
            return
        await print_pages(
            client.range(
                start=start,
                end=end,
                prefix=prefix,
                limit=_PAGE if limit is None else min(limit, _PAGE),
                reverse=reverse,
                keys_only=keys_only,
                consistency=consistency,
            )
        )

    async def print_pages(pages: AsyncIterator[Scan]) -> None:
        left = limit
        async for page in pages:
            items = page.items[:left]
            _print_page(page.revision, items, page.more or len(items) < len(page.items), keys_only, output)
            if left is not None:
                left -= len(items)
                if left == 0:
                    return

    ask(endpoints, timeout, list_pages)


def _print_page(revision: int, items: tuple[KeyValue, ...], more: bool, keys_only: bool, output: str) -> None:
    if output == "json":
        documents = [document_of(item) for item in items]
        if keys_only:
            for document in documents:
                del document["value"]
        print_document({"revision": revision, "items": documents, "more": more})
        return
    for item in items:
        key = item.key.decode("utf-8", "backslashreplace")
        click.echo(key if keys_only else f"{key}\t{item.value.decode('utf-8', 'backslashreplace')}")
    click.echo(f"{len(items)} entries at revision {revision}", err=True)
