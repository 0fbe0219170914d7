"""From commands to groups: what makes a thousand tasks share one log entry.

All commands that the tasks of a loop write within one turn are put into one group (`d_engine.format.group`), which is
sent when the turn ends. Everything that costs something (the frame, the hand-over, the log, the timer, the answer) is
paid per group. A task that is alone waits for nobody; when answers are slow, what gathers meanwhile makes bigger
groups.

The writer owns the *session* by which the cluster applies each group exactly once (Raft dissertation, section 6.3):

* A group gets its number when it is handed to the transport and is never changed again; the transport may send the
  same bytes as often as it likes.
* The floor that each group carries is the highest number up to which all groups are finished or given up. The cluster
  forgets results up to there, and refuses to apply anything at or below it. So a group that was given up cannot take
  effect once a later group of the session has been applied.
* The cluster keeps at most 64 groups and 1 MiB of results above the floor, and refuses what goes beyond. The window
  sees to it that this never happens: it counts a bound of each group's results until the floor has passed it. A group
  with commands that answer with a whole value has no useful bound; it travels alone.
* A lost session ends all its groups as outcome unknown. Commands that were never sent go on under a new session.
"""

import asyncio
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from itertools import compress
from operator import methodcaller
from typing import NamedTuple, Protocol, TypeAlias

from d_engine.client.deadlines import Sweeper, expire, fail_all
from d_engine.format.errors import (
    DEngineError,
    EngineStoppedError,
    NoLeaderError,
    NotAppliedTimeoutError,
    OutcomeUnknownError,
    OutcomeUnknownTimeoutError,
    OverloadedError,
    SessionLostError,
    UnavailableError,
)
from d_engine.format.group import COMMAND_OVERHEAD_BYTES, encode_group
from d_engine.format.ids import SessionId
from d_engine.format.limits import BATCH_BYTES

MAX_OUTSTANDING_GROUPS = 64
MAX_OUTSTANDING_BYTES = 8 * BATCH_BYTES
MAX_KEPT_RESULT_BYTES = 1024 * 1024
MAX_PENDING_WRITES = 10_000
MAX_PENDING_BYTES = 64 * 1024 * 1024

SMALL_RESULT_BYTES = 64
"""A bound of what a command's result takes that is no value."""

LARGE_RESULTS_PER_GROUP = 8
"""Commands of one group that answer with a value: together their results must fit into a frame."""

SESSION_RETRY_SECONDS = 0.1

_is_done = methodcaller("done")


class Outcome(Protocol):
    """What became of a group. `error` is None when it took effect: then `results` holds one result for each command.
    For the opening of a session, `revision` is the session's id. (`d_engine.replica.outcome.GroupOutcome` is one.)"""

    @property
    def results(self) -> Sequence[bytes]: ...

    @property
    def revision(self) -> int: ...

    @property
    def error(self) -> DEngineError | None: ...


OutcomeDone: TypeAlias = Callable[[Outcome], None]


class GroupTransport(Protocol):
    """The way to the cluster. Both methods return at once and call `done` once, later, on the writer's loop, at the
    latest after `timeout` seconds: with `OutcomeUnknownError` if the group may be in somebody's hands, and with
    `NotAppliedError` only if it is in nobody's."""

    def open_session(self, timeout: float, done: OutcomeDone) -> None: ...

    def submit(self, group: bytes, timeout: float, done: OutcomeDone) -> None: ...


class _Batch(NamedTuple):
    """Commands with their callers, in step."""

    commands: list[bytes]
    futures: "list[asyncio.Future[bytes]]"
    deadlines: list[float]
    large: bool

    def without_done(self) -> "_Batch":
        """The batch without those whose callers have gone."""
        if True not in map(_is_done, self.futures):
            return self
        live = [not future.done() for future in self.futures]
        return _Batch(
            list(compress(self.commands, live)),
            list(compress(self.futures, live)),
            list(compress(self.deadlines, live)),
            self.large,
        )


class _Backlog:
    """Commands that wait for the turn's end, for the session, or for room in the window.

    `commands` and `futures` grow with each write; `deadlines` and `large` catch up once a turn (`settle`), so that the
    usual write pays for two appends only. What is unusual about a write stands in `special` until then.
    """

    def __init__(self) -> None:
        self.commands: list[bytes] = []
        self.futures: list[asyncio.Future[bytes]] = []
        self.size = 0
        self.special: list[tuple[int, float | None, bool]] = []
        self._deadlines: list[float] = []
        self._large: list[bool] = []
        self._count_of_large = 0

    def settle(self, deadline: float) -> float:
        """Give the turn's commands this deadline, or their own; returns the earliest."""
        fresh = len(self.futures) - len(self._deadlines)
        self._deadlines.extend([deadline] * fresh)
        self._large.extend([False] * fresh)
        earliest = deadline
        for position, own, large in self.special:
            if own is not None:
                self._deadlines[position] = own
                earliest = min(earliest, own)
            self._large[position] = large
            self._count_of_large += large
        self.special.clear()
        return earliest

    def take(self, count_limit: int) -> _Batch:
        """Remove what goes into the next group: everything, or as much from the front as may travel together."""
        overhead = COMMAND_OVERHEAD_BYTES * len(self.commands)
        if (
            self.size + overhead <= BATCH_BYTES
            and len(self.commands) <= count_limit
            and not self._count_of_large
        ):
            batch = _Batch(self.commands, self.futures, self._deadlines, False)
            self.commands, self.futures, self._deadlines, self._large = [], [], [], []
            self.size = 0
            return batch
        large = self._large[0]
        limit = LARGE_RESULTS_PER_GROUP if large else count_limit
        count = size = 0
        for command, is_large in zip(self.commands, self._large, strict=True):
            size += len(command) + COMMAND_OVERHEAD_BYTES
            if count and (count == limit or is_large != large or size > BATCH_BYTES):
                break
            count += 1
        batch = _Batch(self.commands[:count], self.futures[:count], self._deadlines[:count], large)
        for items in (self.commands, self.futures, self._deadlines, self._large):
            del items[:count]
        self.size -= sum(map(len, batch.commands))
        self._count_of_large -= count if large else 0
        return batch

    @property
    def starts_large(self) -> bool:
        """True if the next group answers with values."""
        return bool(self._count_of_large) and self._large[0]

    def expire(self, now: float) -> "list[asyncio.Future[bytes]]":
        """Remove those that are due, and those whose callers have gone. Returns the due."""
        pairs = zip(self.futures, self._deadlines, strict=True)
        live = [deadline > now and not future.done() for future, deadline in pairs]
        due = [future for future, lives in zip(self.futures, live, strict=True) if not lives]
        if due:
            self.commands = list(compress(self.commands, live))
            self.futures = list(compress(self.futures, live))
            self._deadlines = list(compress(self._deadlines, live))
            self._large = list(compress(self._large, live))
            self.size = sum(map(len, self.commands))
            self._count_of_large = sum(self._large)
        return due

    @property
    def earliest(self) -> float | None:
        """When the first one is due."""
        return min(self._deadlines, default=None)

    def clear(self) -> "list[asyncio.Future[bytes]]":
        """Remove all; returns their futures."""
        futures = self.futures
        self.__init__()  # type: ignore[misc]
        return futures


class _Group:
    """One group on its way. `deadline` is that of its most patient command."""

    __slots__ = ("bound", "deadline", "deadlines", "finished", "futures", "size")

    def __init__(self, batch: _Batch, size: int, bound: int) -> None:
        self.futures = batch.futures
        self.deadlines = batch.deadlines
        self.deadline = max(batch.deadlines)
        self.size = size
        self.bound = bound
        self.finished = False


class _Window:
    """The groups of one session above its floor."""

    def __init__(self, session: SessionId) -> None:
        self.session = session
        self.floor = 0
        self.next_number = 1
        self.groups: dict[int, _Group] = {}
        self._size = 0
        self._bound = 0

    def room(self, starts_large: bool) -> int:
        """How many commands the next group may have; 0 if there must be no further group now."""
        if not self.groups:
            return MAX_KEPT_RESULT_BYTES // SMALL_RESULT_BYTES
        if starts_large or len(self.groups) >= MAX_OUTSTANDING_GROUPS or self._size >= MAX_OUTSTANDING_BYTES:
            return 0
        return max(0, (MAX_KEPT_RESULT_BYTES - self._bound) // SMALL_RESULT_BYTES)

    def add(self, batch: _Batch) -> tuple[_Group, bytes]:
        """Number the batch; returns its group and the bytes to send."""
        number, self.next_number = self.next_number, self.next_number + 1
        data = encode_group(self.session, number, self.floor, batch.commands)
        bound = MAX_KEPT_RESULT_BYTES if batch.large else len(batch.commands) * SMALL_RESULT_BYTES
        group = _Group(batch, len(data), bound)
        self.groups[number] = group
        self._size += group.size
        self._bound += group.bound
        return group, data

    def advance(self) -> None:
        """Raise the floor over what is finished."""
        groups = self.groups
        while groups:
            number = next(iter(groups))
            group = groups[number]
            if not group.finished:
                return
            del groups[number]
            self.floor = number
            self._size -= group.size
            self._bound -= group.bound


class GroupWriter:
    """Writes commands through a transport, for the tasks of one event loop. All methods are called on that loop.

    `timeout` is the usual time-out in seconds, `max_pending` how many commands may be unanswered.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        transport: GroupTransport,
        timeout: float,
        max_pending: int = MAX_PENDING_WRITES,
    ) -> None:
        self._loop = loop
        self._transport = transport
        self._timeout = timeout
        self._max_pending = max_pending
        self._backlog = _Backlog()
        self._window: _Window | None = None
        self._sent = 0
        self._scheduled = False
        self._opening = False
        self._trouble: DEngineError | None = None
        self._closed: DEngineError | None = None
        self._sweeper = Sweeper(loop, self._sweep)

    def write(
        self, command: bytes, timeout: float | None = None, large_result: bool = False
    ) -> "asyncio.Future[bytes]":
        """The future result of the command. `large_result` says that it may be a whole value. Raises
        `OverloadedError` or, after `close`, `EngineStoppedError`."""
        backlog = self._backlog
        waiting = len(backlog.futures)
        if waiting + self._sent >= self._max_pending or (waiting and backlog.size >= MAX_PENDING_BYTES):
            raise OverloadedError(
                f"{waiting + self._sent} writes ({backlog.size} bytes unsent) of this client wait for their results; "
                f"the limits are {self._max_pending} and {MAX_PENDING_BYTES} bytes: await some before writing more"
            )
        if self._closed is not None:
            raise copy(self._closed)
        future = self._loop.create_future()
        if timeout is not None or large_result:
            deadline = None if timeout is None else self._loop.time() + timeout
            backlog.special.append((waiting, deadline, large_result))
        backlog.commands.append(command)
        backlog.futures.append(future)
        backlog.size += len(command)
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain)
        return future

    def close(self, error: DEngineError | None = None) -> None:
        """End everything: what was not sent with `error`, the rest as outcome unknown."""
        self._closed = error or EngineStoppedError("the client is closed")
        fail_all(self._backlog.clear(), self._closed)
        self._end_window(OutcomeUnknownError(f"the write was on its way: {self._closed}"))
        self._sweeper.stop()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.call_soon(self._drain)

    def _drain(self) -> None:
        self._scheduled = False
        backlog = self._backlog
        if not backlog.futures:
            return
        now = self._loop.time()
        self._sweeper.announce(backlog.settle(now + self._timeout))
        window = self._window
        if window is None:
            self._open_session()
            return
        while backlog.futures:
            count = window.room(backlog.starts_large)
            if not count:
                return
            batch = backlog.take(count).without_done()
            if batch.futures:
                group, data = window.add(batch)
                self._sent += len(batch.futures)
                timeout = max(group.deadline - now, 0.0)
                self._transport.submit(data, timeout, partial(self._group_done, group))

    def _group_done(self, group: _Group, outcome: Outcome) -> None:
        if group.finished:
            return
        error = outcome.error
        if error is None and len(outcome.results) != len(group.futures):
            error = OutcomeUnknownError(
                f"{len(outcome.results)} results came for {len(group.futures)} commands"
            )
        if error is None:
            for future, result in zip(group.futures, outcome.results, strict=True):
                if not future.done():
                    future.set_result(result)
        else:
            fail_all(group.futures, error)
        self._finish(group)
        if isinstance(error, SessionLostError):
            self._end_window(error)
        if self._backlog.futures:
            self._schedule()

    def _finish(self, group: _Group) -> None:
        group.finished = True
        self._sent -= len(group.futures)
        if self._window is not None:
            self._window.advance()

    def _end_window(self, error: DEngineError) -> None:
        window, self._window = self._window, None
        if window is None:
            return
        for group in window.groups.values():
            if not group.finished:
                fail_all(group.futures, error)
                self._finish(group)

    def _open_session(self) -> None:
        if not self._opening:
            self._opening = True
            self._transport.open_session(self._timeout, self._session_opened)

    def _session_opened(self, outcome: Outcome) -> None:
        self._opening = False
        if self._closed is not None:
            return
        error = self._trouble = outcome.error
        if error is None:
            self._window = _Window(outcome.revision)
            self._schedule()
        elif isinstance(error, OutcomeUnknownError | TimeoutError | UnavailableError):
            # At worst a session was opened that nobody uses. Those who wait decide by their time-outs how long to try.
            self._loop.call_later(SESSION_RETRY_SECONDS, self._schedule)
        else:
            fail_all(self._backlog.clear(), error)

    def _sweep(self, now: float) -> float | None:
        """End what is due. Returns the next deadline."""
        backlog = self._backlog
        backlog.settle(now + self._timeout)
        fail_all(backlog.expire(now), self._not_sent())
        following = [] if backlog.earliest is None else [backlog.earliest]
        late = OutcomeUnknownTimeoutError("the write was sent and no result came in time")
        for group in list(self._window.groups.values()) if self._window is not None else ():
            if not group.finished:
                again = expire(group.futures, group.deadlines, now, late)
                if again is None:
                    self._finish(group)
                else:
                    following.append(again)
        if backlog.futures:
            self._schedule()
        return min(following, default=None)

    def _not_sent(self) -> DEngineError:
        if isinstance(self._trouble, NoLeaderError | UnavailableError):
            return self._trouble
        if self._window is None:
            why = "a session" if self._trouble is None else f"a session (last: {self._trouble})"
            return NotAppliedTimeoutError(f"the write was not sent in time: it waited for {why}")
        return NotAppliedTimeoutError(
            f"the write was not sent in time: it waited for {len(self._window.groups)} groups before it"
        )
