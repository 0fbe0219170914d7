"""The interface between the replicated log and what it drives. Implement it to replicate a state of your own.

A state machine is a pure function of the log: it reads no clock, draws no random number, and keeps nothing that two
replicas could hold differently at the same index. Its time is `ApplyContext.log_time`.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from typing import Protocol, TypeAlias, runtime_checkable

from msgspec import Struct

from d_engine.format.ids import LogIndex, Nanoseconds, Term


class ApplyContext(Struct, frozen=True, gc=False):
    """Where in the log the commands stand. All commands of one entry share it."""

    index: LogIndex
    term: Term
    log_time: Nanoseconds


class StateMachine(Protocol):
    """What a replica applies its log to.

    * `apply` gets one group's commands, in order, and returns one result for each. It must not raise on any bytes: a
      command that it cannot read gets a result that says so, the same on every replica.
    * `query` answers an encoded read from the applied state; it must not change anything.
    * `revision` is the state machine's own counter, which rises with every change that readers can see.
    * `view` freezes the state at once and cheaply; `chunks` gives the view's bytes in pieces, each made when it is
      asked for and best small (64 KiB), because other work goes on between two of them; `restore` replaces the state
      by such pieces (split at other places); `digest` is equal for equal states, and so are their pieces' bytes.
    """

    @property
    def revision(self) -> int: ...

    def apply(self, commands: Sequence[bytes], context: ApplyContext) -> list[bytes]: ...

    def query(self, request: bytes) -> bytes: ...

    def view(self) -> object: ...

    def chunks(self, view: object) -> Iterator[bytes]: ...

    def restore(self, source: Iterator[bytes]) -> None: ...

    def digest(self) -> bytes: ...


def no_log_time() -> Nanoseconds:
    """What a `TimedStateMachine.clock` reads before a replica lends its own."""
    return 0


@runtime_checkable
class TimedStateMachine(Protocol):
    """What a state machine may offer besides, if something of it ends by itself when log time has come.

    * `deadline`: the log time at which the next thing is due, None if nothing is. Looked at in every turn.
    * `due(log_time)`: commands to put into the log now, a bounded number of them; nothing changes by asking. Whoever
      leads asks. They are applied like all others, with the log time of their entry, but belong to no session: one may
      be applied late, twice, or after what it is about has changed, and must then do nothing.
    * `clock`: set by the replica; reads log time as this node knows it now. For the answers of `query` only: what
      `apply` does depends on the log alone.
    """

    clock: Callable[[], Nanoseconds]

    @property
    def deadline(self) -> Nanoseconds | None: ...

    def due(self, log_time: Nanoseconds) -> Sequence[bytes]: ...


@runtime_checkable
class ReleasableView(Protocol):
    """What a view may offer that is too large to be let go at once: each step lets go of a little, in well under a
    millisecond. Afterwards the view is of no use."""

    def release(self) -> Iterator[None]: ...


Replacement: TypeAlias = Callable[[], Iterator[None]]
"""Makes what was read the state, at once; the steps of what it returns let go of the state before."""


@runtime_checkable
class GradualStateMachine(Protocol):
    """What a state machine may offer whose state takes long to restore: `restore` in steps, for a node that has other
    things to do between two of them (a follower that gets a snapshot has a leader to answer).

    `restoring` takes one piece of the source at each step, in about a millisecond, and changes nothing. What it
    returns in the end makes what was read the state. The steps of what *that* returns let go of the state before, a
    little at a time; they may be left undone. Whoever does not go on has changed nothing.
    """

    def restoring(self, source: Iterator[bytes]) -> Generator[None, None, Replacement]: ...


def at_once(steps: Generator[None, None, Replacement]) -> Replacement:
    """All steps of a `restoring`, one after the other."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            replacement: Replacement = end.value
            return replacement


@runtime_checkable
class RecoverableState(Protocol):
    """What a state machine offers whose state can be carried over into a new cluster, after the old one has lost its
    majority for good (docs/operations/losing-quorum.md).

    `recovered` is called once, behind the last entry that has survived. The old cluster may have given out `revisions`
    more than this state knows of: the revision rises by that, so that none is given out twice. Whatever runs out at
    some log time gets its whole time again, from `log_time` on.
    """

    def recovered(self, revisions: int, log_time: Nanoseconds) -> None: ...
