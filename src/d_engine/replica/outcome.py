"""What became of a group of commands, and of a batch of reads."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from d_engine.format.errors import DEngineError


class GroupOutcome(NamedTuple):
    """`error` is None when the group took effect: then there is one result for each command, and the state machine's
    revision after them. For the group that opened a session, `revision` is the session's id. Otherwise `error` is a
    `NotAppliedError`, or an `OutcomeUnknownError`."""

    results: Sequence[bytes]
    revision: int
    error: DEngineError | None


GroupDone: TypeAlias = Callable[[GroupOutcome], None]
ReadDone: TypeAlias = Callable[[DEngineError | None], None]
"""Called on the replica's thread: None means that the state machine may be read now, within this very call."""
