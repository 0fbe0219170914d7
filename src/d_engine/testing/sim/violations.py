"""What a run ends with when a promise is broken.

The ids are those of docs/design/simulation.md: I1 one leader per term, I2 log matching, I3 leader completeness, I4
equal state machines, I5 nothing acknowledged is lost, I6 linearizable histories, I7 persist before promise, I8 nothing
goes back behind what was sent, I9 configuration safety, I12 liveness, I13 fail-stop with a named error, I14 bounds.
"""


class InvariantBroken(Exception):  # noqa: N818 - a finding, not an error of the engine
    """An invariant does not hold. It is no `DEngineError`, so nothing of the engine catches it."""

    def __init__(self, invariant: str, text: str) -> None:
        super().__init__(f"{invariant}: {text}")
        self.invariant = invariant
        self.text = text


def require(condition: object, invariant: str, text: str) -> None:
    """Raise unless the condition holds. For places where making the text costs nothing."""
    if not condition:
        raise InvariantBroken(invariant, text)
