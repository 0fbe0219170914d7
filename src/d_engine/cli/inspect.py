"""`d-engine inspect`: what a data directory holds, and whether it is whole."""

import click

from d_engine.cli.common import EXIT_NO, fails_clearly, output_option, print_document
from d_engine.engine.status import membership_of
from d_engine.format.configuration import Configuration
from d_engine.format.errors import DataDirectoryError
from d_engine.format.state import Quarantine
from d_engine.runtime.read_only_disk import ReadOnlyDisk
from d_engine.storage.inspection import DirectoryReport, Inspection


@click.command()
@click.argument("directory", type=click.Path())
@output_option
@fails_clearly
def inspect(directory: str, output: str) -> None:
    """Print what the data directory DIRECTORY holds, and verify all its checksums. Nothing is written.

    Exit code 1 if anything is damaged: each damage is named by file, offset, and what is wrong there. A directory on
    which a node runs is refused; ask that one with `d-engine status`.
    """
    with ReadOnlyDisk(directory) as disk:
        if not disk.files():
            raise DataDirectoryError(f"the directory {directory} is empty: no node has used it")
        report = Inspection(disk).report
    if output == "json":
        print_document(document_of(report))
    else:
        for line in (*describe(report), *complaints(report)):
            click.echo(line)
    if report.damage:
        raise SystemExit(EXIT_NO)


def document_of(report: DirectoryReport) -> dict[str, object]:
    """For JSON: numbers as they are, files by name."""
    log, (index, configuration) = report.log, report.configuration
    return {
        "node_id": report.node_id,
        "incarnation": report.incarnation,
        "hard_state": {"term": report.hard_state.term, "vote": report.hard_state.vote},
        "quarantine": report.quarantine
        and {
            "reason": report.quarantine.quarantine.reason,
            "held_index": report.quarantine.quarantine.held_index,
            "needs_snapshot": report.quarantine.quarantine.needs_snapshot,
        },
        "log": {
            "first_index": log.first_index,
            "last_index": log.last_index,
            "last_term": log.last_term,
            "boundary": 0 if log.boundary is None else log.boundary.index,
            "torn_bytes": log.torn_bytes,
            "segments": log.segments,
        },
        "snapshots": [
            {"name": each.name, "index": each.meta.index, "term": each.meta.term, "size": each.size}
            for each in report.snapshots
        ],
        "configuration": {
            "index": index,
            "cluster_id": configuration.cluster_id,
            "joint": configuration.joint,
            "members": membership_of(index, configuration).members,
        },
        "others": report.others,
        "damage": report.damage,
    }


def describe(report: DirectoryReport) -> list[str]:
    """For people."""
    log, (index, configuration) = report.log, report.configuration
    lines = [
        f"identity       node {report.node_id}, incarnation {report.incarnation:#x}",
        f"hard state     term {report.hard_state.term}, vote {report.hard_state.vote or 'for nobody'}",
        f"log            {_range(log.first_index, log.last_index)}, last term {log.last_term}",
    ]
    if report.damage:
        lines[-1] += " (as far as it can be read)"
    if log.boundary is not None:
        lines.append(f"{'':15}begins behind index {log.boundary.index}, term {log.boundary.term}")
    if log.torn_bytes:
        lines.append(f"{'':15}{log.torn_bytes} bytes of an unfinished write behind it: a start removes them")
    lines += [
        f"  {each.name}: {_range(each.first_index, each.last_index)}, {each.end} of {each.size} bytes"
        for each in log.segments
    ]
    lines.append(f"snapshots      {len(report.snapshots) or 'none'}")
    lines += [
        f"  {each.name}: index {each.meta.index}, term {each.meta.term}, {each.size} bytes"
        for each in report.snapshots
    ]
    lines += describe_members(index, configuration)
    if report.quarantine is not None:
        lines.append(f"quarantine     {until_when(report.quarantine.quarantine)}")
    if report.others:
        lines.append(f"other files    {', '.join(report.others)}")
    return lines


def until_when(quarantine: Quarantine) -> str:
    """What the node waits for."""
    first = (
        "until it has installed a snapshot of the leader's, and then " if quarantine.needs_snapshot else ""
    )
    return f"{first}until its log agrees with the leader's up to {quarantine.held_index}"


def describe_members(index: int, configuration: Configuration) -> list[str]:
    """Who belongs to the cluster, as far as a directory knows."""
    if not index:
        return ["members        none known"]
    joint = ", in the middle of a change" if configuration.joint else ""
    lines = [f"members        of cluster {configuration.cluster_id:#x}, from index {index} on{joint}"]
    for info in membership_of(index, configuration).members:
        role = f"{info.role} (read-only)" if info.read_only else info.role
        lines.append(f"  {info.id}  {role}  {info.address or '(listens nowhere)'}")
    return lines


def complaints(report: DirectoryReport) -> list[str]:
    """What is damaged, or that nothing is."""
    if not report.damage:
        return ["no damage      every checksum matches"]
    return [f"damage         {each}" for each in report.damage]


def _range(first: int, last: int) -> str:
    return f"entries {first} to {last}" if first <= last else "no entries"
