"""Reading a segment from front to back through a window of bounded size, and single entries out of it."""

import crc32c

from d_engine.format.entry import Entry
from d_engine.format.errors import CorruptionError, MalformedError
from d_engine.format.ids import LogIndex
from d_engine.storage.disk import Disk
from d_engine.storage.records import FRAME_BYTES, RECORD_MAGIC, Frame, RecordType, decode_frame
from d_engine.storage.segment import Segment

WINDOW_BYTES = 1 << 20
_ZEROS = bytes(WINDOW_BYTES)


class SegmentReader:
    """One segment's file, of which `size` bytes are there. Reads `window` bytes at a time."""

    def __init__(self, disk: Disk, segment: Segment, size: int, window: int = WINDOW_BYTES) -> None:
        self.size = size
        self._disk = disk
        self._segment = segment
        self._window_bytes = window
        self._window = memoryview(b"")
        self._start = 0

    def bytes_at(self, offset: int, size: int) -> memoryview:
        """Up to `size` bytes; fewer only where the file ends."""
        begin = offset - self._start
        if begin < 0 or begin + size > len(self._window):
            size = max(min(size, self.size - offset), 0)
            data = self._disk.read(self._segment.name, offset, max(size, self._window_bytes))
            self._window, self._start, begin = memoryview(data), offset, 0
        return self._window[begin : begin + size]

    def frame_at(self, offset: int) -> Frame | None:
        """The frame at `offset`, if a valid one stands there."""
        return decode_frame(self._segment.salt, offset, self.bytes_at(offset, FRAME_BYTES))

    def body_at(self, offset: int, frame: Frame) -> memoryview | None:
        """The body of the record at `offset`, if it is what the frame says."""
        body = self.bytes_at(offset + FRAME_BYTES, frame.length)
        if len(body) != frame.length or crc32c.crc32c(body) != frame.checksum:
            return None
        return body

    def entry_at(self, offset: int, index: LogIndex) -> Entry:
        """The entry that was written at `offset`. Raises `CorruptionError`."""
        frame = self.frame_at(offset)
        body = None if frame is None or frame.type != RecordType.ENTRY else self.body_at(offset, frame)
        if body is None:
            raise CorruptionError(f"{self._segment.name}, offset {offset}: entry {index} is damaged")
        try:
            entry = Entry.decode(body)
        except MalformedError as error:
            raise CorruptionError(f"{self._segment.name}, offset {offset}: {error}") from error
        if entry.index != index:
            raise CorruptionError(
                f"{self._segment.name}, offset {offset}: {entry!r} instead of entry {index}"
            )
        return entry

    def end_of_data(self, offset: int) -> int:
        """Where the file's last byte other than zero ends; `offset` if there is none from there on."""
        end = offset
        while offset < self.size:
            chunk = self._disk.read(self._segment.name, offset, WINDOW_BYTES)
            # Comparing is much faster than stripping, and nearly all of what is looked at here is zeros.
            if chunk != (_ZEROS if len(chunk) == WINDOW_BYTES else bytes(len(chunk))):
                end = offset + len(chunk.rstrip(b"\0"))
            offset += WINDOW_BYTES
        return end

    def later_batch(self, offset: int) -> int | None:
        """The place of a valid frame whose write batch began behind `offset`, if there is one."""
        start = offset
        while start < self.size:
            # Windows overlap, so that a frame cut in two by the end of one is whole in the next.
            chunk = self._disk.read(self._segment.name, start, WINDOW_BYTES + FRAME_BYTES)
            found = chunk.find(RECORD_MAGIC)
            while found >= 0:
                frame = decode_frame(self._segment.salt, start + found, chunk, found)
                if frame is not None and frame.batch_start > offset:
                    return start + found
                found = chunk.find(RECORD_MAGIC, found + 1)
            start += WINDOW_BYTES
        return None


def read_entries(
    disk: Disk, segment: Segment, first: LogIndex, last: LogIndex, max_bytes: int
) -> list[Entry]:
    """Entries from `first` on, as far as they live in this segment, at least one, up to about `max_bytes`."""
    window = min(max(max_bytes, 4096), WINDOW_BYTES)
    reader = SegmentReader(disk, segment, segment.size, window)
    entries: list[Entry] = []
    last = min(last, segment.first_index + len(segment.offsets) - 1)
    for index in range(first, last + 1):
        if entries and max_bytes <= 0:
            break
        entry = reader.entry_at(segment.offsets[index - segment.first_index], index)
        entries.append(entry)
        max_bytes -= entry.size
    return entries
