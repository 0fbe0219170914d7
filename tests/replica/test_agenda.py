"""Turns and chores (docs/design/performance.md, "Counts")."""

from benchmarks.counts import CountedCluster, python_calls

from d_engine.format.errors import OutcomeUnknownTimeoutError
from d_engine.format.group import encode_group
from d_engine.kv.commands import encode_put
from d_engine.replica.agenda import CHORES_EVERY


def test_a_batch_costs_no_more_calls_than_it_used_to() -> None:
    """What noise cannot hide: whoever adds work to every turn has to say so here."""
    put, read = python_calls("put"), python_calls("read")
    assert put["leader"] <= 430
    assert put["follower"] <= 320
    assert read["leader"] <= 240
    assert read["follower"] <= 80


def test_messages_alone_do_not_make_chores() -> None:
    cluster = CountedCluster()
    agenda = cluster.leader.replica._agenda
    cluster.put(1)
    before = agenda._done_at
    cluster.now += CHORES_EVERY - 1
    cluster.put(1)
    assert agenda._done_at == before

    cluster.now += 1
    cluster.put(1)
    assert agenda._done_at == cluster.now


def test_who_asks_gets_chores_at_once() -> None:
    cluster = CountedCluster()
    agenda = cluster.leader.replica._agenda
    cluster.now += 1
    cluster.leader.replica.wake()
    cluster.settle()
    assert agenda._done_at == cluster.now


def test_a_time_out_is_noticed_when_it_is_due_and_not_ten_milliseconds_later() -> None:
    cluster = CountedCluster()
    replica = cluster.leader.replica
    cluster.nodes = {1: cluster.leader}
    cluster.messages.clear()
    outcomes = cluster.outcomes
    outcomes.clear()
    group = encode_group(cluster.session, 1, 0, [encode_put(b"k", b"v")])
    timer: list[int] = []
    cluster.leader.set_timer = timer.append  # type: ignore[assignment, method-assign]
    replica.propose(group, 5000, outcomes.append)
    cluster.leader.run_soon()
    assert timer[-1] == cluster.now + 5000

    cluster.now += 5000
    replica.wake()
    cluster.leader.run_soon()
    assert isinstance(outcomes[0].error, OutcomeUnknownTimeoutError)
