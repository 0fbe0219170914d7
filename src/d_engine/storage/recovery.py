"""Recovery: what a crash may have left, told apart from what only damage can leave.

Only one write is outstanding at any time, and the next begins after the sync of the one before. So a crash can tear
the last write batch and nothing else; each of its pages may be old or new. A bad record is such a tear only if no
valid frame behind it belongs to a batch that began behind it, and no later segment was written to. Then the rest is
overwritten with zeros. Otherwise the bad record had been on stable storage: `CorruptionError`, and nothing is changed.
Damage inside the very last batch cannot be told from a tear.

What is read back may never have reached the disk: the page cache shows it even if the process was killed before its
sync, or after a sync that failed. Again that concerns the last batch only, so recovery writes it once more, the same
bytes at the same place, and syncs. After that everything it returns is durable.
"""

from collections import deque
from collections.abc import Sequence
from itertools import pairwise

from d_engine.format.entry import ENTRY_VERSION, Entry
from d_engine.format.errors import CorruptionError, MalformedError, UnknownFormatError
from d_engine.format.state import HardState, RecoveredLog
from d_engine.storage.disk import (
    Disk,
    DiskOperation,
    RemoveFile,
    SyncDirectory,
    SyncFile,
    TruncateFile,
    WriteFile,
)
from d_engine.storage.outline import Outline
from d_engine.storage.reader import SegmentReader
from d_engine.storage.records import (
    FRAME_BYTES,
    RECORD_TYPES,
    Frame,
    Head,
    RecordType,
    count_hard_state,
    decode_hard_state,
    decode_head,
    decode_meta,
)
from d_engine.storage.segment import (
    HEADER_BYTES,
    UNFINISHED_NAME,
    Segment,
    Segments,
    decode_segment_header,
    encode_segment_header,
    segment_name,
    segment_number,
)

TAIL_BYTES = 8 * 1024 * 1024
_ZEROS = bytes(1 << 20)


class Recovery:
    """One pass over the log. `run` fills the attributes; without any segment they stay as they are."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        self.segments = Segments()
        self.spare: Segment | None = None
        """A segment that was made ahead and not written to yet."""
        self.outline = Outline()
        self.hard_state = HardState()
        self.batch = 0
        """The last write batch's number."""
        self.hard_states = 0
        """The last record's count of term-and-vote records."""
        self.torn_bytes = 0
        """So many bytes of a write that was never acknowledged stand behind the last record."""
        self._batch_start = HEADER_BYTES
        self._begun = False
        self._tail: deque[Entry] = deque()
        self._tail_bytes = 0

    @property
    def log(self) -> RecoveredLog:
        """What was found, as the core wants it."""
        outline = self.outline
        return RecoveredLog(
            hard_state=self.hard_state,
            snapshot=outline.base,
            first_index=outline.first_index,
            last_index=outline.last_index,
            term_runs=tuple(outline.runs),
            configurations=tuple(outline.configurations),
            tail=tuple(entry for entry in self._tail if entry.index >= outline.first_index),
        )

    def run(self) -> None:
        """Read, verify, repair the tail. Raises `CorruptionError` or `UnknownFormatError` and changes nothing."""
        self._disk.run(self.examine())

    def examine(self) -> Sequence[DiskOperation]:
        """Read and verify. Returns what repairs the tail and makes all of it durable; raises as `run` does, and then
        holds what stands in front of the damage."""
        found = _segments(self._disk)
        if not found:
            return ()
        used = len(found)
        while used > 1 and _unused(self._disk, found[used - 1]):
            used -= 1
        for segment in found[: used - 1]:
            self._replay_synced(segment)
        repairs = self._replay_last(found[used - 1])
        self._check_complete(found[0].name)
        return (*repairs, *self._tidy(found[used:]))

    # --- segments ------------------------------------------------------------------------------------------------

    def _replay_synced(self, segment: Segment) -> None:
        """A segment behind which another was written to: all of it had been synced."""
        reader = SegmentReader(self._disk, segment, self._disk.size(segment.name))
        if reader.size != segment.size:
            raise CorruptionError(f"{segment.name} has {reader.size} bytes instead of {segment.size}")
        self.replay(segment, reader)
        if segment.empty or any(reader.bytes_at(segment.end, FRAME_BYTES)):
            raise CorruptionError(
                f"{segment.name}, offset {segment.end}: a record that had been synced is damaged"
                f" ({_damage(reader, segment.end)}); {segment_name(segment.number + 1)} was written after it"
            )

    def _replay_last(self, segment: Segment) -> Sequence[DiskOperation]:
        """The segment that was being written. Returns what makes its content durable and its rest zeros."""
        reader = SegmentReader(self._disk, segment, self._disk.size(segment.name))
        self.replay(segment, reader)
        name, end = segment.name, segment.end
        dirty_end = reader.end_of_data(end)
        if dirty_end > end:
            proof = reader.later_batch(end)
            if proof is not None:
                raise CorruptionError(
                    f"{name}, offset {end}: a record that had been synced is damaged"
                    f" ({_damage(reader, end)}); the record at offset {proof} was written after it"
                )
        self.torn_bytes = dirty_end - end
        operations: list[DiskOperation] = []
        if reader.size != segment.size:
            # Only cutting back a write for which there was no room shortens a file, to the end of a record.
            if reader.size != end or segment.empty:
                raise CorruptionError(f"{name} has {reader.size} bytes instead of {segment.size}")
            operations.append(TruncateFile(name, segment.size))
        if not segment.empty:
            last = self._disk.read(name, self._batch_start, end - self._batch_start)
            operations.append(WriteFile(name, self._batch_start, (last,)))
        if dirty_end > end:
            whole, rest = divmod(dirty_end - end, len(_ZEROS))
            operations.append(WriteFile(name, end, (*[_ZEROS] * whole, bytes(rest))))
        return (*operations, SyncFile(name))

    def _tidy(self, unused: Sequence[Segment]) -> Sequence[DiskOperation]:
        """Keep the spare segment, made durable again; remove what was unfinished."""
        operations: list[DiskOperation] = [RemoveFile(UNFINISHED_NAME)]
        if unused:
            # One at most: the next is made only when the active one has durable records.
            self.spare = unused[0]
            header = encode_segment_header(self.spare)
            operations += (WriteFile(self.spare.name, 0, (header,)), SyncFile(self.spare.name))
        return (*operations, SyncDirectory())

    def _check_complete(self, oldest: str) -> None:
        outline = self.outline
        expected = 1 if outline.base is None else outline.base.index + 1
        if outline.first_index != expected:
            raise CorruptionError(
                f"the segment before {oldest} is missing: entries from {expected} on are needed,"
                f" and the oldest that were found begin at {outline.first_index}"
            )

    # --- records -------------------------------------------------------------------------------------------------

    def replay(self, segment: Segment, reader: SegmentReader) -> None:
        """Take in all valid records; `segment.end` is where they end."""
        self.segments.begin(segment)
        while (frame := reader.frame_at(segment.end)) is not None:
            body = reader.body_at(segment.end, frame)
            if body is None:
                return
            try:
                self._take_batch(segment, frame)
                self._check_count(frame)
                self._take(segment, frame, body)
            except MalformedError as error:
                raise CorruptionError(f"{segment.name}, offset {segment.end}: {error}") from error
            self.hard_states = frame.hard_states
            segment.end += FRAME_BYTES + frame.length

    def _take_batch(self, segment: Segment, frame: Frame) -> None:
        """Batches follow each other without a gap; the oldest segment may begin with any."""
        if frame.batch == self.batch and not segment.empty:
            continues = frame.batch_start == self._batch_start
        else:
            follows = frame.batch == self.batch + 1 or not self._begun
            continues = follows and frame.batch_start == segment.end
        if not continues:
            raise MalformedError(
                f"write batch {frame.batch} from {frame.batch_start} does not follow batch {self.batch}"
            )
        self.batch, self._batch_start = frame.batch, frame.batch_start

    def _check_count(self, frame: Frame) -> None:
        """The count goes on from record to record; the oldest segment may begin with any."""
        if self._begun and frame.hard_states != count_hard_state(self.hard_states, frame.type):
            raise MalformedError(
                f"a record counts {frame.hard_states} of terms and votes; the one before it, {self.hard_states}"
            )

    def _take(self, segment: Segment, frame: Frame, body: memoryview) -> None:
        if (frame.type == RecordType.HEAD) != segment.empty:
            raise MalformedError(f"a record of type {frame.type} stands where none may")
        match RECORD_TYPES.get(frame.type):
            case RecordType.ENTRY:
                self._take_entry(segment, body)
            case RecordType.HARD_STATE:
                self.hard_state = decode_hard_state(body)
            case RecordType.HEAD:
                self._take_head(segment, decode_head(body))
            case RecordType.COMPACT:
                base = decode_meta(body)
                if base.index > self.outline.last_index:
                    raise MalformedError(
                        f"the log ends at {self.outline.last_index} and is compacted to {base.index}"
                    )
                self.outline.compact(base)
                self.segments.drop(base.index)
            case RecordType.RESET:
                base = decode_meta(body)
                self.outline.reset(base)
                self.segments.cut(0)
                self._tail.clear()
                self._tail_bytes = 0
            case None:
                raise UnknownFormatError(
                    f"{segment.name}, offset {segment.end}: a record has the unknown type {frame.type}"
                )

    def _take_head(self, segment: Segment, head: Head) -> None:
        """The oldest segment's first record is where the log's past is known from; later ones must agree."""
        outline = self.outline
        if not self._begun:
            self._begun = True
            outline.base = head.base
            outline.first_index, outline.last_index = head.last_index + 1, head.last_index
            self.hard_state = head.hard_state
        elif head != Head(self.hard_state, outline.last_index, outline.base):
            raise MalformedError(f"{segment.name} does not continue what stands before it")

    def _take_entry(self, segment: Segment, body: memoryview) -> None:
        if len(body) and body[0] != ENTRY_VERSION:
            raise UnknownFormatError(
                f"{segment.name}, offset {segment.end}: an entry has format version {body[0]};"
                f" this release knows version {ENTRY_VERSION}"
            )
        entry = Entry.decode(body)
        base = 0 if self.outline.base is None else self.outline.base.index
        if not base < entry.index <= self.outline.last_index + 1 or entry.size != len(body):
            raise MalformedError(f"{entry!r} stands behind index {self.outline.last_index}, boundary {base}")
        while self._tail and self._tail[-1].index >= entry.index:
            self._tail_bytes -= self._tail.pop().size
        self.outline.add(entry)
        self.segments.place(entry.index, segment.end)
        self._tail.append(entry)
        self._tail_bytes += entry.size
        while self._tail_bytes > TAIL_BYTES and len(self._tail) > 1:
            self._tail_bytes -= self._tail.popleft().size


def _segments(disk: Disk) -> list[Segment]:
    """All segments by rising number, headers verified, none missing between them."""
    numbers = sorted(number for name in disk.files() if (number := segment_number(name)) is not None)
    for number, following in pairwise(numbers):
        if following != number + 1:
            raise CorruptionError(f"{segment_name(number + 1)} is missing: {segment_name(following)} exists")
    names = [segment_name(number) for number in numbers]
    return [decode_segment_header(name, disk.read(name, 0, HEADER_BYTES)) for name in names]


def _damage(reader: SegmentReader, offset: int) -> str:
    """What is wrong with the bytes at which a record should stand."""
    frame = reader.frame_at(offset)
    if frame is None:
        return "its frame is missing or does not match its checksum"
    kind = RECORD_TYPES.get(frame.type)
    name = f"type {frame.type}" if kind is None else kind.name
    return (
        f"{name}, {frame.length} bytes from offset {offset + FRAME_BYTES}: they do not match their checksum"
    )


def _unused(disk: Disk, segment: Segment) -> bool:
    reader = SegmentReader(disk, segment, disk.size(segment.name))
    if reader.size != segment.size:
        return False
    return reader.end_of_data(HEADER_BYTES) == HEADER_BYTES
