"""Locks with fencing tokens: tokens rise, and what the lock protects never goes back to an earlier holder.

A lock that expires cannot keep its holder from *believing* that it still holds it: it may have been paused. What makes
such a lock safe is the fencing token, a number that rises with every acquisition; the protected resource refuses all
that carries a lower token than it has seen (Burrows, "The Chubby lock service", OSDI 2006, section 2.4, "sequencers";
Kleppmann, "How to do distributed locking", 2016). So it is the resource's view that counts:

* of each lock, an acquisition that began after another ended has a higher token, and no two have the same;
* the resource accepts only tokens that were granted, from the client to which they were granted;
* the tokens that it accepts never fall. The reigns of two holders, each from its first to its last accepted use,
  therefore never overlap.

Where locks do not expire, two clients must not even believe at one time that they hold it: `expiring=False`.
"""

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TypeAlias

from d_engine.testing.checkers._real_time import highest_before
from d_engine.testing.checkers.history import HistoryError, Operation, Outcome, distinct
from d_engine.testing.checkers.violation import Findings, Violation

CHECKER = "locks"
DEFAULT_MAX_VIOLATIONS = 20


@dataclass(frozen=True, slots=True)
class LockAcquire:
    """Ask for a lock. Result: the fencing token, None if it was not obtained."""

    lock: Hashable


@dataclass(frozen=True, slots=True)
class LockRelease:
    """Give a lock back. The result is not looked at."""

    lock: Hashable
    token: int


@dataclass(frozen=True, slots=True)
class LockUse:
    """Use what the lock protects. Outcome: `OK` if the resource accepts the token, `FAILED` if it refuses.

    `revision` may be the place of the use in the resource's own order (its revision, a sequence number).
    """

    lock: Hashable
    token: int


LockAction: TypeAlias = LockAcquire | LockRelease | LockUse

_Record = Operation[LockAction]


def check_locks(
    operations: Iterable[Operation[LockAction]],
    *,
    expiring: bool = True,
    max_violations: int = DEFAULT_MAX_VIOLATIONS,
) -> tuple[Violation, ...]:
    """Judge a history of `LockAcquire`, `LockRelease` and `LockUse`.

    `expiring` says whether a lock may be taken from its holder by time. At most `max_violations` are returned.

    Example::

        history = History()
        history.ok(history.invoke("anna", LockAcquire("printer")), result=17)
        history.ok(history.invoke("anna", LockUse("printer", 17)))
        history.ok(history.invoke("ben", LockAcquire("printer")), result=23)
        history.fail(history.invoke("anna", LockUse("printer", 17)))
        require(check_locks(history.operations()))
    """
    findings = Findings(CHECKER, max_violations)
    locks: dict[Hashable, _Lock] = {}
    for operation in distinct(operations):
        locks.setdefault(operation.action.lock, _Lock()).add(operation)
    for lock in locks.values():
        lock.judge_tokens(findings)
        lock.judge_uses(findings)
        if not expiring:
            lock.judge_holds(findings)
    return findings.done()


@dataclass(slots=True)
class _Lock:
    """All that happened to one lock: acquisitions with a token, releases that may have been done, accepted uses."""

    acquisitions: list[_Record] = field(default_factory=list)
    releases: dict[int, _Record] = field(default_factory=dict)
    uses: list[_Record] = field(default_factory=list)
    tokens: dict[int, int] = field(default_factory=dict)

    def add(self, operation: _Record) -> None:
        match operation.action:
            case LockAcquire():
                if operation.outcome is Outcome.OK and operation.result is not None:
                    if not isinstance(operation.result, int):
                        raise HistoryError(f"a token must be an int, not {operation.result!r}")
                    self.acquisitions.append(operation)
                    self.tokens[operation.index] = operation.result
            case LockRelease():
                if operation.outcome is not Outcome.FAILED:
                    self.releases.setdefault(operation.action.token, operation)
            case LockUse():
                if operation.outcome is Outcome.OK:
                    self.uses.append(operation)
                    self.tokens[operation.index] = operation.action.token

    def judge_tokens(self, findings: Findings) -> None:
        owners: dict[int, _Record] = {}
        bounds = highest_before(self.acquisitions, self._token)
        for acquisition, bound in zip(self.acquisitions, bounds, strict=True):
            token = self._token(acquisition)
            if token in owners:
                findings.add("I6", f"token {token} was granted twice", owners[token], acquisition)
            elif bound is not None and token < bound[0]:
                text = f"token {token} was granted after {bound[0]}: tokens must rise"
                findings.add("I6", text, bound[1], acquisition)
            owners.setdefault(token, acquisition)

    def judge_uses(self, findings: Findings) -> None:
        granted = {self._token(acquisition): acquisition for acquisition in reversed(self.acquisitions)}
        for use in self.uses:
            grant = granted.get(self._token(use))
            if grant is None:
                findings.add("I6", f"token {self._token(use)} was accepted but never granted", use)
            elif grant.client != use.client or use.precedes(grant):
                findings.add(
                    "I6", f"token {self._token(use)} was accepted from another than its owner", use, grant
                )
        reported: set[int] = set()
        for use, bound in zip(self.uses, highest_before(self.uses, self._token), strict=True):
            if bound is not None and self._token(use) < bound[0]:
                self._report_late(bound[1], use, findings)
                reported.add(use.index)
        for earlier, use in pairwise(_in_own_order(self.uses)):
            if self._token(use) < self._token(earlier) and use.index not in reported:
                self._report_late(earlier, use, findings)

    def judge_holds(self, findings: Findings) -> None:
        """Whether no two clients are sure to hold the lock at one time."""
        latest_end: int | None = None
        holder: _Record | None = None
        for acquisition in sorted(self.acquisitions, key=_completion):
            if holder is not None and (latest_end is None or latest_end > _completion(acquisition)):
                findings.add("I6", "two clients held the lock at one time", holder, acquisition)
            release = self.releases.get(self._token(acquisition))
            end = None if release is None else release.invoked
            if holder is None or (latest_end is not None and (end is None or end > latest_end)):
                holder, latest_end = acquisition, end

    def _token(self, operation: _Record) -> int:
        return self.tokens[operation.index]

    def _report_late(self, earlier: _Record, late: _Record, findings: Findings) -> None:
        text = f"token {self._token(late)} was accepted after {self._token(earlier)}: two holders overlap"
        findings.add("I6", text, earlier, late)


def _in_own_order(uses: Sequence[_Record]) -> list[_Record]:
    """The uses for which the resource told their place, in that order."""
    placed = [(use.revision, use.index, use) for use in uses if use.revision is not None]
    return [use for _, _, use in sorted(placed, key=lambda entry: entry[:2])]


def _completion(operation: _Record) -> int:
    return operation.invoked if operation.completed is None else operation.completed
