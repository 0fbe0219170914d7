"""A replica's counters and gauges as plain numbers, by name."""

from dataclasses import fields

from d_engine.kv.machine import KvStateMachine
from d_engine.replica.replica import Replica
from d_engine.replica.settings import SECOND


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
        markers_applied=replica.executor.guard.markers.count,
        marker_agreed_index=replica.executor.guard.markers.agreed_index,
        quarantined=int(bool(replica.executor.guard.health.quarantine)),
        quarantines=replica.executor.guard.quarantines,
        digest_alarm=int(bool(replica.executor.guard.health.alarm)),
    )
    machine = replica.applier.state_machine
    if isinstance(machine, KvStateMachine):
        ends = machine.deadline
        left = 0 if ends is None else max(0, ends - replica.router.timekeeper.log_time())
        numbers.update(
            leases=len(machine.store.leases),
            leases_granted=machine.store.leases.granted,
            lease_ends_proposed=replica.router.timekeeper.proposed,
            lease_next_end_seconds=left / SECOND,
        )
    watches = replica.executor.watches
    span = watches.span
    numbers.update(
        watches=watches.watchers.count,
        watches_behind=len(watches.watchers.behind) + watches.watchers.stalled,
        watches_lagged=watches.lagged,
        watches_compacted=watches.compacted,
        history_oldest_revision=span.oldest,
        history_newest_revision=span.newest,
        history_bytes=span.size_bytes,
        history_seconds=span.seconds,
    )
    snapshots = replica.executor.snapshots
    newest = snapshots.files.newest
    received, size = snapshots.receiving.progress
    numbers.update(
        snapshots_taken=snapshots.taking.taken,
        snapshots_installed=snapshots.installed,
        snapshots_refused=len(snapshots.files.refused),
        snapshot_index=0 if newest is None else newest.header.index,
        snapshot_bytes=0 if newest is None else newest.header.size,
        snapshot_log_bytes=snapshots.taking.log_bytes,
        snapshot_bytes_written=snapshots.taking.written,
        snapshot_installing=int(snapshots.installing),
        snapshot_bytes_received=received,
        snapshot_bytes_to_receive=size,
    )
    return numbers
