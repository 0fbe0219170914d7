"""Settings are refused unless they fit together."""

import pytest

from d_engine.format.errors import ConfigError
from d_engine.raft.settings import RaftSettings


def test_settings_are_checked_against_each_other() -> None:
    """Style: one `validate()` for every setting."""
    for wrong in (
        {"heartbeat_ns": 0},
        {"election_min_ns": 200_000_000},
        {"election_max_ns": 500_000_000},
        {"lease_margin_percent": 0},
        {"max_append_bytes": 0},
        {"max_in_flight_bytes": 1},
    ):
        with pytest.raises(ConfigError):
            RaftSettings(1, 101, **wrong).validate()
    with pytest.raises(ConfigError):
        RaftSettings(0, 101).validate()
    with pytest.raises(ConfigError):
        RaftSettings(1, 0).validate()
