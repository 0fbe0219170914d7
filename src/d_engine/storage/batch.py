"""Write batches: how records become one write, and what is known of the disk once its sync has come back."""

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from d_engine.format.entry import Entry
from d_engine.format.errors import check
from d_engine.format.messages import SnapshotMeta
from d_engine.format.state import HardState
from d_engine.storage.records import (
    FRAME_BYTES,
    Head,
    RecordType,
    count_hard_state,
    encode_frame,
    encode_hard_state,
    encode_head,
    encode_meta,
)
from d_engine.storage.segment import Segments

MAX_BATCH_BYTES = 8 * 1024 * 1024
"""A write batch stops growing here."""


class Record(NamedTuple):
    """One record on its way to the disk."""

    kind: RecordType
    body: bytes
    subject: Entry | HardState | SnapshotMeta


Item: TypeAlias = Record | int
"""A record, or the `seq` that is durable when all records before it are."""


def entry_record(entry: Entry) -> Record:
    """The entry's bytes as they are everywhere."""
    return Record(RecordType.ENTRY, entry.data, entry)


def hard_state_record(state: HardState) -> Record:
    """Term and vote."""
    return Record(RecordType.HARD_STATE, encode_hard_state(state), state)


def boundary_record(kind: RecordType, base: SnapshotMeta) -> Record:
    """`COMPACT` or `RESET`."""
    return Record(kind, encode_meta(base), base)


@dataclass(slots=True)
class Batch:
    """One write. `items` and `places` belong together (a `seq` has the place at which it was reached)."""

    number: int
    start: int
    end: int
    hard_states: int
    """The last record's count of term-and-vote records, or that before the batch."""
    parts: list[bytes] = field(default_factory=list)
    items: list[Item] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    seq: int = 0

    def add(self, salt: int, kind: RecordType, body: bytes) -> None:
        """The record follows what is there."""
        self.hard_states = count_hard_state(self.hard_states, kind)
        frame = encode_frame(salt, self.end, kind, self.hard_states, body, self.start, self.number)
        self.parts.append(frame)
        self.parts.append(body)
        self.end += FRAME_BYTES + len(body)


class Written:
    """What is on stable storage. Changes only when a sync has come back."""

    def __init__(self, segments: Segments, head: Head, number: int, hard_states: int) -> None:
        self.segments = segments
        self.head = head
        """What a segment that is begun now would say first."""
        self.number = number
        """Of the last write batch."""
        self.hard_states = hard_states
        """The last record's count of term-and-vote records."""

    def least_bytes(self, record: Record) -> int:
        """What a new segment needs room for if this record is to be its first but the head."""
        return 2 * FRAME_BYTES + len(encode_head(self.head)) + len(record.body)

    def has_room(self, record: Record) -> bool:
        """True if the record can be written to the active segment."""
        active = self.segments.active
        least = self.least_bytes(record) if active.empty else FRAME_BYTES + len(record.body)
        return active.end + least <= active.size

    def frame(self, pending: deque[Item]) -> Batch:
        """Take from the front what fits in the active segment; the first record does."""
        active = self.segments.active
        batch = Batch(self.number + 1, active.end, active.end, self.hard_states)
        if active.empty and not all(isinstance(item, int) for item in pending):
            batch.add(active.salt, RecordType.HEAD, encode_head(self.head))
        limit = batch.start + MAX_BATCH_BYTES
        while pending:
            item = pending[0]
            if isinstance(item, int):
                batch.seq = item
            elif batch.end + FRAME_BYTES + len(item.body) > active.size or batch.end > limit:
                break
            batch.items.append(pending.popleft())
            batch.places.append(batch.end)
            if not isinstance(item, int):
                batch.add(active.salt, item.kind, item.body)
        return batch

    def settle(self, batch: Batch) -> None:
        """The batch is durable."""
        active = self.segments.active
        check(batch.start == active.end, f"a batch from {batch.start} was written to {active.name}")
        for item, place in zip(batch.items, batch.places, strict=True):
            if not isinstance(item, int):
                self._settle(item, place)
        if batch.parts:
            active.end = batch.end
            self.number = batch.number
            self.hard_states = batch.hard_states

    def _settle(self, record: Record, place: int) -> None:
        subject, head = record.subject, self.head
        if isinstance(subject, Entry):
            self.segments.place(subject.index, place)
            self.head = head._replace(last_index=subject.index)
        elif isinstance(subject, HardState):
            self.head = head._replace(hard_state=subject)
        elif record.kind is RecordType.COMPACT:
            self.segments.drop(subject.index)
            self.head = head._replace(base=subject)
        else:
            self.segments.cut(0)
            self.head = Head(head.hard_state, subject.index, subject)
