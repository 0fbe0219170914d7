"""What a forked child must not do: use an engine whose threads it does not have.

`os.fork` copies the memory and every file descriptor, but of the threads only the one that called it. An engine notices
by a mark that is set in the child. And the child lets go of what the engine held open, because an open copy counts: it
would keep the data directory locked, the listen address taken and the peers' connections alive after the parent is
gone. Each descriptor is replaced by one of /dev/null, not closed, so that its number cannot be given to something else
which the child's garbage collection would then close.
"""

import os
import weakref

from d_engine.format.errors import ForkedError

_forks = 0
_held: dict[int, tuple[int, int]] = {}


class ForkGuard:
    """Created in the process that an engine belongs to; `check` raises `ForkedError` in any other."""

    __slots__ = ("__weakref__", "forked")

    def __init__(self) -> None:
        self.forked = False
        """True in a child. To be read only."""
        _guards.add(self)

    def check(self) -> None:
        """Raise `ForkedError` in a child."""
        if self.forked:
            raise ForkedError(
                "this engine or client belongs to the parent process; make another one here (an engine with a data "
                "directory of its own)"
            )


_guards: "weakref.WeakSet[ForkGuard]" = weakref.WeakSet()


def hold(descriptor: int) -> None:
    """A forked child is to let go of this file descriptor."""
    if what := _what_is(descriptor):
        _held[descriptor] = what


def release(descriptor: int) -> None:
    """It is about to be closed. Harmless if it was not held."""
    _held.pop(descriptor, None)


def _what_is(descriptor: int) -> tuple[int, int] | None:
    """Tells whether a number still stands for the same thing. None if it stands for nothing."""
    try:
        status = os.fstat(descriptor)
    except OSError:
        return None
    return (status.st_dev, status.st_ino)


def _after_in_child() -> None:
    for guard in _guards:
        guard.forked = True
    if _held:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        for descriptor, what in _held.items():
            if _what_is(descriptor) == what:
                os.dup2(nothing, descriptor, inheritable=False)
        os.close(nothing)
        _held.clear()


os.register_at_fork(after_in_child=_after_in_child)
