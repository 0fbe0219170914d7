"""What a node starts with: its log, and whether it was in quarantine when it ended."""

from dataclasses import replace

from d_engine.format.errors import CorruptionError
from d_engine.format.state import HardState, RecoveredLog
from d_engine.storage.api import LogStorage
from d_engine.storage.disk import Disk
from d_engine.storage.quarantine import load_quarantine


def recover_log(storage: LogStorage, disk: Disk, repair: bool) -> tuple[RecoveredLog, HardState]:
    """The log, and the newest term and vote that the directory's record of a quarantine has. Without `repair` a node
    that is in quarantine is refused. Raises `StorageError`; nothing was changed then."""
    record = load_quarantine(disk)
    if record is None:
        return storage.recover(), HardState()
    if not repair:
        raise CorruptionError(
            f"this node is in quarantine and may not repair itself: {record.quarantine.reason}. Start it with repairs"
            " allowed, or remove it from the cluster and add it anew on an empty directory"
        )
    log = storage.recover()
    hard_state = max(log.hard_state, record.hard_state, key=lambda state: (state.term, state.vote))
    return replace(log, hard_state=hard_state, quarantine=record.quarantine), record.hard_state
