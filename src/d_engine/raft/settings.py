"""What can be set about the consensus core. All times are integer nanoseconds.

The relations between the times carry the safety of leases and the liveness of elections: a follower is loyal to its
leader for `election_min_ns` after each contact (Raft dissertation, 4.2.3), a lease ends `lease_margin_percent` earlier
(6.4.1; the margin pays for clocks that run at different rates), and a leader must be able to say several times within
that span that it lives.
"""

from dataclasses import dataclass

from d_engine.format.errors import ConfigError
from d_engine.format.ids import MAX_NODE_ID, Incarnation, Nanoseconds, NodeId
from d_engine.format.limits import BATCH_BYTES, MAX_IN_FLIGHT_BYTES

MILLISECOND: Nanoseconds = 1_000_000


@dataclass(frozen=True, slots=True)
class RaftSettings:
    """One node's settings.

    `max_append_bytes` bounds the entries of one append (a single larger entry travels alone), `max_in_flight_*` what
    was sent to one peer and not acknowledged, `cache_bytes` the entries kept in memory.
    """

    node_id: NodeId
    incarnation: Incarnation
    heartbeat_ns: Nanoseconds = 100 * MILLISECOND
    election_min_ns: Nanoseconds = 500 * MILLISECOND
    election_max_ns: Nanoseconds = 1000 * MILLISECOND
    max_append_bytes: int = BATCH_BYTES
    max_in_flight_bytes: int = MAX_IN_FLIGHT_BYTES
    max_in_flight_messages: int = 256
    lease_margin_percent: int = 10
    cache_bytes: int = 32 * 1024 * 1024

    def validate(self) -> None:
        """Raise `ConfigError` unless the values fit together."""
        if not 0 < self.node_id <= MAX_NODE_ID:
            raise ConfigError(f"node_id is {self.node_id}; it must be 1..{MAX_NODE_ID}")
        if self.incarnation <= 0:
            raise ConfigError(f"incarnation is {self.incarnation}; it must be above 0")
        if self.heartbeat_ns <= 0:
            raise ConfigError(f"heartbeat_ns is {self.heartbeat_ns}; it must be above 0")
        if self.election_min_ns < 3 * self.heartbeat_ns:
            raise ConfigError(
                f"election_min_ns is {self.election_min_ns}; it must be at least three times heartbeat_ns, "
                f"{3 * self.heartbeat_ns}, so that one lost heartbeat costs no leader"
            )
        if self.election_max_ns <= self.election_min_ns:
            raise ConfigError(
                f"election_max_ns is {self.election_max_ns}; it must be above election_min_ns, {self.election_min_ns}"
            )
        if not 0 < self.lease_margin_percent < 100:
            raise ConfigError(f"lease_margin_percent is {self.lease_margin_percent}; it must be 1..99")
        if self.max_append_bytes <= 0 or self.max_in_flight_messages <= 0 or self.cache_bytes < 0:
            raise ConfigError(
                f"max_append_bytes ({self.max_append_bytes}) and max_in_flight_messages "
                f"({self.max_in_flight_messages}) must be above 0, cache_bytes ({self.cache_bytes}) not below 0"
            )
        if self.max_in_flight_bytes < self.max_append_bytes:
            raise ConfigError(
                f"max_in_flight_bytes is {self.max_in_flight_bytes}; one append of max_append_bytes, "
                f"{self.max_append_bytes}, must fit"
            )

    @property
    def lease_ns(self) -> Nanoseconds:
        """How long after the sending of a confirmed round the leader may answer reads on its own."""
        return self.election_min_ns * (100 - self.lease_margin_percent) // 100
