"""The command and its script."""

import asyncio
import shutil
import tempfile
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING

import click

from d_engine.cli.common import fails_clearly, run_loop
from d_engine.cli.demo.material import default_input, read_input
from d_engine.cli.demo.workload import Workload
from d_engine.client.api import Client
from d_engine.client.remote import connect
from d_engine.format.ids import NodeId
from d_engine.testing.processes import LocalCluster

if TYPE_CHECKING:
    from d_engine.cli.demo.display import Display

_WRITES_AFTER_FAILOVER = 500
_REQUEST_SECONDS = 10.0


@click.command()
@click.option("--input", "input_file", type=click.Path(path_type=Path), help="A file of key<TAB>value lines.")
@click.option("--keep", is_flag=True, help="Leave the cluster running, and say how to talk to it.")
@fails_clearly
def demo(input_file: Path | None, keep: bool) -> None:
    """Start three real servers, kill all of them, and show that nothing acknowledged is lost.

    Exit code 0 only if every acknowledged write was read back from every node.
    """
    from d_engine.cli.demo.display import Display  # here, so that a server does not carry it in its memory

    if input_file is None:
        items, origin = default_input()
    else:
        items, origin = read_input(input_file), str(input_file)
    folder = Path(tempfile.mkdtemp(prefix="d-engine-demo-"))
    cluster = LocalCluster(folder)
    try:
        good = run_loop(_Demo(cluster, Workload(items), Display()).run(origin))
    except BaseException:
        keep = False
        raise
    finally:
        if not keep:
            cluster.kill_all()
            shutil.rmtree(folder, ignore_errors=True)
    if keep:
        _say_how_to_talk(cluster, folder)
    if not good:
        raise SystemExit(1)


class _Demo:
    def __init__(self, cluster: LocalCluster, workload: Workload, display: "Display") -> None:
        self._cluster = cluster
        self._workload = workload
        self._display = display
        self._rows: list[tuple[str, str]] = []

    async def run(self, origin: str) -> bool:
        """The whole script. True if nothing was lost or wrong."""
        display, cluster, workload = self._display, self._cluster, self._workload
        display.say(f"{len(workload.items)} keys from {origin}")
        with display.step("three server processes on loopback, one leader among them"):
            cluster.start()
            leader = await cluster.wait_leader()
        async with connect(cluster.endpoints, request_timeout=_REQUEST_SECONDS) as client:
            with display.step(f"every key written; node {leader} leads"):
                started = perf_counter()
                await workload.load(client)
                self._row("keys written at first", f"{len(workload.items)}")
                self._row(
                    "writes/s while loading", f"{len(workload.items) / (perf_counter() - started):,.0f}"
                )
            await self._kill_leader(client, leader)
        with display.step(f"node {leader} started again, and caught up"):
            cluster.nodes[leader].start()
            await cluster.wait_caught_up(leader)
        with display.step("all three killed at once (SIGKILL), and started again"):
            cluster.kill_all()
            started = perf_counter()
            cluster.start()
            await cluster.wait_leader()
            self._row("start of all three until a leader", f"{perf_counter() - started:.2f} s")
        lost, wrong = await self._verify()
        self._row("lost", str(lost))
        self._row("wrong", str(wrong))
        display.table("What was promised, and what was kept", self._rows)
        display.say(
            "SIGKILL leaves what the kernel has not written to the disk yet in its page cache. Loss of power"
        )
        display.say("is another thing: tests/system/test_power_loss.py drops everything that was not synced.")
        return lost == wrong == 0

    async def _kill_leader(self, client: Client, leader: NodeId) -> None:
        display, cluster, workload = self._display, self._cluster, self._workload
        stop = asyncio.Event()
        tally = workload.tally
        writing = asyncio.create_task(workload.keep_writing(client, stop))
        try:
            with display.step(f"node {leader}, the leader, killed (SIGKILL) while 50 tasks write"):
                await asyncio.sleep(0.5)
                tally.longest_gap_s = 0.0
                cluster.nodes[leader].kill()
                survivors = [node for node in cluster.nodes if node != leader]
                successor = await cluster.wait_leader(among=survivors)
                target = tally.acknowledged + _WRITES_AFTER_FAILOVER
                while tally.acknowledged < target and not writing.done():  # noqa: ASYNC110 - a count, no event
                    await asyncio.sleep(0.01)
            display.say(f"node {successor} leads now; writes stood still for {tally.longest_gap_s:.2f} s")
            self._row("leader before, after", f"{leader}, {successor}")
            self._row("writes stood still for", f"{tally.longest_gap_s:.2f} s")
        finally:
            stop.set()
            await writing
        self._row("writes acknowledged", f"{tally.acknowledged:,}")
        self._row("writes refused (not applied)", str(tally.refused))
        self._row("writes with unknown outcome", str(tally.unknown))

    async def _verify(self) -> tuple[int, int]:
        lost = wrong = 0
        for node in self._cluster.nodes.values():
            with self._display.step(f"every key read back through node {node.node_id}, linearizably"):
                async with connect(node.address, discover=False, request_timeout=_REQUEST_SECONDS) as client:
                    of_node = await self._workload.verify(client)
            lost, wrong = lost + of_node[0], wrong + of_node[1]
        self._row("keys compared, through each of 3 nodes", f"{len(self._workload.items)}")
        return lost, wrong

    def _row(self, name: str, figure: str) -> None:
        self._rows.append((name, figure))


def _say_how_to_talk(cluster: LocalCluster, folder: Path) -> None:
    click.echo(f"\nThe cluster runs on; its data and logs are in {folder}. Talk to it:")
    click.echo(f"  export D_ENGINE_ENDPOINTS={cluster.endpoints}")
    click.echo("  d-engine status")
    click.echo("  d-engine scan --limit 3")
    click.echo("End it:")
    click.echo(f"  kill {' '.join(str(node.pid) for node in cluster.nodes.values())}; rm -r {folder}")
