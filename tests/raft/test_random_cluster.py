"""A few hundred random runs of whole clusters of cores; see `tests.raft.random_cluster` for what is checked."""

import pytest

from tests.raft.random_cluster import RandomRun

SEEDS_PER_TEST = 12


@pytest.mark.slow
@pytest.mark.parametrize("first", range(0, 300, SEEDS_PER_TEST))
def test_rules_hold_under_random_faults(first: int) -> None:
    counts: dict[str, int] = {}
    for seed in range(first, first + SEEDS_PER_TEST):
        cluster = RandomRun(seed)
        cluster.run()
        for name, count in cluster.rules.counts.items():
            counts[name] = counts.get(name, 0) + count

    # A batch in which something never happened proves nothing about it.
    assert all(counts.values()), counts


def test_same_seed_is_the_same_run() -> None:
    runs = [RandomRun(7), RandomRun(7)]
    for run in runs:
        run.run()

    assert runs[0].order == runs[1].order
    assert runs[0].rules.decided == runs[1].rules.decided
