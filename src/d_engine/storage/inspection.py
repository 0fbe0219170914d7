"""Looking at a data directory without changing it: what it holds, whether all checksums match, what a start would do.

It reads what a start reads, with the same code, so that what is whole here starts, and what is damaged here is what a
start would complain of. Damage does not end the look: the log, each snapshot and the identity are judged on their own,
and what stands in front of a damage is reported.
"""

from dataclasses import dataclass

from d_engine.format.configuration import Configuration
from d_engine.format.errors import CorruptionError, UnknownFormatError
from d_engine.format.ids import Incarnation, LogIndex, NodeId, Term
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import HardState
from d_engine.storage.disk import Disk
from d_engine.storage.identity import IDENTITY_BYTES, IDENTITY_NAME, decode_identity
from d_engine.storage.outline import Outline
from d_engine.storage.quarantine import QUARANTINE_NAME, QuarantineRecord, load_quarantine
from d_engine.storage.records import EMPTY_CONFIGURATION
from d_engine.storage.recovery import Recovery
from d_engine.storage.segment import Segment
from d_engine.storage.snapshots import SnapshotFile, snapshot_names, verify


@dataclass(frozen=True, slots=True)
class SegmentReport:
    """One file of the log. The entries are those that live in it: `first_index` above `last_index` means none. `end` is
    where its records end. The last file may be one that was made ahead and is empty."""

    name: str
    size: int
    end: int
    first_index: LogIndex
    last_index: LogIndex


@dataclass(frozen=True, slots=True)
class LogReport:
    """The log, up to where it is damaged."""

    segments: tuple[SegmentReport, ...]
    hard_state: HardState
    boundary: SnapshotMeta | None
    first_index: LogIndex
    last_index: LogIndex
    last_term: Term
    configuration_index: LogIndex
    configuration: Configuration
    torn_bytes: int
    """Behind the last record stand so many bytes of a write that was never acknowledged. A start overwrites them."""


@dataclass(frozen=True, slots=True)
class SnapshotReport:
    """A snapshot that was read from end to end."""

    name: str
    size: int
    meta: SnapshotMeta


@dataclass(frozen=True, slots=True)
class DirectoryReport:
    """A data directory. `damage` says what is wrong, in the order in which a start would find it."""

    node_id: NodeId
    """0 if the identity cannot be read."""
    incarnation: Incarnation
    quarantine: QuarantineRecord | None
    """Why the node does not trust what it has here, and until when. None: it does, or the record cannot be read."""
    log: LogReport
    snapshots: tuple[SnapshotReport, ...]
    others: tuple[str, ...]
    """Files that are neither of these: unfinished ones, which a start removes or continues, and foreign ones."""
    damage: tuple[str, ...]

    @property
    def hard_state(self) -> HardState:
        """The newest term and vote, be it that of the log or, if that was damaged, of the quarantine's record."""
        noted = HardState() if self.quarantine is None else self.quarantine.hard_state
        return max(self.log.hard_state, noted, key=lambda state: (state.term, state.vote))

    @property
    def configuration(self) -> tuple[LogIndex, Configuration]:
        """The newest members that the directory knows, and the log index from which on they are. Index 0: none."""
        log = self.log
        if self.snapshots and self.snapshots[0].meta.index > log.last_index:
            meta = self.snapshots[0].meta
            return meta.index, meta.configuration
        return log.configuration_index, log.configuration


class Inspection:
    """One look. `report` is what was seen; `recovery` and `snapshots` are where what is whole can be read."""

    def __init__(self, disk: Disk) -> None:
        """Reads everything. Nothing is written. Raises only what the disk raises."""
        self._disk = disk
        self._damage: list[str] = []
        self.snapshots: list[SnapshotFile] = []
        """The good ones, newest first."""
        node_id, incarnation = self._read_identity()
        quarantine = self._read_quarantine()
        self.recovery = Recovery(disk)
        log = self._read_log()
        self._read_snapshots()
        self._check_continuity()
        reports = tuple(SnapshotReport(file.name, file.header.size, file.meta) for file in self.snapshots)
        known = {
            IDENTITY_NAME,
            QUARANTINE_NAME,
            *(segment.name for segment in log.segments),
            *snapshot_names(disk),
        }
        others = tuple(sorted(name for name in disk.files() if name not in known))
        self.report = DirectoryReport(
            node_id, incarnation, quarantine, log, reports, others, tuple(self._damage)
        )

    def _read_identity(self) -> tuple[NodeId, Incarnation]:
        if IDENTITY_NAME not in self._disk.files():
            self._damage.append(f"{IDENTITY_NAME} is missing: nobody can tell whose directory this is")
            return 0, 0
        try:
            return decode_identity(self._disk.read(IDENTITY_NAME, 0, IDENTITY_BYTES + 1))
        except (CorruptionError, UnknownFormatError) as error:
            self._damage.append(str(error))
            return 0, 0

    def _read_quarantine(self) -> QuarantineRecord | None:
        """A node that is in quarantine does not trust what it has, so nobody else should."""
        try:
            record = load_quarantine(self._disk)
        except (CorruptionError, UnknownFormatError) as error:
            self._damage.append(str(error))
            return None
        if record is not None:
            self._damage.append(f"{QUARANTINE_NAME}: {record.quarantine.reason}")
        return record

    def _read_log(self) -> LogReport:
        recovery = self.recovery
        try:
            recovery.examine()
        except (CorruptionError, UnknownFormatError) as error:
            self._damage.append(str(error))
        else:
            if not recovery.segments:
                self._damage.append("there is no log: no file log-*.wal")
        segments = [*recovery.segments, *([] if recovery.spare is None else [recovery.spare])]
        outline = recovery.outline
        index, configuration = _configuration(outline)
        return LogReport(
            tuple(map(_segment_report, segments)),
            recovery.hard_state,
            outline.base,
            outline.first_index,
            outline.last_index,
            outline.boundary(outline.last_index).term if outline.last_index else 0,
            index,
            configuration,
            recovery.torn_bytes,
        )

    def _read_snapshots(self) -> None:
        for name in snapshot_names(self._disk):
            try:
                self.snapshots.append(verify(self._disk, name))
            except (CorruptionError, UnknownFormatError) as error:
                self._damage.append(str(error))

    def _check_continuity(self) -> None:
        """What stands in front of the log must be in a snapshot, as `Snapshots.recover` wants it."""
        base = self.recovery.outline.first_index - 1
        if base > (self.snapshots[0].meta.index if self.snapshots else 0):
            self._damage.append(
                f"the log begins at {base + 1}, and no good snapshot stands for what was before"
            )


def _segment_report(segment: Segment) -> SegmentReport:
    count = len(segment.offsets)
    first = segment.first_index if count else 0
    return SegmentReport(segment.name, segment.size, segment.end, first, first + count - 1)


def _configuration(outline: Outline) -> tuple[LogIndex, Configuration]:
    """The newest configuration of the log, and where it stands."""
    if outline.configurations:
        return outline.configurations[-1]
    return (
        (0, EMPTY_CONFIGURATION) if outline.base is None else (outline.base.index, outline.base.configuration)
    )
