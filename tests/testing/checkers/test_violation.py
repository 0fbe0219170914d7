"""What checkers report and how it is shown."""

import pytest

from d_engine.testing.checkers import CheckFailed, Operation, Outcome, Violation, require
from d_engine.testing.checkers.violation import Findings


def operation(index: int) -> Operation[str]:
    return Operation(index, "a", 0, "x", index, index, Outcome.OK)


def test_silence_passes() -> None:
    require()
    require((), [])


def test_all_violations_are_raised_together() -> None:
    first = Violation("set", "I5", "an element is lost", (operation(1),))
    second = Violation("bank", "I6", "money is lost")
    with pytest.raises(CheckFailed) as caught:
        require([first], (), [second])
    assert caught.value.violations == (first, second)
    assert str(caught.value).splitlines() == [
        "set (I5): an element is lost",
        "    #1 a/0 [1, 1] x ok -> None",
        "bank (I6): money is lost",
    ]


def test_a_long_proof_is_cut() -> None:
    shown = str(Violation("set", "I5", "lost", tuple(operation(index) for index in range(15)))).splitlines()
    assert len(shown) == 14
    assert shown[-1] == "    ... and 3 more"


def test_findings_stop_at_their_limit() -> None:
    findings = Findings("set", 2)
    for index in range(3):
        assert findings.full is (index == 2)
        findings.add("I6", f"number {index}")
    assert [violation.message for violation in findings.done()] == ["number 0", "number 1"]
    with pytest.raises(ValueError, match="at least one"):
        Findings("set", 0)
