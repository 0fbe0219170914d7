"""Everything that a node keeps has a limit (I14): looked at once in a while, because it only grows slowly."""

from typing import TYPE_CHECKING

from d_engine.storage.segment import segment_number
from d_engine.testing.sim.violations import InvariantBroken

if TYPE_CHECKING:
    from d_engine.testing.sim.node import Process, SimNode

TURNS_BETWEEN = 128
_KEPT_FILES = 12
"""Identity, two snapshots, temporary files of each kind, and what is being removed."""


def check_bounds(node: "SimNode", process: "Process") -> None:
    """Raises `InvariantBroken` if something has outgrown its limit."""
    replica = process.replica
    settings = replica.settings
    others = [name for name in node.disk.files() if segment_number(name) is None]
    bounds = (
        ("writes waiting", replica.writes.waiting, settings.max_pending_writes),
        ("reads waiting", replica.reads.waiting, settings.max_pending_reads),
        ("sessions", len(replica.applier.sessions), settings.max_sessions),
        ("files beside the log", len(others), _KEPT_FILES),
    )
    for what, found, limit in bounds:
        if found > limit:
            raise InvariantBroken("I14", f"node {node.id} has {found} {what}, at most {limit} are allowed")
