"""Log time (architecture, section 7)."""

from d_engine.replica.log_clock import LogClock


def test_it_stands_still_while_the_node_does_not_lead() -> None:
    clock = LogClock()
    assert clock.read(5) == clock.read(500) == 0
    assert not clock.running


def test_a_new_leader_goes_on_from_the_log_time_that_its_log_had_reached() -> None:
    clock = LogClock()
    clock.start(1, 1000, now=50)
    assert clock.running
    assert clock.read(50) == 1000
    assert clock.read(80) == 1030


def test_what_it_counted_while_somebody_else_led_does_not_count() -> None:
    clock = LogClock()
    clock.start(1, 1000, now=50)
    clock.stop(now=60)
    assert clock.read(9999) == 1010
    clock.start(2, 1003, now=100)
    assert clock.read(100) == 1003


def test_it_never_goes_back_even_if_the_clock_did() -> None:
    clock = LogClock()
    clock.start(1, 1000, now=50)
    assert clock.read(40) == 1000
