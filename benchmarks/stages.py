"""Where the time of a write goes: a breakdown by stages, of one task that writes alone.

    python -m benchmarks.stages              three nodes, 2,000 writes

The leader's process notes the time at which a write passes each place (functions are wrapped here, nothing of it is in
the engine). Printed are the medians of the time from one place to the next. The stages of the disk and of the followers
run side by side: the write goes on when the slower of the two is over. Noting costs a few microseconds in all.
"""

import asyncio
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import uvloop

from benchmarks.embedded import Embedded, run_node
from benchmarks.load import VALUE, known_keys
from benchmarks.machine import default_parent
from d_engine.client.writer import GroupWriter
from d_engine.engine.transport import Transport
from d_engine.raft.core import Raft
from d_engine.raft.replication import Replication
from d_engine.replica.applier import Applier
from d_engine.replica.replica import Replica
from d_engine.runtime.disk import _Files
from d_engine.storage.disk import SyncFile, WriteFile

_WRITES = 2000
_PLACES = (
    *("asked", "sent", "taken", "proposed", "disk", "synced"),
    *("acknowledged", "applying", "applied", "told", "done"),
)
_STAGES = {
    "queue and encode (caller's loop)": ("asked", "sent"),
    "hand-over to the engine's thread": ("sent", "taken"),
    "wait for the turn, entry": ("taken", "proposed"),
    "WAL: to the disk's thread": ("proposed", "disk"),
    "WAL: write and sync": ("disk", "synced"),
    "network: until the first follower's acknowledgement": ("proposed", "acknowledged"),
    "commit: from the later of the two until applied begins": ("later", "applying"),
    "apply": ("applying", "applied"),
    "wake-up: hand-over to the caller's loop": ("applied", "told"),
    "wake-up: the task goes on": ("told", "done"),
    "altogether": ("asked", "done"),
}

_marks: dict[str, int] = {}


def mark(place: str) -> None:
    """The write is here now. The first time counts."""
    _marks.setdefault(place, perf_counter_ns())


def _before(owner: Any, name: str, place: str, when: Callable[..., bool] = lambda *arguments: True) -> None:
    function = getattr(owner, name)

    @wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        if when(*arguments):
            mark(place)
        return function(*arguments, **named)

    setattr(owner, name, wrapped)


def _after(owner: Any, name: str, place: str, when: Callable[..., bool] = lambda *arguments: True) -> None:
    function = getattr(owner, name)

    @wraps(function)
    def wrapped(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        if when(*arguments):
            mark(place)
        return result

    setattr(owner, name, wrapped)


def install() -> None:
    """Wrap. Before the engine is made."""
    _before(Transport, "submit", "sent")
    _before(Replica, "propose", "taken")
    _before(Raft, "propose", "proposed")
    _before(_Files, "perform", "disk", lambda files, operation: isinstance(operation, WriteFile))
    _after(_Files, "perform", "synced", lambda files, operation: isinstance(operation, SyncFile))
    _before(Replication, "on_append_response", "acknowledged", lambda *arguments: "proposed" in _marks)
    _before(Applier, "apply", "applying")
    _after(Applier, "apply", "applied")
    _before(GroupWriter, "_group_done", "told")


async def measure_stages(put: Callable[[bytes, bytes], Any]) -> dict[str, float]:
    """Median microseconds of each stage."""
    keys, rows = known_keys(), []
    for number in range(_WRITES):
        _marks.clear()
        mark("asked")
        await put(keys[number], VALUE)
        mark("done")
        row = dict(_marks)
        if all(place in row for place in _PLACES):
            rows.append(row | {"later": max(row["synced"], row["acknowledged"])})
        # A late acknowledgement of this write must not be taken for one of the next.
        await asyncio.sleep(0.002)
    return {
        stage: median(max(0, row[end] - row[begin]) for row in rows) / 1000
        for stage, (begin, end) in _STAGES.items()
    }


class Staged(Embedded):
    """Three nodes that note."""

    module = "stages"

    def stages(self) -> dict[str, float]:
        """Measured in the leader's process."""
        found: dict[str, float] = self.leader().call("stages")
        return found


def main(arguments: Sequence[str]) -> None:
    """Without arguments: measure. Else be a node."""
    if arguments:
        number, directory, members = arguments
        install()
        uvloop.run(run_node(int(number), Path(directory), members, {"stages": measure_stages}))
        return
    subject = Staged(keys=_WRITES)
    with tempfile.TemporaryDirectory(dir=default_parent(), prefix="d-engine-stages-") as directory:
        try:
            subject.start(Path(directory))
            for stage, microseconds in subject.stages().items():
                print(f"{stage:58} {microseconds:9.1f} µs")
        finally:
            subject.stop()


if __name__ == "__main__":
    main(sys.argv[1:])
