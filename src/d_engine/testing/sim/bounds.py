"""Everything that a node keeps has a limit (I14): looked at once in a while, because it only grows slowly.

*The log on the disk* is what was applied since the older of the two kept snapshots, or as much more as the settings let
stay, what was not applied yet, or was replaced instead, and what the segments hold besides. It is cut at marks, so that
what is written between two marks comes on top. How far a snapshot may be behind, the engine's own rule says, and it is
held to that too: one that is due is begun.

*Open files*: a process has one for each file that it wrote, until the file is gone (`d_engine.runtime.disk`).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from d_engine.format.ids import Nanoseconds
from d_engine.storage.segment import segment_number
from d_engine.testing.sim.events import MILLISECOND
from d_engine.testing.sim.violations import InvariantBroken

if TYPE_CHECKING:
    from d_engine.testing.sim.disk import SimDisk
    from d_engine.testing.sim.node import Process, SimNode

TURNS_BETWEEN = 128
_KEPT_FILES = 12
"""Identity, two snapshots, temporary files of each kind, and what is being removed."""
_KEPT_SEGMENTS = 6
"""The one that is written, the next, the oldest, which is partly dead, and what is being removed."""
_MARKS_PER_TIME = 6
_BEGUN_WITHIN: Nanoseconds = 100 * MILLISECOND
"""Chores are done every 10 ms; then a snapshot that is due is begun."""


@dataclass(slots=True)
class LogWatch:
    """How much log one process has at most: bytes applied behind its newest snapshot, and between two marks; entries
    that were not applied. `due_for`: how long a snapshot has been due and was not begun."""

    at_start: int
    """Bytes on the disk."""
    behind: int = 0
    waiting: int = 0
    between_marks: int = 0
    due_for: Nanoseconds = 0
    _behind_now: int = 0
    _written: int = 0
    _since: Nanoseconds = 0
    _due_since: Nanoseconds | None = None

    def after_turn(self, node: "SimNode", process: "Process") -> None:
        """Note what has become of it."""
        taking, now = process.replica.executor.snapshots.taking, node.shared.events.now
        behind, before = taking.log_bytes, self._behind_now
        self._behind_now = behind
        self.waiting = max(self.waiting, node.record.log.last_index - process.replica.applier.applied_index)
        if behind == before:
            return
        self.behind = max(self.behind, behind)
        self._written += behind - before if behind > before else behind
        self.between_marks = max(self.between_marks, self._written)
        if now - self._since >= node.settings.snapshots.keep_log_ns // _MARKS_PER_TIME:
            self._written, self._since = 0, now
        if not _is_due(node, process):
            self._due_since, self.due_for = None, 0
        elif self._due_since is None:
            self._due_since = now
        else:
            self.due_for = now - self._due_since

    def limit(self, node: "SimNode") -> int:
        """How many bytes of log may be on the disk."""
        waiting = self.waiting * node.shared.safety.largest_entry
        kept = 3 * self.behind + 2 * self.between_marks + node.settings.snapshots.keep_log_bytes
        # Twice: records are larger than the entries in them, and what was replaced stays where it stands.
        return max(self.at_start, 2 * (kept + waiting)) + _KEPT_SEGMENTS * node.shared.segment_bytes


def segments(names: list[str]) -> list[str]:
    """Those of the log."""
    return [name for name in names if segment_number(name) is not None]


def log_bytes(disk: "SimDisk") -> int:
    """Of all segments together."""
    return sum(map(disk.size, segments(disk.files())))


def check_bounds(node: "SimNode", process: "Process") -> None:
    """Raises `InvariantBroken` if something has outgrown its limit."""
    replica, log = process.replica, process.log
    settings = replica.settings
    names = node.disk.files()
    bounds = (
        ("writes waiting", replica.writes.waiting, settings.max_pending_writes),
        ("reads waiting", replica.reads.waiting, settings.max_pending_reads),
        ("sessions", len(replica.applier.sessions), settings.max_sessions),
        ("files beside the log", len(names) - len(segments(names)), _KEPT_FILES),
        ("bytes of log on its disk", log_bytes(node.disk), log.limit(node)),
        ("open files", len(node.disk.directory.opened), len(names)),
        ("ns behind with a snapshot that is due", log.due_for, _BEGUN_WITHIN),
    )
    for what, found, limit in bounds:
        if found > limit:
            raise InvariantBroken("I14", f"node {node.id} has {found} {what}, at most {limit} are allowed")


def _is_due(node: "SimNode", process: "Process") -> bool:
    """Whether so much log is behind the newest snapshot that one must be taken, wherever the node stands among the
    voters, and none is being taken."""
    snapshots = process.replica.executor.snapshots
    taking, newest = snapshots.taking, snapshots.files.newest
    if not taking.idle or process.replica.raft.isolation.stands_still:
        return False
    if node.clocks.boot(node.shared.events.now) < taking.not_before:
        return False
    limit = max(node.settings.snapshots.log_bytes, 0 if newest is None else newest.header.size)
    return taking.log_bytes > limit * 3 // 2
