"""What is put off to the end of a turn, so that it happens once for all that the turn has done.

A turn of the replica sends several messages on a connection and answers many callers; each connection is written, and
each caller's loop woken, once. Outside of a turn the same is put off to the event loop's next one. Doing it at the
turn's end instead saves that: a poll of the kernel, and a moment in which this thread does not hold the interpreter.

The state is of the thread: a thread runs one loop, and a loop one turn at a time.
"""

import asyncio
import threading
from collections.abc import Callable

Action = Callable[[], object]


class _Thread(threading.local):
    put_off: list[Action] | None = None
    """None outside of a turn."""


_thread = _Thread()


def run_turn(turn: Action) -> None:
    """Run it, then what was put off meanwhile."""
    put_off = _thread.put_off = []
    try:
        turn()
    finally:
        _thread.put_off = None
        for action in put_off:
            action()


def at_end(loop: asyncio.AbstractEventLoop, action: Action) -> None:
    """At the end of the present turn; if there is none, soon."""
    if _thread.put_off is None:
        loop.call_soon(action)
    else:
        _thread.put_off.append(action)
