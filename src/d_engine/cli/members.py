"""`d-engine members`: who belongs to the cluster, and all that can be changed about it."""

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeAlias

import click

from d_engine.cli.common import (
    ask,
    endpoints_option,
    fails_clearly,
    output_option,
    print_document,
    timeout_option,
)
from d_engine.client.api import Client, MemberInfo
from d_engine.format.ids import MAX_NODE_ID

NODE = click.IntRange(1, MAX_NODE_ID)
Work: TypeAlias = Callable[[Client], Awaitable[None]]


@click.group(invoke_without_command=True)
@endpoints_option
@output_option
@timeout_option
@click.pass_context
@fails_clearly
def members(context: click.Context, endpoints: str, output: str, timeout: float) -> None:
    """Who belongs to the cluster; with a command below, change it.

    \b
    Every change is one safe step. Another one is refused until it is finished.
        d-engine members add 4 10.0.0.4:7000
        d-engine members replace 3 4
        d-engine members remove 2
    """
    context.obj = (endpoints, timeout)
    if context.invoked_subcommand is None:
        print_members(ask(endpoints, timeout, lambda client: client.members()), output)


def print_members(found: list[MemberInfo], output: str) -> None:
    """One member a line."""
    if output == "json":
        print_document(found)
        return
    for member in found:
        role = f"{member.role} (read-only)" if member.read_only else member.role
        click.echo(f"{member.id}\t{role}\t{member.address or '(listens nowhere)'}")


def change(function: Callable[..., Work]) -> click.Command:
    """A command that changes members and shows them afterwards. The function returns what is to be done."""

    @wraps(function)
    @click.pass_context
    @fails_clearly
    def wrapper(
        context: click.Context, /, endpoints: str | None, timeout: float | None, **arguments: Any
    ) -> None:
        known_endpoints, known_timeout = context.obj
        work = function(**arguments)

        async def run(client: Client) -> list[MemberInfo]:
            await work(client)
            return await client.members()

        print_members(ask(endpoints or known_endpoints, timeout or known_timeout, run), "text")

    with_timeout = click.option("--timeout", type=click.FloatRange(min=0.001), help="As of members.")(wrapper)
    with_endpoints = click.option("--endpoints", "-e", help="As of members.")(with_timeout)
    return members.command()(with_endpoints)


force_option = click.option(
    "--force",
    is_flag=True,
    help="Even if voters have not caught up, do not answer, or are an even number.",
)
nodes_argument = click.argument("nodes", type=NODE, nargs=-1, required=True)


@change
@click.argument("node", type=NODE)
@click.argument("address")
@click.option("--read-only", is_flag=True, help="It stays a learner for ever.")
def add(node: int, address: str, read_only: bool) -> Work:
    """Add NODE, found at ADDRESS, as a learner.

    It becomes a voter by itself when it has caught up and makes the number of voters odd. `d-engine serve --join` does
    this for the node that it starts.
    """
    return lambda client: client.add_learner(node, address, read_only=read_only)


@change
@nodes_argument
@force_option
def remove(nodes: tuple[int, ...], force: bool) -> Work:
    """Remove NODES for good. They stop."""
    return lambda client: client.remove(*nodes, force=force)


@change
@nodes_argument
@force_option
def promote(nodes: tuple[int, ...], force: bool) -> Work:
    """Make the learners NODES voters."""
    return lambda client: client.promote(*nodes, force=force)


@change
@nodes_argument
@force_option
def demote(nodes: tuple[int, ...], force: bool) -> Work:
    """Make the voters NODES learners, until they are promoted again."""
    return lambda client: client.demote(*nodes, force=force)


@change
@click.argument("old", type=NODE)
@click.argument("new", type=NODE)
@click.argument("address", default="")
@force_option
def replace(old: int, new: int, address: str, force: bool) -> Work:
    """Put NEW in the place of OLD, in one step.

    NEW is a learner that has caught up. If OLD does not answer any more, NEW may also be a node that is still to be
    started at ADDRESS, with `d-engine serve --join`.
    """
    return lambda client: client.replace(old, new, address, force=force)


@change
@click.argument("node", type=NODE)
@click.argument("address")
def address(node: int, address: str) -> Work:
    """NODE is found at ADDRESS from now on."""
    return lambda client: client.set_address(node, address)
