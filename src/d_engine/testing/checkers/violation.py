"""What a checker reports, and how a test insists on silence.

Every checker returns a tuple of `Violation`s, empty if the history is consistent. A checker that runs out of budget
before it knows reports that as a violation too: "cannot tell" is not "correct".

    violations = check_revisions(history.operations())
    require(violations)      # raises CheckFailed, which pytest shows as a failure
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from d_engine.testing.checkers.history import Operation

_SHOWN_OPERATIONS = 12


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise.

    `checker` names who found it, `invariant` which promise it is (`I5`: an acknowledged write survives; `I6`: the
    clients' history is linearizable, and scans, transactions and application data agree with it). `message` says in
    plain words what is wrong, `operations` are the ones that prove it, at most a handful.
    """

    checker: str
    invariant: str
    message: str
    operations: tuple[Operation[object], ...] = ()

    def __str__(self) -> str:
        lines = [f"{self.checker} ({self.invariant}): {self.message}"]
        lines += [f"    {operation}" for operation in self.operations[:_SHOWN_OPERATIONS]]
        hidden = len(self.operations) - _SHOWN_OPERATIONS
        if hidden > 0:
            lines.append(f"    ... and {hidden} more")
        return "\n".join(lines)


class CheckFailed(AssertionError):  # noqa: N818 - reads as the verdict that it is
    """A history broke a promise. `violations` holds all that was found."""

    def __init__(self, violations: Sequence[Violation]) -> None:
        self.violations = tuple(violations)
        super().__init__("\n".join(map(str, self.violations)))


def require(*results: Iterable[Violation]) -> None:
    """Raise `CheckFailed` with every violation of the given results, if there is any.

    Example::

        operations = History().operations()
        require(check_revisions(operations), check_linearizability(operations).violations)
    """
    found = [violation for result in results for violation in result]
    if found:
        raise CheckFailed(found)


class Findings:
    """Collects the violations of one checker, up to a limit: a broken history repeats itself endlessly."""

    def __init__(self, checker: str, limit: int) -> None:
        if limit < 1:
            raise ValueError("at least one violation must be reportable")
        self._checker = checker
        self._limit = limit
        self._violations: list[Violation] = []

    @property
    def full(self) -> bool:
        """Whether looking further would report nothing more."""
        return len(self._violations) >= self._limit

    def add(self, invariant: str, message: str, *operations: Operation[object]) -> None:
        """Record a violation; beyond the limit it is dropped."""
        if not self.full:
            self._violations.append(Violation(self._checker, invariant, message, operations))

    def done(self) -> tuple[Violation, ...]:
        """Everything recorded, in the order of discovery."""
        return tuple(self._violations)
