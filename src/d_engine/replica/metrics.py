"""A replica's counters and gauges as plain numbers, by name."""

from dataclasses import fields

from d_engine.replica.replica import Replica


def metrics_of(replica: Replica) -> dict[str, int | float]:
    """Counters since the start of the node, and gauges of this moment."""
    numbers: dict[str, int | float] = {
        field.name: getattr(replica.counters, field.name) for field in fields(replica.counters)
    }
    sessions = replica.applier.sessions
    numbers.update(
        waiting_writes=replica.writes.waiting,
        waiting_reads=replica.reads.waiting,
        commands_applied=replica.applier.commands,
        sessions=len(sessions),
        sessions_evicted=sessions.evicted,
        groups_dropped=replica.router.dropped,
    )
    return numbers
