"""`d-engine recover`: a new cluster from one surviving data directory."""

import click

from d_engine.cli.common import EXIT_NO, fails_clearly, output_option, print_document, run_loop
from d_engine.cli.inspect import complaints, describe_members, document_of
from d_engine.engine.rescue import Surviving, answering
from d_engine.format.configuration import Member
from d_engine.format.errors import MembershipError
from d_engine.kv.machine import KvStateMachine


@click.command()
@click.argument("directory", type=click.Path())
@click.option("--plan", is_flag=True, help="Only look, and say what would be kept and what could be lost.")
@click.option(
    "--apply", "target", type=click.Path(), metavar="NEWDIR", help="Write the new directory NEWDIR."
)
@click.option("--force", is_flag=True, help="With --apply: even if members answer.")
@click.option(
    "--despite-damage",
    is_flag=True,
    help="With --apply: DIRECTORY is damaged, and what stands in front of the damage is enough.",
)
@output_option
@fails_clearly
def recover(
    directory: str, plan: bool, target: str | None, force: bool, despite_damage: bool, output: str
) -> None:
    """Make a new cluster of DIRECTORY, when the majority of a cluster's disks is gone for good.

    Offline, and the last resort: what the others acknowledged without this node is lost. DIRECTORY is only read. Look
    at all directories that survive with --plan first, and take the one whose last entry has the highest term, and
    among these the highest index.

    \b
        d-engine recover --plan DIRECTORY
        d-engine recover --apply NEWDIR DIRECTORY
    """
    if plan == (target is not None):
        raise click.UsageError("give either --plan or --apply NEWDIR")
    with Surviving(directory) as surviving:
        alive = run_loop(answering(surviving.state.configuration))
        if target is None:
            _print_plan(surviving, alive, output)
            return
        if alive and not force:
            raise MembershipError(
                f"members of this cluster answer: {_names(alive)}. As long as a majority can be started, start it;"
                " else stop them for good first"
            )
        meta = surviving.recover(target, despite_damage=despite_damage)
        revision = surviving.state.applier.state_machine.revision
    configuration = meta.configuration
    if output == "json":
        print_document(
            {"directory": target, "cluster_id": configuration.cluster_id, "node_id": configuration.voters[0],
             "index": meta.index, "term": meta.term, "revision": revision}
        )  # fmt: skip
        return
    (member,) = configuration.members
    click.echo(f"new directory  {target}")
    click.echo(f"cluster        {configuration.cluster_id:#x}, of which node {member.id} is the only voter")
    click.echo(f"revision       {revision}; term {meta.term}; the log goes on behind index {meta.index}")
    click.echo(
        f"start it       d-engine serve --id {member.id} --data-dir {target} --listen {member.address or 'ADDRESS'}"
    )
    click.echo(f"others join    with empty directories: --join {member.address or 'ADDRESS'}")


def _print_plan(surviving: Surviving, alive: list[Member], output: str) -> None:
    report, state = surviving.report, surviving.state
    machine = state.applier.state_machine
    keys = machine.store.count if isinstance(machine, KvStateMachine) else 0
    if output == "json":
        print_document(
            {**document_of(report), "last_index": state.last_index, "last_term": state.last_term,
             "revision": machine.revision, "keys": keys, "sessions": state.sessions,
             "answering": [member.id for member in alive]}
        )  # fmt: skip
    else:
        click.echo(f"identity       node {report.node_id}, incarnation {report.incarnation:#x}")
        click.echo(f"last entry     term {state.last_term}, index {state.last_index}")
        click.echo(f"state          revision {machine.revision}, {keys} keys, {state.sessions} sessions")
        for line in describe_members(state.configuration_index, state.configuration):
            click.echo(line)
        click.echo(f"answering      {_names(alive) or 'none of them'}")
        for line in (*complaints(report), *_consequences(surviving, alive)):
            click.echo(line)
    if report.damage:
        raise SystemExit(EXIT_NO)


def _consequences(surviving: Surviving, alive: list[Member]) -> list[str]:
    """What recovering from this directory would mean."""
    state = surviving.state
    voters = state.configuration.all_voters
    lines = [
        f"kept           everything up to index {state.last_index}, also what nobody had acknowledged yet",
        f"lost           what other members acknowledged behind term {state.last_term}, index {state.last_index}",
    ]
    if state.node_id not in voters:
        lines.append(f"{'':15}(this node was no voter: the others may have been ahead of it)")
    elif len(voters) == 1:
        lines.append(f"{'':15}(nothing, if this was the only voter and is its newest directory)")
    if surviving.report.damage:
        lines.append(f"{'':15}and what stands behind the damage")
    lines.append(
        f"dropped        {state.sessions} sessions: what their clients wrote last has an unknown outcome"
    )
    if alive:
        lines.append(
            "first          stop the members that answer, or, if they are a majority, keep them and stop here"
        )
    return lines


def _names(members: list[Member]) -> str:
    return ", ".join(f"node {member.id} at {member.address}" for member in members)
