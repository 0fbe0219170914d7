"""Faults that overlap."""

from dataclasses import dataclass

from d_engine.testing.sim.overlays import Overlays


@dataclass
class Link:
    loss: float = 0.0
    latency: int = 5


def test_whichever_is_over_first_the_other_holds() -> None:
    for first_out in (0, 1):
        overlays, link = Overlays(), Link()
        undos = [overlays.put(link, loss=0.1), overlays.put(link, loss=0.3)]
        undos[first_out]()
        assert link.loss == (0.3, 0.1)[first_out]
        undos[1 - first_out]()
        assert link == Link()


def test_attributes_and_targets_are_apart() -> None:
    overlays, one, other = Overlays(), Link(), Link()
    undo_both = overlays.put(one, loss=0.1, latency=9)
    undo_latency = overlays.put(one, latency=7)
    overlays.put(other, loss=0.5)
    undo_both()
    assert (one.loss, one.latency, other.loss) == (0.0, 7, 0.5)
    undo_latency()
    assert one == Link()
