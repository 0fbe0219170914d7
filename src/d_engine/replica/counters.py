"""What a replica counts. Plain numbers; exporters are somebody else's."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Since the start of the node."""

    overloaded: int = 0
    """Commands and reads refused because too many waited."""
    lease_reads: int = 0
    """Reads asked for under the lease policy and answered from a valid lease."""
    lease_misses: int = 0
    """The same, served as linearizable because there was no valid lease here."""
    elections_won: int = 0
    leader_changes: int = 0

    def count_lease(self, count: int, served: bool) -> None:
        """Reads that were asked for under the lease policy."""
        if served:
            self.lease_reads += count
        else:
            self.lease_misses += count
