"""Log time: the only time that the state machine knows (architecture, section 7).

It is no wall time. A new leader goes on from the log time that its own log had reached, by the last entry or by what
was heard of the leader who wrote that entry, and adds what its own boot-time clock has counted since its election. So
log time never goes back in the log, stands still while nobody leads (which only lengthens a lease), and a wrong wall
clock changes nothing.

It must not go on from any later time, heard from a leader of another term or counted by this node when it led before:
that clock may have run while somebody else led, whose leases are in this log by a slower one. They would end early.
"""

from d_engine.format.ids import Nanoseconds, Term


class LogClock:
    """Log time on one node. Runs while the node leads."""

    def __init__(self) -> None:
        self.term: Term = 0
        """In which it was started."""
        self._base: Nanoseconds = 0
        self._since: Nanoseconds | None = None
        self.running = False
        """True between `start` and `stop`. Looked at several times a turn."""

    def start(self, term: Term, reached: Nanoseconds, now: Nanoseconds) -> None:
        """This node was elected in this term, and the log time that its log had `reached` is this."""
        self.term = term
        self._base = reached
        self._since = now
        self.running = True

    def stop(self, now: Nanoseconds) -> None:
        """This node leads no more."""
        self._base = self.read(now)
        self._since = None
        self.running = False

    def read(self, now: Nanoseconds) -> Nanoseconds:
        """Log time at boot time `now`: standing unless this node leads."""
        if self._since is None:
            return self._base
        return self._base + max(0, now - self._since)
