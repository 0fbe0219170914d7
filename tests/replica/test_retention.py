"""How much of the log stays."""

from d_engine.replica.retention import Retention
from d_engine.replica.settings import SnapshotSettings

SECOND = 1_000_000_000
SETTINGS = SnapshotSettings(keep_log_ns=60 * SECOND, keep_log_bytes=10_000)
EVERYBODY = 1 << 40


def log(seconds: int, bytes_a_second: int = 10) -> tuple[Retention, int]:
    """One entry a second; the time at its end."""
    retention = Retention(SETTINGS)
    retention.mark(0, 0)
    for second in range(1, seconds + 1):
        retention.applied(bytes_a_second)
        retention.mark(second * SECOND, second)
    return retention, seconds * SECOND


def test_a_mark_is_made_every_sixth_of_the_time() -> None:
    retention = Retention(SETTINGS)
    made = [retention.mark(second * SECOND, second) for second in range(31)]
    assert [second for second, mark in enumerate(made) if mark] == [0, 10, 20, 30]


def test_what_is_young_stays() -> None:
    retention, now = log(200)
    assert retention.floor(now, EVERYBODY, EVERYBODY) == 140
    assert retention.floor(now + 59 * SECOND, EVERYBODY, EVERYBODY) == 190


def test_what_the_older_snapshot_needs_stays_whatever_else() -> None:
    retention, now = log(200, 1_000_000)
    assert retention.floor(now, 17, EVERYBODY) == 17
    assert retention.floor(now, 0, 0) == 0


def test_what_a_follower_needs_stays() -> None:
    retention, now = log(200)
    assert retention.floor(now, EVERYBODY, 33) == 33


def test_what_is_too_large_goes_though_it_is_young_and_needed() -> None:
    retention, now = log(200, 1000)
    assert retention.floor(now, EVERYBODY, 33) == 190
    assert retention.floor(now, 150, 33) == 150


def test_a_young_process_knows_of_nothing_old() -> None:
    retention, now = log(50)
    assert retention.floor(now, EVERYBODY, EVERYBODY) == 0


def test_marks_are_few() -> None:
    retention, now = log(20_000)
    assert len(retention._marks) <= 512
    assert retention.floor(now, EVERYBODY, EVERYBODY) == 19_940
    retention.cut(19_000)
    assert retention.floor(now, EVERYBODY, EVERYBODY) == 19_940
    assert len(retention._marks) < 110
