"""The commands, put together."""

import click

from d_engine.cli.cluster import leader, status, transfer
from d_engine.cli.config import config
from d_engine.cli.data import cas, delete, get, put, scan
from d_engine.cli.demo.command import demo
from d_engine.cli.inspect import inspect
from d_engine.cli.lease import lease
from d_engine.cli.load import bench
from d_engine.cli.many import range_, txn
from d_engine.cli.members import members
from d_engine.cli.recover import recover
from d_engine.cli.serve import serve
from d_engine.cli.simulate import sim
from d_engine.cli.snapshot import snapshot
from d_engine.cli.watch import watch
from d_engine.format.version import __version__

_EPILOG = """\b
Exit codes: 0 done; 1 a plain "no" (key absent, a comparison that failed);
2 bad usage; 3 nothing was applied, try again later; 4 outcome unknown;
5 refused; 6 this machine or its configuration is at fault.
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="d-engine")
def app() -> None:
    """A strongly consistent key-value store over Raft, as a service and as a client of it.

    \b
    Start a node that is a cluster of its own, and use it:
        d-engine serve --data-dir ./data --listen 127.0.0.1:7000
        d-engine put greeting hello
        d-engine get greeting
    """


for _command in (
    serve,
    put,
    get,
    delete,
    cas,
    scan,
    range_,
    txn,
    watch,
    lease,
    status,
    members,
    leader,
    transfer,
    snapshot,
    inspect,
    recover,
    config,
    bench,
    demo,
    sim,
):
    app.add_command(_command)
