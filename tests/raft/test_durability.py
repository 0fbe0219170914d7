"""Which messages wait for which write, and what a completed write makes durable."""

from d_engine.format.messages import Heartbeat, HeartbeatResponse, VoteResponse
from d_engine.format.state import HardState, RecoveredLog
from d_engine.raft.durability import Durability
from d_engine.raft.log import RaftLog
from d_engine.raft.membership import NO_MEMBERS
from tests.raft.lone_node import command, commands

SECOND = 1_000_000_000


def empty_log() -> RaftLog:
    return RaftLog(RecoveredLog(), NO_MEMBERS, lambda first, size: (), 1000)


def log_of(*terms: int) -> RaftLog:
    log = empty_log()
    for entry in commands(1, terms):
        log.append(entry)
    return log


def test_message_waits_for_its_term_only() -> None:
    durability, log = Durability(HardState(3, 0)), empty_log()
    durability.send(2, HeartbeatResponse(3, 1), HardState(3, 2))
    assert len(durability.take_messages()) == 1

    durability.send(2, HeartbeatResponse(4, 1), HardState(4, 0))
    assert durability.take_messages() == []
    persist = durability.take_persist(HardState(4, 0), log, 0)
    assert persist is not None
    durability.persisted(persist.seq, log, 0)
    assert durability.take_messages() == [(2, HeartbeatResponse(4, 1))]


def test_vote_waits_for_the_vote() -> None:
    durability, log = Durability(HardState(3, 0)), empty_log()
    durability.send(2, VoteResponse(3, True, False), HardState(3, 2), promises_vote=True)
    assert durability.take_messages() == []

    persist = durability.take_persist(HardState(3, 2), log, 0)
    assert persist is not None
    assert persist.hard_state == HardState(3, 2)
    durability.persisted(persist.seq, log, 0)
    assert len(durability.take_messages()) == 1


def test_messages_of_a_term_that_has_passed_are_dropped() -> None:
    durability = Durability(HardState(3, 0))
    durability.send(2, Heartbeat(3, 1, 0, 0), HardState(3, 0))
    durability.send(2, HeartbeatResponse(4, 1), HardState(4, 0))

    durability.forget_messages()

    assert durability.take_messages() == []


def test_nothing_new_is_not_handed_over() -> None:
    durability, log = Durability(HardState(1, 0)), log_of(1)
    first = durability.take_persist(HardState(1, 0), log, 0)

    assert first is not None
    assert (first.seq, first.hard_state, len(first.entries)) == (1, None, 1)
    assert durability.take_persist(HardState(1, 0), log, 0) is None
    durability.rewrite = True
    again = durability.take_persist(HardState(1, 0), log, 0)
    assert again is not None
    assert again.hard_state == HardState(1, 0)


def test_completion_covers_everything_before_it() -> None:
    durability, log = Durability(HardState(1, 0)), log_of(1)
    durability.take_persist(HardState(1, 0), log, 0)
    log.append(command(2, 1))
    second = durability.take_persist(HardState(1, 0), log, 0)
    assert second is not None

    assert durability.persisted(second.seq, log, 0)
    assert log.durable_index == 2
    assert not durability.persisted(second.seq, log, 0)


def test_cut_caps_the_writes_under_way() -> None:
    durability, log = Durability(HardState(2, 0)), log_of(1, 1, 1)
    first = durability.take_persist(HardState(2, 0), log, 0)
    log.truncate(2)
    durability.cap(1)
    for entry in commands(2, (2, 2)):
        log.append(entry)
    assert first is not None

    durability.persisted(first.seq, log, 0)

    assert log.durable_index == 1


def test_stall_is_time_without_a_completed_write() -> None:
    durability, log = Durability(HardState(1, 0)), log_of(1)
    assert not durability.is_stalled(9 * SECOND, SECOND)
    first = durability.take_persist(HardState(1, 0), log, 10 * SECOND)
    log.append(command(2, 1))
    second = durability.take_persist(HardState(1, 0), log, 10 * SECOND + 1)
    assert first is not None
    assert second is not None

    assert not durability.is_stalled(11 * SECOND - 1, SECOND)
    assert durability.is_stalled(11 * SECOND, SECOND)
    durability.persisted(first.seq, log, 11 * SECOND)
    assert not durability.is_stalled(12 * SECOND - 1, SECOND)
    durability.persisted(second.seq, log, 12 * SECOND)
    assert not durability.is_stalled(99 * SECOND, SECOND)
