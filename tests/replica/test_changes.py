"""Changes that somebody waits for: each ends once, with what is true (architecture, section 10)."""

from d_engine.format.errors import DEngineError, EngineStoppedError, MembershipError, OutcomeUnknownError
from d_engine.replica.changes import ChangeQueue


def test_a_transfer_has_succeeded_when_the_node_that_was_meant_leads() -> None:
    queue, answers = ChangeQueue(), list[DEngineError | None]()
    queue.transferring(2, answers.append, 100)
    queue.led_by(2)
    queue.led_by(3)
    assert answers == [None]


def test_a_transfer_has_failed_when_another_node_leads_or_this_one_still_does() -> None:
    queue, answers = ChangeQueue(), list[DEngineError | None]()
    queue.transferring(2, answers.append, 100)
    queue.led_by(3)
    queue.transferring(2, answers.append, 100)
    queue.transfer_given_up()
    assert [type(answer) for answer in answers] == [MembershipError, MembershipError]


def test_a_transfer_whose_end_nobody_saw_is_of_unknown_outcome() -> None:
    queue, answers = ChangeQueue(), list[DEngineError | None]()
    queue.transferring(2, answers.append, 100)
    queue.expire(99)
    assert not answers
    queue.expire(100)
    assert isinstance(answers[0], OutcomeUnknownError)
    assert queue.deadline is None


def test_what_was_under_way_when_the_node_stops_is_of_unknown_outcome() -> None:
    queue, answers = ChangeQueue(), list[DEngineError | None]()
    queue.sent(answers.append, 100)
    queue.proposed(7, answers.append, 100)
    queue.transferring(2, answers.append, 100)
    queue.fail(EngineStoppedError())
    assert len(answers) == 3
    assert all(isinstance(answer, OutcomeUnknownError) for answer in answers)
