"""What lasts: scenarios 2, 3 and 10, each alone in its world, at full length."""

from dataclasses import replace

import pytest

from d_engine.replica.settings import SnapshotSettings
from d_engine.testing.sim.events import MILLISECOND, SECOND
from d_engine.testing.sim.run import Report, run_script
from d_engine.testing.sim.script import Features, PlannedFault, Script
from d_engine.testing.sim.work.workload import Workload


def run(
    fault: str, seconds: int, steps: int, seed: int = 1, nodes: int = 3, features: Features | None = None
) -> Report:
    """A quiet cluster under one fault, which is over before so many events."""
    report = run_script(
        Script(
            seed=seed,
            profile="lasting",
            nodes=nodes,
            steps=steps,
            embedded=1,
            remote=1,
            operations=400,
            features=features or Features(max_pending=20_000),
            workload=Workload(pause_ms=500.0),
            faults=(PlannedFault(3 * SECOND, fault, seconds * SECOND, seed),),
        )
    )
    assert not report.failed, report.text
    return report


def test_a_node_is_back_after_a_thousand_election_time_outs() -> None:
    """Scenario 3: it was elected by nobody meanwhile, and deposes nobody now."""
    quick = Features(
        heartbeat=20 * MILLISECOND, election_min=100 * MILLISECOND, election_max=200 * MILLISECOND
    )
    report = run("alone_for_long", 200, 100_000, features=quick)
    assert report.counters["seen: a node that is back after long, and deposes nobody"]
    assert report.counters["leader elected"] == 1


@pytest.mark.parametrize(("nodes", "steps"), [(3, 20_000), (5, 50_000)])
def test_partial_connectivity_for_minutes(nodes: int, steps: int) -> None:
    """Scenario 2: the shape of three nodes and that of five, in which somebody leads for good."""
    for seed in range(3):
        report = run("lasting_chain", 120, steps, seed, nodes)
        assert report.counters[f"seen: {nodes} nodes that reach each other in part, and one that leads"]


SHORT_LOGS = SnapshotSettings(log_bytes=500, keep_log_ns=6, keep_log_bytes=1, pause_ns=0)


@pytest.mark.parametrize(
    ("snapshots", "how"),
    [(SnapshotSettings(), "others"), (SHORT_LOGS, "a snapshot")],
    ids=["appends", "snapshot"],
)
def test_ten_thousand_entries_that_have_to_go(snapshots: SnapshotSettings, how: str) -> None:
    """Scenario 10, with the log behind them and without: the fault itself counts the rounds."""
    features = Features(max_pending=20_000, snapshots=snapshots)
    report = run("very_long_suffix", 12, 6_000, 2, features=features)
    assert report.counters[f"seen: ten thousand entries that are replaced by {how}"]


def test_small_windows_do_not_make_more_rounds() -> None:
    """One entry an append, and one append at a time."""
    features = Features(max_pending=20_000, append_bytes=1, in_flight_bytes=1, cache_bytes=0)
    report = run("very_long_suffix", 12, 6_000, 3, features=replace(features, snapshots=SHORT_LOGS))
    assert report.counters["seen: ten thousand entries that are replaced by a snapshot"]
