"""What ends by itself: the leader proposes it when its log time has come (architecture, section 7).

A state machine that has deadlines (`d_engine.format.state_machine.TimedStateMachine`) names the next one, in log time;
the leader's log clock says when that is on its own clock. Then what is due goes into the log, one entry at a time: the
next one when this one is applied. So a million leases that end in the same second are many entries, between which
others have their turn. Whoever leads next proposes again what its predecessor's log did not hold; a command that comes
too late does nothing.

A leader that is not ready proposes nothing: it has not applied yet what might have moved the deadline.
"""

from collections.abc import Callable

from d_engine.format.entry import EntryKind
from d_engine.format.ids import LogIndex, Nanoseconds
from d_engine.format.state_machine import StateMachine, TimedStateMachine
from d_engine.format.timed import encode_timed
from d_engine.raft.core import Raft
from d_engine.replica.log_clock import LogClock
from d_engine.storage.api import LogStorage


class Timekeeper:
    """Proposes, when this node leads, what is due."""

    def __init__(
        self,
        raft: Raft,
        storage: LogStorage,
        log_clock: LogClock,
        state_machine: StateMachine,
        clock: Callable[[], Nanoseconds],
    ) -> None:
        """`clock` is this node's own."""
        self.proposed = 0
        self._raft = raft
        self._storage = storage
        self._log_clock = log_clock
        self._timed = state_machine if isinstance(state_machine, TimedStateMachine) else None
        self._pending: LogIndex = 0
        """The entry that was proposed last."""
        self._clock = clock
        if self._timed is not None:
            self._timed.clock = self.log_time

    def log_time(self) -> Nanoseconds:
        """Log time, as far as this node knows it."""
        return self._log_clock.read(self._clock()) if self._log_clock.running else self._raft.highest_log_time

    def deadline(self, now: Nanoseconds) -> Nanoseconds | None:
        """When there will be something to propose, on this node's clock; None if it is not known."""
        timed, raft = self._timed, self._raft
        due = None if timed is None else timed.deadline
        if (
            due is None
            or not self._log_clock.running
            or not raft.ready
            or not raft.accepts_proposals
            or self._storage.full
        ):
            return None
        if raft.applied_index < self._pending <= raft.last_index:
            return None
        return now + max(0, due - self._log_clock.read(now))

    def run(self, now: Nanoseconds) -> None:
        """Once a turn."""
        deadline = self.deadline(now)
        if deadline is None or deadline > now or self._timed is None:
            return
        log_time = self._log_clock.read(now)
        commands = self._timed.due(log_time)
        if commands:
            payload = encode_timed(commands)
            entry = self._raft.propose((payload,), len(commands), log_time, now, EntryKind.TIMED)
            self._pending = entry.index
            self.proposed += len(commands)
