"""What is left of a damaged log: a beginning that is good, and what is still known of the rest.

`Recovery` refuses a log in which something that had been synced does not read back. A node with peers can do better: it
keeps what stands before the damage, and gets the rest again. For that it must know

* how far the log once went, as far as the records behind the damage still tell;
* its newest term and vote. They stand in records of the same log, and what cannot be read may have been one. Every
  frame counts them: if the last one that can be read counts as many as there were up to the newest term and vote that
  can be read, none was lost. A node that may have forgotten a vote must not go on under its name.

Looking changes nothing. `cut` is what makes the good beginning a whole log.
"""

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TypeAlias

from d_engine.format.configuration import Configuration, decode_configuration
from d_engine.format.entry import Entry, EntryKind
from d_engine.format.errors import CorruptionError, MalformedError
from d_engine.format.ids import LogIndex
from d_engine.format.state import HardState
from d_engine.storage.disk import (
    Disk,
    DiskOperation,
    RemoveFile,
    SyncDirectory,
    SyncFile,
    TruncateFile,
    WriteFile,
)
from d_engine.storage.reader import WINDOW_BYTES, SegmentReader
from d_engine.storage.records import (
    FRAME_BYTES,
    RECORD_MAGIC,
    Frame,
    RecordType,
    decode_hard_state,
    decode_head,
    decode_meta,
)
from d_engine.storage.recovery import Recovery
from d_engine.storage.segment import (
    HEADER_BYTES,
    Segment,
    decode_segment_header,
    segment_name,
    segment_number,
)

_ZEROS = bytes(1 << 20)


@dataclass(frozen=True, slots=True)
class Damage:
    """What is wrong with a log (`text`), and what is still known: the highest index that it held, the newest members,
    the newest term and vote (None: they may be lost), and what cuts off all but the good beginning."""

    text: str
    held_index: LogIndex
    configuration: Configuration | None
    hard_state: HardState | None
    cut: Sequence[DiskOperation]


Repair: TypeAlias = Callable[[Damage], None]
"""Makes sure that it stays known that something is missing, and raises if the log must not be used. Nothing has been
changed before."""


def remove_log(disk: Disk) -> Sequence[DiskOperation]:
    """Nothing of the log can be used. The newest segments go first."""
    numbers = sorted(number for name in disk.files() if (number := segment_number(name)) is not None)
    return (*(RemoveFile(segment_name(number)) for number in reversed(numbers)), SyncDirectory())


def recover_or_salvage(disk: Disk, repair: Repair | None) -> Recovery:
    """Recovery that has run, on the good beginning of a damaged log if `repair` agrees."""
    recovery = Recovery(disk)
    try:
        recovery.run()
        return recovery
    except CorruptionError as error:
        if repair is None:
            raise
        damage = examine(disk, error)
    repair(damage)
    disk.run(damage.cut)
    recovery = Recovery(disk)
    try:
        recovery.run()
        return recovery
    except CorruptionError:
        # What says up to where the log is compacted was damaged: its beginning is no use without that.
        disk.run(remove_log(disk))
    recovery = Recovery(disk)
    recovery.run()
    return recovery


def examine(disk: Disk, error: CorruptionError) -> Damage:
    """Why and how far the log that recovery refused with this error can be used. Raises what the disk raises, and
    `UnknownFormatError`."""
    return _Examination(disk).run(error)


class _Examination:
    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self._recovery = Recovery(disk)
        self._held: LogIndex = 0
        self._hard_state = HardState()
        self._known = 0
        """How many terms and votes there were up to this one."""
        self._counted: int | None = 0
        """How many there were in all, says the last frame that can be read; None if the log goes on behind it."""
        self._configuration: tuple[LogIndex, Configuration] | None = None

    def run(self, error: CorruptionError) -> Damage:
        numbers = sorted(n for name in self._disk.files() if (n := segment_number(name)) is not None)
        last_good: Segment | None = None
        place = 0
        for place, number in enumerate(numbers):
            segment = self._open(number)
            gap = place and number != numbers[place - 1] + 1
            if segment is None or gap or not self._replay(segment):
                break
            last_good = segment
            if not self._ends_well(segment, number == numbers[-1]):
                place += 1
                break
        outline, keep = self._recovery.outline, last_good
        self._held, self._hard_state = outline.last_index, self._recovery.hard_state
        self._known = self._counted = self._recovery.hard_states
        if outline.configurations:
            self._configuration = outline.configurations[-1]
        elif outline.base is not None:
            self._configuration = (outline.base.index, outline.base.configuration)
        if keep is not None:
            self._scan(keep, keep.end)
        for number in numbers[place:]:
            segment = self._open(number)
            if segment is None:
                if not self._is_unused(number):
                    self._counted = None
            else:
                self._scan(segment, HEADER_BYTES)
        return Damage(
            str(error),
            self._held,
            None if self._configuration is None else self._configuration[1],
            self._hard_state if self._counted == self._known else None,
            self._cut(keep, numbers[place:] if keep is not None else numbers),
        )

    # --- the good beginning ---

    def _open(self, number: int) -> Segment | None:
        name = segment_name(number)
        try:
            return decode_segment_header(name, self._disk.read(name, 0, HEADER_BYTES))
        except CorruptionError:
            return None

    def _is_unused(self, number: int) -> bool:
        """Whether nothing was ever written to this segment, whose header is damaged."""
        name, offset = segment_name(number), HEADER_BYTES
        while data := self._disk.read(name, offset, WINDOW_BYTES):
            if any(data):
                return False
            offset += len(data)
        return True

    def _reader(self, segment: Segment) -> SegmentReader:
        return SegmentReader(self._disk, segment, min(self._disk.size(segment.name), segment.size))

    def _replay(self, segment: Segment) -> bool:
        """Take in what is good of it. False if that is not even its first record."""
        with suppress(CorruptionError):
            self._recovery.replay(segment, self._reader(segment))
        return not segment.empty

    def _ends_well(self, segment: Segment, is_last: bool) -> bool:
        reader = self._reader(segment)
        return not is_last and not any(reader.bytes_at(segment.end, FRAME_BYTES))

    # --- what is behind ---

    def _scan(self, segment: Segment, offset: int) -> None:
        """Whatever can still be read from `offset` on."""
        reader = self._reader(segment)
        while offset < reader.size:
            frame = reader.frame_at(offset)
            if frame is not None:
                self._note(frame, reader.body_at(offset, frame))
                offset += FRAME_BYTES + frame.length
            elif (following := _next_frame(self._disk, segment, reader, offset)) is not None:
                offset = following
            else:
                # Zeros, or the beginning of a write that was never finished.
                break
        if reader.size != segment.size:
            self._counted = None

    def _note(self, frame: Frame, body: memoryview | None) -> None:
        self._counted = frame.hard_states
        if body is None:
            return
        with suppress(MalformedError):
            if frame.type == RecordType.HARD_STATE:
                self._hard_state, self._known = decode_hard_state(body), frame.hard_states
            elif frame.type == RecordType.HEAD:
                head = decode_head(body)
                self._hard_state, self._known = head.hard_state, frame.hard_states
                self._held = max(self._held, head.last_index)
            elif frame.type == RecordType.ENTRY:
                self._note_entry(Entry.decode(body))
            elif frame.type in (RecordType.COMPACT, RecordType.RESET):
                self._held = max(self._held, decode_meta(body).index)

    def _note_entry(self, entry: Entry) -> None:
        self._held = max(self._held, entry.index)
        if entry.kind is EntryKind.CONFIGURATION:
            known = self._configuration
            if known is None or entry.index > known[0]:
                self._configuration = (entry.index, decode_configuration(entry.payload))

    # --- the cut ---

    def _cut(self, keep: Segment | None, gone: Sequence[int]) -> Sequence[DiskOperation]:
        operations: list[DiskOperation] = [RemoveFile(segment_name(number)) for number in reversed(gone)]
        operations.append(SyncDirectory())
        if keep is not None:
            name, size = keep.name, self._disk.size(keep.name)
            if size != keep.size:
                operations.append(TruncateFile(name, keep.size))
            whole, rest = divmod(min(size, keep.size) - keep.end, len(_ZEROS))
            operations.append(WriteFile(name, keep.end, (*[_ZEROS] * whole, bytes(rest))))
            operations.append(SyncFile(name))
        return operations


def _next_frame(disk: Disk, segment: Segment, reader: SegmentReader, offset: int) -> int | None:
    """Where the next valid frame behind `offset` stands."""
    start = offset + 1
    while start < reader.size:
        chunk = disk.read(segment.name, start, WINDOW_BYTES + FRAME_BYTES)
        found = chunk.find(RECORD_MAGIC)
        while found >= 0:
            if reader.frame_at(start + found) is not None:
                return start + found
            found = chunk.find(RECORD_MAGIC, found + 1)
        start += WINDOW_BYTES
    return None
