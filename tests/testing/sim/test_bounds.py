"""I14: what a node keeps has a limit, and a node that outgrows one is caught."""

import pytest

from d_engine.replica.sessions import SessionTable
from d_engine.replica.settings import SnapshotSettings
from d_engine.replica.snapshotter import Snapshotter
from d_engine.storage.disk import DiskOperation, RemoveFile
from d_engine.storage.retirement import Retirement
from d_engine.testing.sim.directory import DataDirectory
from d_engine.testing.sim.run import Report, run_script, run_seed
from d_engine.testing.sim.script import Features, Script
from d_engine.testing.sim.work.workload import Workload


def test_sessions_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    init = SessionTable.__init__

    def generous(self: SessionTable, max_sessions: int) -> None:
        init(self, 10**9)

    monkeypatch.setattr(SessionTable, "__init__", generous)
    assert "I14" in {run_seed(seed, "crashes", steps=6000).invariant for seed in range(12)}


def busy_run() -> Report:
    """Large values, small segments, snapshots all the time, no faults."""
    short = SnapshotSettings(log_bytes=10_000, keep_log_ns=6, keep_log_bytes=1, pause_ns=0)
    features = Features(segment_bytes=16 * 1024, snapshots=short)
    workload = Workload(pause_ms=2.0, value_bytes=4000, lines=2)
    return run_script(Script(5, "snapshot", nodes=1, steps=15_000, features=features, workload=workload))


def test_a_busy_node_stays_within_its_limits() -> None:
    report = busy_run()
    assert (report.invariant, report.text) == ("", "")
    assert report.counters["snapshot: written"] > 10


def test_segments_that_are_never_removed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Retirement, "begin", lambda self, segments, removed: None)
    report = busy_run()
    assert report.invariant == "I14"
    assert "bytes of log on its disk" in report.text


def test_snapshots_that_are_never_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Snapshotter, "_is_due", lambda self, now: False)
    report = busy_run()
    assert report.invariant == "I14"
    assert "behind with a snapshot that is due" in report.text


def test_files_that_are_never_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    hold_open = DataDirectory._hold_open

    def forgetful(self: DataDirectory, operation: DiskOperation) -> None:
        if not isinstance(operation, RemoveFile):
            hold_open(self, operation)

    monkeypatch.setattr(DataDirectory, "_hold_open", forgetful)
    report = busy_run()
    assert report.invariant == "I14"
    assert "open files" in report.text
