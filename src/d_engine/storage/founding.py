"""A log that begins behind a snapshot: how a data directory begins that was not empty of state at its birth."""

from d_engine.storage.batch import Batch
from d_engine.storage.disk import Disk, SyncFile, WriteFile
from d_engine.storage.records import Head, RecordType, encode_head
from d_engine.storage.spare import FIRST_SEGMENT_BYTES, Spare


def found_log(disk: Disk, seed: int, head: Head) -> None:
    """Write a log without entries that stands where `head` says. Durable when it returns."""
    segment = Spare(disk, seed, FIRST_SEGMENT_BYTES).make_first()
    # What the head says counts as a term and vote that stood before it: a log without any begins with 0.
    batch = Batch(1, segment.end, segment.end, 1)
    batch.add(segment.salt, RecordType.HEAD, encode_head(head))
    disk.run((WriteFile(segment.name, batch.start, batch.parts), SyncFile(segment.name)))
