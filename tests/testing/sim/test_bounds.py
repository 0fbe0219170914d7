"""I14: what a node keeps has a limit, and a node that outgrows one is caught."""

import pytest

from d_engine.replica.sessions import SessionTable
from d_engine.testing.sim.run import run_seed


def test_sessions_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    init = SessionTable.__init__

    def generous(self: SessionTable, max_sessions: int) -> None:
        init(self, 10**9)

    monkeypatch.setattr(SessionTable, "__init__", generous)
    assert "I14" in {run_seed(seed, "crashes", steps=6000).invariant for seed in range(12)}
