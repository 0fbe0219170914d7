"""Commands about the cluster."""

from collections.abc import Mapping

import click

from d_engine.cli.common import (
    EXIT_NO,
    ask,
    endpoints_option,
    fails_clearly,
    output_option,
    print_document,
    timeout_option,
)


@click.command()
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def status(endpoints: str, output: str, timeout: float) -> None:
    """How the node that answers is doing."""
    result = ask(endpoints, timeout, lambda client: client.status())
    if output == "json":
        print_document(result)
        return
    rows = {
        "node": result.node_id,
        "cluster": f"{result.cluster_id:#x}",
        "version": result.version,
        "role": result.role,
        "term": result.term,
        "leader": result.leader_id or "none known",
        "commit index": result.commit_index,
        "applied index": result.applied_index,
        "log": f"{result.first_index}..{result.last_index}",
        "revision": result.revision,
        "disk": "full" if result.disk_full else "ok",
    }
    rows.update(kept_for_clients(result.metrics))
    if words := snapshot_words(result.metrics):
        rows["snapshot"] = words
    if result.quarantine:
        rows["QUARANTINE"] = result.quarantine
    if result.alarm:
        rows["ALARM"] = result.alarm
    for name, value in rows.items():
        click.echo(f"{name:14} {value}")
    for peer in result.peers:
        click.echo(
            f"{f'peer {peer.node_id}':14} {peer.state}, match index {peer.match_index}, lag {peer.lag}"
        )
        if peer.quarantined:
            click.echo(f"{'':14} in quarantine: its data is being repaired")
        if peer.promotion:
            click.echo(f"{'':14} a learner: {peer.promotion}")


def kept_for_clients(metrics: Mapping[str, float]) -> dict[str, str]:
    """Leases, watches, history and pinned views, in words. Nothing of a node whose state machine has none."""
    number = {name: f"{value:,.0f}" for name, value in metrics.items()}
    rows = {}
    if "leases" in metrics:
        ends = f", the first ends in {metrics['lease_next_end_seconds']:.1f} s" if metrics["leases"] else ""
        rows["leases"] = number["leases"] + ends
    if "watches" in metrics:
        behind = f", {number['watches_behind']} behind" if metrics["watches_behind"] else ""
        rows["watches"] = number["watches"] + behind
        rows["history"] = (
            f"behind revision {number['history_oldest_revision']}, {metrics['history_seconds']:.0f} s, "
            f"{number['history_bytes']} bytes"
        )
    if metrics.get("pinned_views"):
        rows["pinned views"] = number["pinned_views"]
    return rows


def snapshot_words(metrics: Mapping[str, float]) -> str:
    """What is being done about a snapshot from another member; empty if nothing is."""
    size, received = metrics.get("snapshot_bytes_to_receive", 0), metrics.get("snapshot_bytes_received", 0)
    if size:
        return f"receiving, {received:,.0f} of {size:,.0f} bytes ({100 * received / size:.0f} %)"
    return "installing" if metrics.get("snapshot_installing") else ""


@click.command()
@endpoints_option
@output_option
@timeout_option
@fails_clearly
def leader(endpoints: str, output: str, timeout: float) -> None:
    """Who leads. Exit code 1 if the node that answers knows of no leader."""
    result = ask(endpoints, timeout, lambda client: client.leader())
    if output == "json":
        print_document(result)
    elif result is None:
        click.echo("d-engine: no leader is known", err=True)
    else:
        click.echo(f"node {result.leader_id}, term {result.term}")
    if result is None:
        raise SystemExit(EXIT_NO)


@click.command()
@click.argument("node", type=click.IntRange(min=1))
@endpoints_option
@timeout_option
@fails_clearly
def transfer(node: int, endpoints: str, timeout: float) -> None:
    """Make NODE the leader."""
    ask(endpoints, timeout, lambda client: client.transfer(node))
    click.echo(f"leadership was handed to node {node}")
