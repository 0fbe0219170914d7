"""Reads that wait for confirmation, application, or a revision (architecture, section 6)."""

from d_engine.format.errors import DEngineError, EngineStoppedError, NotAppliedTimeoutError
from d_engine.replica.reads import ReadQueue, WaitingRead


class Asked:
    def __init__(self) -> None:
        self.answers: list[DEngineError | None] = []

    def read(self, deadline: int = 100, min_revision: int = 0, count: int = 1) -> WaitingRead:
        return WaitingRead(self.answers.append, count, deadline, min_revision)


def nobody() -> str:
    return "nobody"


def test_a_read_waits_for_confirmation_and_for_application() -> None:
    queue, asked = ReadQueue(), Asked()
    queue.join(asked.read(count=3))
    assert queue.waiting == 3
    queue.assign(1)
    queue.applied(10, 0)
    assert not asked.answers
    queue.confirmed(1, 12)
    queue.applied(11, 0)
    assert not asked.answers
    queue.applied(12, 0)
    assert asked.answers == [None]
    assert queue.waiting == 0


def test_a_confirmation_covers_earlier_batches_only() -> None:
    queue, early, late = ReadQueue(), Asked(), Asked()
    queue.join(early.read())
    queue.assign(1)
    queue.join(late.read())
    queue.assign(2)
    queue.confirmed(1, 5)
    queue.applied(9, 0)
    assert (early.answers, late.answers) == ([None], [])


def test_a_read_that_joined_after_the_round_was_sent_is_not_covered_by_it() -> None:
    queue, asked = ReadQueue(), Asked()
    queue.assign(1)
    queue.join(asked.read())
    queue.confirmed(1, 0)
    queue.applied(1, 0)
    assert not asked.answers
    assert queue.joining


def test_a_minimum_revision_is_waited_for_after_the_confirmation() -> None:
    queue, asked = ReadQueue(), Asked()
    queue.join(asked.read(min_revision=7))
    queue.assign(1)
    queue.confirmed(1, 1)
    queue.applied(1, 6)
    assert not asked.answers
    queue.applied(2, 7)
    assert asked.answers == [None]


def test_reads_that_only_want_a_revision_are_answered_by_rising_revision() -> None:
    queue, low, high = ReadQueue(), Asked(), Asked()
    queue.await_revision(high.read(min_revision=9))
    queue.await_revision(low.read(min_revision=4))
    queue.applied(1, 5)
    assert (low.answers, high.answers) == ([None], [])
    queue.applied(2, 9)
    assert high.answers == [None]


def test_a_read_ends_at_its_deadline_once() -> None:
    queue, asked = ReadQueue(), Asked()
    queue.join(asked.read(deadline=50))
    queue.assign(1)
    assert queue.deadline == 50
    queue.expire(49, nobody)
    assert not asked.answers
    queue.expire(50, nobody)
    assert isinstance(asked.answers[0], NotAppliedTimeoutError)
    assert isinstance(asked.answers[0], TimeoutError)
    queue.confirmed(1, 1)
    queue.applied(1, 0)
    assert len(asked.answers) == 1
    assert queue.waiting == 0
    assert queue.deadline is None


def test_answered_reads_do_not_pile_up_until_their_deadlines() -> None:
    queue, asked = ReadQueue(), Asked()
    for batch in range(1, 100):
        queue.join(asked.read(deadline=1000 + batch))
        queue.assign(batch)
        queue.confirmed(batch, batch)
        queue.applied(batch, 0)
        assert queue.deadline is None


def test_when_the_node_stops_everybody_hears_it_once() -> None:
    queue, asked = ReadQueue(), Asked()
    queue.join(asked.read())
    queue.await_revision(asked.read(min_revision=5))
    queue.fail(EngineStoppedError())
    queue.fail(EngineStoppedError())
    assert [type(answer) for answer in asked.answers] == [EngineStoppedError, EngineStoppedError]
    assert queue.waiting == 0


def test_reads_that_gave_up_do_not_stay_in_memory() -> None:
    queue, asked = ReadQueue(), Asked()
    for batch in range(1, 1001):
        queue.join(asked.read(deadline=batch))
        queue.assign(batch)
        queue.await_revision(asked.read(deadline=batch, min_revision=10**9))
        queue.expire(batch, nobody)
    assert queue.waiting == 0
    assert len(queue._revisions) + len(queue._confirming) + len(queue._deadlines) < 500


def test_a_patient_read_does_not_keep_finished_ones_in_memory() -> None:
    queue, patient, asked = ReadQueue(), Asked(), Asked()
    queue.await_revision(patient.read(deadline=1, min_revision=10**9))
    for batch in range(1, 1001):
        queue.join(asked.read(deadline=100 + batch))
        queue.assign(batch)
        queue.confirmed(batch, 0)
        queue.applied(0, 0)
    assert not patient.answers
    assert len(queue._deadlines) < 200
