"""What a node starts with: its log, and whether it is in quarantine.

A log that is damaged is used as far as it is good, if other members can give the rest (`d_engine.storage.salvage`).
That something is missing is on stable storage before anything is cut off.
"""

from dataclasses import replace

from d_engine.format.errors import CorruptionError
from d_engine.format.state import HardState, Quarantine, RecoveredLog
from d_engine.replica.settings import ReplicaSettings
from d_engine.storage.api import LogStorage, RepairableStorage
from d_engine.storage.disk import Disk
from d_engine.storage.quarantine import QuarantineRecord, load_quarantine, saving
from d_engine.storage.salvage import Damage

REPLACE = "remove the node from the cluster, then add it anew on an empty directory"


def recover_log(storage: LogStorage, disk: Disk, settings: ReplicaSettings) -> tuple[RecoveredLog, HardState]:
    """The log, and the newest term and vote that the directory's record of a quarantine has. Raises `StorageError`;
    nothing was changed then."""
    before = load_quarantine(disk)
    if not settings.repair:
        if before is not None:
            raise CorruptionError(
                f"this node is in quarantine and may not repair itself: {before.quarantine.reason}. Start it with"
                f" repairs allowed, or {REPLACE}"
            )
        return storage.recover(), HardState()
    records = [] if before is None else [before]

    def repair(damage: Damage) -> None:
        records.append(_record(damage, before, settings))
        record = records[-1]
        disk.run(saving(record.hard_state, record.quarantine))

    log = storage.recover_part(repair) if isinstance(storage, RepairableStorage) else storage.recover()
    if not records:
        return log, HardState()
    record = records[-1]
    hard_state = _newest(log.hard_state, record.hard_state)
    return replace(log, hard_state=hard_state, quarantine=record.quarantine), record.hard_state


def _newest(one: HardState, other: HardState) -> HardState:
    return max(one, other, key=lambda state: (state.term, state.vote))


def _record(damage: Damage, before: QuarantineRecord | None, settings: ReplicaSettings) -> QuarantineRecord:
    """What is to be known of the damage. Raises `CorruptionError` if the node must not go on with it."""
    known = HardState() if before is None else before.hard_state
    if damage.hard_state is None:
        raise CorruptionError(
            f"{damage.text}; what the node had promised (term and vote) may be lost with it, so it must not go on under"
            f" its name: {REPLACE}"
        )
    members = damage.configuration or settings.bootstrap
    if members is not None and members.all_voters == (settings.node_id,):
        raise CorruptionError(
            f"{damage.text}; this node is the only voter it knows of, so nobody can repair it: restore a backup, or see"
            " `d-engine recover`"
        )
    hard_state = _newest(damage.hard_state, known)
    held, needs_snapshot = damage.held_index, False
    if before is not None:
        held = max(held, before.quarantine.held_index)
        needs_snapshot = before.quarantine.needs_snapshot
    quarantine = Quarantine(damage.text, held, needs_snapshot)
    return QuarantineRecord(hard_state.term, hard_state.vote, quarantine)
