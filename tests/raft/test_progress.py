"""One peer's progress: the three states and what moves between them."""

from d_engine.raft.progress import Progress, ProgressState


def replicating(match_index: int = 5) -> Progress:
    progress = Progress(match_index + 1, now=0)
    progress.acknowledged(match_index, now=0)
    return progress


def test_probe_sends_one_append_at_a_time_and_does_not_run_ahead() -> None:
    progress = Progress(8, now=0)

    progress.sent(9, 100, now=1)

    assert (progress.state, progress.next_index, progress.probe_sent) == (ProgressState.PROBE, 8, True)


def test_acknowledged_probe_starts_replication() -> None:
    progress = Progress(8, now=0)
    progress.sent(9, 100, now=1)

    assert progress.acknowledged(9, now=2)
    assert (progress.state, progress.match_index, progress.next_index) == (ProgressState.REPLICATE, 9, 10)


def test_replication_runs_ahead_and_counts_what_is_in_flight() -> None:
    progress = replicating()
    progress.sent(7, 200, now=1)
    progress.sent(9, 300, now=1)
    assert (progress.next_index, progress.in_flight_messages, progress.in_flight_bytes) == (10, 2, 500)

    progress.acknowledged(8, now=2)
    assert (progress.in_flight_messages, progress.in_flight_bytes) == (1, 300)
    progress.acknowledged(9, now=3)
    assert (progress.in_flight_messages, progress.in_flight_bytes) == (0, 0)


def test_match_index_only_rises() -> None:
    progress = replicating(5)

    assert not progress.acknowledged(3, now=1)
    assert progress.match_index == 5
    progress.probe(2)
    assert progress.next_index == 6


def test_rejections_that_were_settled_since_are_stale() -> None:
    probing = Progress(8, now=0)
    assert not probing.is_stale_rejection(7)
    assert probing.is_stale_rejection(6)

    sending = replicating(5)
    assert sending.is_stale_rejection(5)
    assert not sending.is_stale_rejection(6)

    waiting = replicating(5)
    waiting.snapshot()
    assert waiting.is_stale_rejection(6)


def test_lost_connection_forgets_what_was_sent_and_nothing_else() -> None:
    sending = replicating(5)
    sending.sent(9, 100, now=1)
    sending.disconnected()
    assert (sending.state, sending.next_index, sending.in_flight_bytes) == (ProgressState.PROBE, 6, 0)

    probing = Progress(8, now=0)
    probing.sent(9, 100, now=1)
    probing.disconnected()
    assert (probing.next_index, probing.probe_sent) == (8, False)


def test_snapshot_waits_until_the_peer_reaches_the_log() -> None:
    progress = replicating(5)
    progress.snapshot()
    progress.sent(20, 0, now=1)
    assert (progress.state, progress.next_index) == (ProgressState.SNAPSHOT, 6)

    progress.acknowledged(20, now=2)
    assert progress.state is ProgressState.SNAPSHOT
    progress.snapshot_done()
    assert (progress.state, progress.next_index) == (ProgressState.REPLICATE, 21)
