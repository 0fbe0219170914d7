"""Groups that wait for their result (architecture, sections 4, 5 and 10)."""

from d_engine.format.errors import (
    EngineStoppedError,
    NoLeaderError,
    OutcomeUnknownError,
    OutcomeUnknownTimeoutError,
)
from d_engine.replica.outcome import GroupOutcome
from d_engine.replica.writes import WaitingGroup, WriteQueue


class Asked:
    def __init__(self) -> None:
        self.outcomes: list[GroupOutcome] = []

    def group(self, number: int = 1, deadline: int = 100, count: int = 1) -> WaitingGroup:
        return WaitingGroup((7, number), b"group", count, deadline, [self.outcomes.append])


def nobody() -> str:
    return "nobody"


RESULT = GroupOutcome([b"ok"], 3, None)


def test_a_result_finds_its_group_by_key() -> None:
    queue, asked = WriteQueue(), Asked()
    queue.add(asked.group(1, count=5))
    assert queue.waiting == 5
    queue.resolve((7, 2), RESULT)
    assert not asked.outcomes
    queue.resolve((7, 1), RESULT)
    assert asked.outcomes == [RESULT]
    assert queue.waiting == 0


def test_the_same_group_asked_for_twice_shares_one_result() -> None:
    queue, first, second = WriteQueue(), Asked(), Asked()
    queue.add(first.group())
    queue.add(second.group())
    assert queue.waiting == 1
    assert len(queue.unrouted) == 1
    queue.resolve((7, 1), RESULT)
    assert first.outcomes == second.outcomes == [RESULT]


def test_what_was_routed_is_not_routed_again_until_its_way_is_cut() -> None:
    queue, asked = WriteQueue(), Asked()
    queue.add(asked.group())
    queue.routed(list(queue.unrouted.values()), now=10)
    assert not queue.unrouted
    queue.reroute(routed_before=9)
    assert not queue.unrouted
    queue.reroute(routed_before=10)
    assert len(queue.unrouted) == 1
    queue.routed(list(queue.unrouted.values()), now=20)
    queue.reroute()
    assert len(queue.unrouted) == 1


def test_a_group_that_never_left_ends_as_not_applied() -> None:
    queue, asked = WriteQueue(), Asked()
    queue.add(asked.group(deadline=50))
    queue.expire(50, nobody)
    error = asked.outcomes[0].error
    assert isinstance(error, NoLeaderError)
    assert "nobody" in str(error)


def test_a_group_that_was_on_its_way_ends_as_outcome_unknown() -> None:
    queue, asked = WriteQueue(), Asked()
    queue.add(asked.group(deadline=50))
    queue.routed(list(queue.unrouted.values()), now=1)
    queue.reroute()
    queue.expire(50, nobody)
    assert isinstance(asked.outcomes[0].error, OutcomeUnknownTimeoutError)
    assert queue.waiting == 0
    assert queue.deadline is None


def test_when_the_node_stops_everybody_is_told_what_is_true_for_them() -> None:
    queue, sent, unsent = WriteQueue(), Asked(), Asked()
    queue.add(sent.group(1))
    queue.routed(list(queue.unrouted.values()), now=1)
    queue.add(unsent.group(2))
    queue.fail(EngineStoppedError())
    assert isinstance(sent.outcomes[0].error, OutcomeUnknownError)
    assert isinstance(unsent.outcomes[0].error, EngineStoppedError)


def test_failing_the_unrouted_spares_those_on_their_way() -> None:
    queue, sent, unsent = WriteQueue(), Asked(), Asked()
    queue.add(sent.group(1))
    queue.routed(list(queue.unrouted.values()), now=1)
    queue.reroute()
    queue.add(unsent.group(2))
    queue.fail_unrouted(EngineStoppedError())
    assert not sent.outcomes
    assert len(unsent.outcomes) == 1


def test_a_patient_group_does_not_keep_finished_ones_in_memory() -> None:
    queue, patient, asked = WriteQueue(), Asked(), Asked()
    queue.add(patient.group(0, deadline=1))
    for number in range(1, 1001):
        queue.add(asked.group(number, deadline=100 + number))
        queue.resolve((7, number), RESULT)
    assert not patient.outcomes
    assert len(queue._deadlines) < 200
