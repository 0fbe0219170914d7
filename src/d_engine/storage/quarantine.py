"""The file `quarantine`: as long as it is there, this directory's data is doubted.

Written before anything is repaired, removed when everything is whole again; so a node that is restarted meanwhile knows
what it must not do (`d_engine.raft.isolation`). It also keeps the newest term and vote that a damaged log still told:
they must not be lost while the log is cut.

Layout, little-endian::

    offset  size  field
         0     8  magic "DENGQUA\\n"
         8     4  format version (1)
        12     4  length of the record
        16        the record, MessagePack: term, vote, and what a `Quarantine` says
        ..     4  CRC32C of all before it
"""

import struct
from collections.abc import Sequence

import crc32c
import msgspec
from msgspec import Struct

from d_engine.format.errors import CorruptionError, UnknownFormatError
from d_engine.format.ids import MAX_NODE_ID, MAX_TERM
from d_engine.format.state import HardState, Quarantine
from d_engine.storage.disk import (
    CreateFile,
    Disk,
    DiskOperation,
    RemoveFile,
    RenameFile,
    SyncDirectory,
    SyncFile,
    WriteFile,
)

QUARANTINE_NAME = "quarantine"
UNFINISHED_NAME = "quarantine.tmp"
_MAGIC = b"DENGQUA\n"
_VERSION = 1
_PREFIX = struct.Struct("<8sII")
_CRC = struct.Struct("<I")
_MAX_BYTES = 16 * 1024
_MAX_REASON = 4000


class QuarantineRecord(Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """What the file says."""

    term: int
    vote: int
    quarantine: Quarantine

    @property
    def hard_state(self) -> HardState:
        """The newest term and vote that were known when it was written."""
        return HardState(self.term, self.vote)


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(QuarantineRecord)


def encode_quarantine(hard_state: HardState, quarantine: Quarantine) -> bytes:
    """The file's content."""
    short = msgspec.structs.replace(quarantine, reason=quarantine.reason[:_MAX_REASON])
    body = _ENCODER.encode(QuarantineRecord(hard_state.term, hard_state.vote, short))
    data = _PREFIX.pack(_MAGIC, _VERSION, len(body)) + body
    return data + _CRC.pack(crc32c.crc32c(data))


def decode_quarantine(data: bytes) -> QuarantineRecord:
    """Raises `CorruptionError`, or `UnknownFormatError` for another version."""
    if len(data) >= _PREFIX.size and data.startswith(_MAGIC):
        _, version, length = _PREFIX.unpack_from(data)
        if version != _VERSION:
            raise UnknownFormatError(
                f"{QUARANTINE_NAME} has format version {version}; this release knows version {_VERSION}"
            )
        end = _PREFIX.size + length
        if len(data) == end + _CRC.size and _CRC.unpack_from(data, end)[0] == crc32c.crc32c(data[:end]):
            try:
                record = _DECODER.decode(data[_PREFIX.size : end])
            except (msgspec.MsgspecError, UnicodeDecodeError):
                record = None
            if record is not None and 0 <= record.term <= MAX_TERM and 0 <= record.vote <= MAX_NODE_ID:
                return record
    raise CorruptionError(
        f"{QUARANTINE_NAME} is damaged, so it is not known what this node had: remove the node from the cluster and"
        " add it anew on an empty directory"
    )


def load_quarantine(disk: Disk) -> QuarantineRecord | None:
    """What the directory's file says, if there is one. Raises like `decode_quarantine`."""
    if QUARANTINE_NAME not in disk.files():
        return None
    return decode_quarantine(disk.read(QUARANTINE_NAME, 0, _MAX_BYTES))


def saving(hard_state: HardState, quarantine: Quarantine) -> Sequence[DiskOperation]:
    """The operations after which the file says this, durably; until then it says what it said."""
    data = encode_quarantine(hard_state, quarantine)
    return (
        CreateFile(UNFINISHED_NAME, len(data)),
        WriteFile(UNFINISHED_NAME, 0, (data,)),
        SyncFile(UNFINISHED_NAME),
        RenameFile(UNFINISHED_NAME, QUARANTINE_NAME),
        SyncDirectory(),
    )


def ending() -> Sequence[DiskOperation]:
    """The operations after which there is no such file."""
    return (RemoveFile(UNFINISHED_NAME), RemoveFile(QUARANTINE_NAME), SyncDirectory())
