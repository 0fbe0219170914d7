"""What the commands share: how to reach a cluster, how to print, how to fail."""

import asyncio
import json
import sys
from collections.abc import Awaitable, Callable, Coroutine
from functools import wraps
from typing import NoReturn, ParamSpec, TypeVar

import click
import msgspec

from d_engine.client.api import Client, KeyValue
from d_engine.client.remote import connect
from d_engine.format.errors import (
    ConfigError,
    DEngineError,
    InvalidRequestError,
    LeaseNotFoundError,
    MembershipError,
    NotAppliedError,
    OutcomeUnknownError,
)

DEFAULT_ENDPOINT = "127.0.0.1:7000"
EXIT_NO = 1
EXIT_NOT_APPLIED = 3
EXIT_UNKNOWN = 4
EXIT_REFUSED = 5
EXIT_LOCAL = 6

_P = ParamSpec("_P")
_T = TypeVar("_T")

endpoints_option = click.option(
    "--endpoints",
    "-e",
    envvar="D_ENGINE_ENDPOINTS",
    default=DEFAULT_ENDPOINT,
    show_default=True,
    help="Nodes to talk to, host:port or unix:/path, separated by commas; one that answers is enough.",
)
output_option = click.option(
    "--output",
    "-o",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="How to print the result.",
)
timeout_option = click.option(
    "--timeout",
    type=click.FloatRange(min=0.001),
    default=5.0,
    show_default=True,
    help="Seconds to wait for an answer.",
)

consistency_option = click.option(
    "--consistency",
    type=click.Choice(["linearizable", "lease", "eventual"]),
    default="linearizable",
    show_default=True,
    help="How fresh the answer must be.",
)


def fail(error: DEngineError) -> NoReturn:
    """Say what went wrong on standard error, and end with the exit code that scripts can use."""
    click.echo(f"d-engine: {error.code}: {error}", err=True)
    if isinstance(error, OutcomeUnknownError):
        code = EXIT_UNKNOWN
    elif isinstance(error, InvalidRequestError | MembershipError | LeaseNotFoundError) and not isinstance(
        error, ConfigError
    ):
        code = EXIT_REFUSED
    elif isinstance(error, NotAppliedError | ConnectionError):
        code = EXIT_NOT_APPLIED
    else:
        code = EXIT_LOCAL
    raise SystemExit(code)


def fails_clearly(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Turn the engine's errors into a line and an exit code."""

    @wraps(function)
    def wrapper(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except DEngineError as error:
            fail(error)
        except KeyboardInterrupt:
            raise SystemExit(130) from None

    return wrapper


def ask(endpoints: str, timeout: float, question: Callable[[Client], Awaitable[_T]]) -> _T:
    """Connect, ask one thing, disconnect."""

    async def run() -> _T:
        async with connect(endpoints, request_timeout=timeout) as client:
            return await question(client)

    return run_loop(run())


def run_loop(work: Coroutine[object, object, _T]) -> _T:
    """Run to the end on a loop of its own."""
    return asyncio.run(work)


def print_document(document: object) -> None:
    """One JSON document on a line. Bytes become text where they are UTF-8, base64 otherwise (see `text_of`)."""
    click.echo(json.dumps(msgspec.to_builtins(document)))


def text_of(data: bytes) -> dict[str, str]:
    """How bytes are shown in JSON: as `text` if they are UTF-8, else as `base64`."""
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        encoded = msgspec.to_builtins(data)
        return {"base64": str(encoded)}


def document_of(entry: KeyValue) -> dict[str, object]:
    """An entry for JSON."""
    return {
        "key": text_of(entry.key),
        "value": text_of(entry.value),
        "create_revision": entry.create_revision,
        "mod_revision": entry.mod_revision,
        "version": entry.version,
        "lease": entry.lease,
    }


def value_or_stdin(value: str | None) -> bytes:
    """A value given as an argument, or all of standard input for "-" or nothing."""
    if value is None or value == "-":
        return sys.stdin.buffer.read()
    return value.encode("utf-8", "surrogateescape")


def write_raw(data: bytes) -> None:
    """Bytes as they are, with a newline behind them on a terminal only."""
    sys.stdout.buffer.write(data)
    if sys.stdout.isatty():
        sys.stdout.buffer.write(b"\n")
    sys.stdout.buffer.flush()
