"""What a node knows to be wrong with its own data, and what it does about it (architecture, section 11)."""

from d_engine.format.ids import LogIndex, Nanoseconds
from d_engine.replica.applier import Applier
from d_engine.replica.listener import Health, ReplicaListener
from d_engine.replica.log_clock import LogClock
from d_engine.replica.markers import Markers


class Guard:
    """Watches over one node's data. Whatever it finds is told to the listener, once."""

    def __init__(
        self, markers: Markers, applier: Applier, log_clock: LogClock, listener: ReplicaListener
    ) -> None:
        self.markers = markers
        self.health = Health()
        self._applier = applier
        self._log_clock = log_clock
        self._listener = listener

    @property
    def deadline(self) -> Nanoseconds | None:
        """When a turn is needed though nothing has happened."""
        return self.markers.deadline

    def drive(self, now: Nanoseconds) -> None:
        """Once a turn, before the core's effects are taken."""
        self.markers.propose(self._log_clock.read(now), now)

    def marker_applied(self, index: LogIndex) -> None:
        """A marker was applied, and nothing behind it."""
        self.markers.applied(index, self._applier.log_time, self._applier.digest)

    def conclude(self) -> None:
        """Once a turn, when what is committed was applied."""
        self.markers.compare()
        health = Health(self.markers.alarm)
        if health != self.health:
            self.health = health
            self._listener.health_changed(health)
