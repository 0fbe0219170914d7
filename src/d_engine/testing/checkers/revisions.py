"""Does every answer agree with the store at the revision that it carries, and do revisions agree with real time?

Theory
------
To decide linearizability one must in general guess the order of operations, which is NP-complete. But every answer of
the store carries a revision: of a write the one that it made, of a read the one that it saw. The store itself thereby
tells the order, and judging a told order is easy (Gibbons and Korach, "Testing shared memories", SIAM J. Comput. 26(4),
1997, show the same for memories that tell the order of writes):

1. No two writes made the same revision.
2. Writes, sorted by revision, are replayed. Each answer (read, scan, transaction, refused swap) must be what the store
   gives at its revision, whole.
3. A linearizable operation that began after another ended carries no lower revision, and if it wrote a higher one. (An
   eventual read may be old, but what it has seen others must not undo.)

If no outcome is unknown this is necessary and sufficient for strict serializability of all but the eventual reads, and
it takes O(n log n + the size of the answers). Writes of unknown outcome may account for revisions and values that no
acknowledged write made, within the limits that `_unknown_writes` states. There the check is lenient: it may overlook a
violation that `check_linearizability` would find, but never reports one that is none.

Reported as I5: an acknowledged write that is missing, or that shares its revision with another. All else is I6.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence

from d_engine.testing.checkers._real_time import highest_before
from d_engine.testing.checkers._replay import NOT_SEEN, Judge, Mismatch, Replay
from d_engine.testing.checkers._unknown_writes import UnknownWrites
from d_engine.testing.checkers.actions import (
    Action,
    CompareAndSwap,
    Consistency,
    Delete,
    Get,
    Key,
    Put,
    Scan,
    Transaction,
    Value,
    consistency_of,
    transaction_result,
    truth,
    written,
)
from d_engine.testing.checkers.history import Operation, Outcome, distinct
from d_engine.testing.checkers.violation import Findings, Violation

CHECKER = "revisions"
DEFAULT_MAX_VIOLATIONS = 20

_Record = Operation[Action]
_Answer = tuple[int, _Record]


def check_revisions(
    operations: Iterable[Operation[Action]],
    *,
    initial: Mapping[Key, Value] | None = None,
    initial_revision: int = 0,
    max_violations: int = DEFAULT_MAX_VIOLATIONS,
) -> tuple[Violation, ...]:
    """Judge a history of the key-value store by the revisions of its answers.

    Every write to the store must be in the history; one that no client made (the expiry of a lease) is recorded as a
    transaction of unknown outcome. `initial` is what the store holds at `initial_revision`, when the history begins.
    At most `max_violations` are returned.

    Example::

        history = History()
        history.ok(history.invoke("anna", Put(b"k", b"1")), revision=1)
        history.ok(history.invoke("ben", Get(b"k")), result=b"1", revision=1)
        require(check_revisions(history.operations()))
    """
    return _Check(distinct(operations), initial or {}, initial_revision, max_violations).run()


class _Check:
    """One run of the checker."""

    def __init__(
        self,
        operations: Sequence[_Record],
        initial: Mapping[Key, Value],
        initial_revision: int,
        max_violations: int,
    ) -> None:
        self._operations = operations
        self._initial = initial
        self._initial_revision = initial_revision
        self._findings = Findings(CHECKER, max_violations)

    def run(self) -> tuple[Violation, ...]:
        live = [operation for operation in self._operations if operation.outcome is not Outcome.FAILED]
        bounds = highest_before(live, lambda operation: operation.revision)
        for operation, bound in zip(live, bounds, strict=True):
            if bound is not None and operation.outcome is Outcome.OK:
                self._judge_real_time(operation, *bound)

        answers = sorted(self._answers(live), key=lambda answer: (answer[0], answer[1].index))
        writes = self._writes_by_revision(answers)
        unknown_writes = [
            (self._initial_revision if bound is None else max(bound[0], self._initial_revision), operation)
            for operation, bound in zip(live, bounds, strict=True)
            if operation.outcome is Outcome.UNKNOWN and any(True for _ in written(operation.action))
        ]
        last = answers[-1][0] if answers else self._initial_revision
        gaps = _gaps(self._initial_revision, writes, last, len(unknown_writes) + 1)
        unknown = UnknownWrites(unknown_writes, gaps)
        self._judge_gaps(unknown, writes, answers)
        self._replay(writes, answers, Replay(self._initial, self._initial_revision, unknown))
        return self._findings.done()

    def _answers(self, live: Sequence[_Record]) -> Iterator[_Answer]:
        """The operations that can be judged, with their revisions."""
        for operation in live:
            if operation.outcome is not Outcome.OK:
                continue
            if operation.revision is None:
                self._findings.add("I6", "the answer carries no revision and cannot be judged", operation)
            elif operation.revision < self._initial_revision:
                text = f"the answer is older than revision {self._initial_revision}, with which all began"
                self._findings.add("I6", text, operation)
            else:
                yield operation.revision, operation

    def _judge_real_time(self, operation: _Record, bound: int, earlier: _Record) -> None:
        revision = operation.revision
        if revision is None or consistency_of(operation.action) is Consistency.EVENTUAL:
            return
        if revision < bound:
            text = f"the answer is of revision {revision}, though {bound} had been seen before it was asked"
            self._findings.add("I6", text, operation, earlier)
        elif revision == bound and _wrote(operation):
            text = f"the write made revision {revision}, which had been seen before it was asked"
            self._findings.add("I6", text, operation, earlier)

    def _writes_by_revision(self, answers: Sequence[_Answer]) -> dict[int, _Record]:
        writes: dict[int, _Record] = {}
        for revision, operation in answers:
            if not _wrote(operation):
                continue
            if revision == self._initial_revision:
                text = f"the write claims revision {revision}, with which all began"
                self._findings.add("I6", text, operation)
            elif revision in writes:
                text = (
                    f"two acknowledged writes claim revision {revision}: one is lost, or they have no order"
                )
                self._findings.add("I5", text, writes[revision], operation)
            else:
                writes[revision] = operation
        return writes

    def _judge_gaps(
        self, unknown: UnknownWrites, writes: Mapping[int, _Record], answers: Sequence[_Answer]
    ) -> None:
        gap = unknown.first_unexplained_gap()
        if gap is None:
            return
        witness = next(operation for revision, operation in answers if revision >= gap)
        text = (
            f"too few writes for revision {gap}: no acknowledged write made it, and those of unknown outcome cannot "
            f"account for it and all gaps before; a write was applied twice, or one that failed or was never asked"
        )
        self._findings.add("I6", text, witness, *[writes[gap - 1]] if gap - 1 in writes else [])

    def _replay(self, writes: Mapping[int, _Record], answers: Sequence[_Answer], replay: Replay) -> None:
        """Judge all answers in the order of revisions: first the write that made it, then those that saw it."""
        ordered = sorted(
            answers, key=lambda answer: (answer[0], writes.get(answer[0]) is not answer[1], answer[1].index)
        )
        for revision, operation in ordered:
            if self._findings.full:
                return
            wrote = writes.get(revision) is operation
            if not wrote and _wrote(operation):
                continue  # its revision belongs to another write: reported already
            action = operation.action
            if isinstance(action, Get | Scan) and revision < action.min_revision:
                text = f"the answer is of revision {revision}, below the {action.min_revision} asked for"
                self._findings.add("I6", text, operation)
            judge = Judge(replay, revision - 1 if wrote else revision)
            mismatch = judge.judge(action, operation.result)
            if mismatch is not None:
                self._report(operation, revision, mismatch, replay)
            if wrote:
                for key, value in judge.writes.items():
                    replay.write(key, value, revision, operation)

    def _report(self, operation: _Record, revision: int, mismatch: Mismatch, replay: Replay) -> None:
        """Say what is wrong, and where the value that was seen comes from."""
        text = f"at revision {revision} {mismatch.text}"
        if mismatch.seen is NOT_SEEN:
            self._findings.add("I6", text, operation)
            return
        cell = replay.cell(mismatch.key)
        involved = [operation] if cell.writer is None else [operation, cell.writer]
        if cell.writer is not None and mismatch.seen == cell.previous:
            text += f"; the acknowledged write #{cell.writer.index} is missing"
            self._findings.add("I5", text, *involved)
            return
        sources = [
            source
            for source in self._operations
            if (mismatch.key, mismatch.seen) in written(source.action) and source is not operation
        ]
        if mismatch.seen is not None:
            if not sources and self._initial.get(mismatch.key) != mismatch.seen:
                text += ", which was never written"
            elif sources and all(source.outcome is Outcome.FAILED for source in sources):
                text += ", which only failed operations would have written"
        self._findings.add("I6", text, *involved, *sources[:3])


def _wrote(operation: _Record) -> bool:
    """Whether an answered operation says that it changed the store, and so made a revision."""
    action, result = operation.action, operation.result
    match action:
        case Put():
            return True
        case Get() | Scan():
            return False
        case Delete() | CompareAndSwap():
            return truth(result, action)
        case Transaction():
            answered = transaction_result(result, action)
            steps = zip(action.branch(answered.succeeded), answered.answers, strict=True)
            return any(
                isinstance(step, Put) or (isinstance(step, Delete) and truth(answer, step))
                for step, answer in steps
            )


def _gaps(initial_revision: int, writes: Mapping[int, _Record], last: int, limit: int) -> list[int]:
    """The revisions above `initial_revision` up to `last` that no write claims, the lowest `limit` of them."""
    gaps: list[int] = []
    below = initial_revision
    for revision in (*writes, last + 1):
        room = limit - len(gaps)
        gaps.extend(range(below + 1, min(revision, below + 1 + room)))
        below = revision
    return gaps
