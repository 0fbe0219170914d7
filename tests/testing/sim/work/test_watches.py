"""I10 in the simulator: the profile does what it is for, it holds, and what is planted shows (scenario 40)."""

from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

import pytest

from d_engine.client import feed
from d_engine.kv.events import Event, Write, event_of
from d_engine.kv.history import History, Part
from d_engine.kv.watching import weigh
from d_engine.replica import watches
from d_engine.replica.watchers import Watcher, Watchers
from d_engine.testing.sim.run import run_seed

STEPS = 6000
Plant: TypeAlias = Callable[[pytest.MonkeyPatch], None]


def test_the_profile_holds_and_does_what_it_is_for() -> None:
    counters: Counter[str] = Counter()
    for seed in range(4, 10):
        report = run_seed(seed, "watch", steps=STEPS)
        assert not report.failed, report.text
        counters.update(report.counters)
    for what in ("opened", "resumed", "compacted", "watch_lagged", "progress", "batches"):
        assert counters[f"watch: {what}"], (what, counters)


def _skip_at_the_end_of_a_part(patch: pytest.MonkeyPatch) -> None:
    read = History.read

    def skipping(self: History, number: int, limit: int) -> Part:
        part = read(self, number, limit)
        # Only watches read less than all that is there.
        return part._replace(writes=part.writes[:-1]) if limit == 3 and len(part.writes) == 3 else part

    patch.setattr(History, "read", skipping)


def _wrong_previous(patch: pytest.MonkeyPatch) -> None:
    made = event_of

    def wrong(write: Write, previous: bool) -> Event:
        entry, before = write
        return made((entry, None if before is not None and before.version == 1 else before), previous)

    patch.setattr(watches, "event_of", wrong)


def _revision_split(patch: pytest.MonkeyPatch) -> None:
    def split(self: feed.Feed) -> None:
        for event in self._partial:
            self.batches.append((feed.WatchBatch(event.revision, (event,)), weigh(event), self.line))
        self._partial.clear()

    patch.setattr(feed.Feed, "_complete", split)


def _mark_ahead(patch: pytest.MonkeyPatch) -> None:
    progress = Watchers.progress

    def ahead(self: Watchers, told: list[Watcher], revision: int) -> None:
        progress(self, told, revision + 1)

    patch.setattr(Watchers, "progress", ahead)


@pytest.mark.parametrize("plant", [_skip_at_the_end_of_a_part, _wrong_previous, _revision_split, _mark_ahead])
def test_what_is_planted_shows(plant: Plant, monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    for seed in range(12):
        report = run_seed(seed, "watch", steps=STEPS)
        if report.failed:
            assert report.invariant == "I10", report.text
            return
    pytest.fail("nothing shows")
