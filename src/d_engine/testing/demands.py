"""How a conformance suite says that something does not conform."""


class NotConforming(AssertionError):  # noqa: N818 - what a test fails with
    """The implementation breaks its contract; the text says how."""


def demand(condition: object, text: str) -> None:
    """Raise `NotConforming` unless the condition holds."""
    if not condition:
        raise NotConforming(text)
