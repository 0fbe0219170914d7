"""`d-engine serve`: a node as a service.

The process is the engine's own here, so it may do what an embedded engine must not: handle signals, write logs.
"""

import asyncio
import logging
import os
import signal
import sys

import click

from d_engine.cli.common import fails_clearly, run_loop
from d_engine.cli.config import load, settings_options
from d_engine.engine.config import EngineConfig
from d_engine.engine.node import STOP_SECONDS
from d_engine.engine.standalone import StandaloneEngine


@click.command()
@settings_options
@fails_clearly
def serve(config_file: str | None, settings: dict[str, str]) -> None:
    """Run a node until SIGTERM or SIGINT. A second signal ends it at once.

    \b
    A cluster of three, one command for each node:
        d-engine serve --id 1 --data-dir d1 --listen 127.0.0.1:7001 --initial 1=127.0.0.1:7001,2=...,3=...

    \b
    One more node for a cluster that exists:
        d-engine serve --id 4 --data-dir d4 --listen 127.0.0.1:7004 --join 127.0.0.1:7001,127.0.0.1:7002
    """
    config = load(config_file, settings)
    logging.basicConfig(
        level=config.log.level.upper(), format="%(asctime)s %(levelname)-7s %(name)s: %(message)s"
    )
    run_loop(_serve(config))


async def _serve(config: EngineConfig) -> None:
    engine = StandaloneEngine(config)
    shutdown = asyncio.Event()
    loop = asyncio.get_running_loop()

    def asked(number: signal.Signals) -> None:
        if shutdown.is_set():
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        click.echo(f"node {config.node.id} stops ({number.name})", err=True)
        shutdown.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked, number)
    starting = asyncio.create_task(engine.start())
    ending = asyncio.create_task(shutdown.wait())
    await asyncio.wait((starting, ending), return_when=asyncio.FIRST_COMPLETED)
    ending.cancel()
    if not starting.done():
        await asyncio.wait((starting,), timeout=STOP_SECONDS)
    if not starting.done():
        # It reads for long, or its disk hangs. A node that is killed at any point loses nothing.
        sys.stderr.flush()
        os._exit(0)
    node = starting.result()
    if shutdown.is_set():
        await node.stop()
        return
    click.echo(
        f"node {node.node_id} serves at {config.cluster.listen or config.cluster.client_listen}", err=True
    )
    await engine.run(shutdown)
