"""Whose data directory this is.

The file `identity` is the first that is written into an empty directory. It binds the directory to a node id, and holds
the directory's incarnation, a random number by which a cluster notices that a member came back without its data: a node
that forgot its votes must not vote under its old name.

Layout, little-endian, 36 bytes::

    offset  size  field
         0     8  magic "DENGIDN\\n"
         8     4  format version (1)
        12     4  length of what follows, without the checksum (16)
        16     8  node id
        24     8  incarnation
        32     4  CRC32C of bytes 0..32
"""

import struct
from collections.abc import Callable

import crc32c

from d_engine.format.errors import CorruptionError, DataDirectoryError, UnknownFormatError
from d_engine.format.ids import Incarnation, NodeId
from d_engine.storage.disk import CreateFile, Disk, RenameFile, SyncDirectory, SyncFile, WriteFile

IDENTITY_NAME = "identity"
UNFINISHED_NAME = "identity.tmp"
IDENTITY_MAGIC = b"DENGIDN\n"
IDENTITY_VERSION = 1
_LAYOUT = struct.Struct("<8sIIQQ")
_PREFIX = struct.Struct("<8sII")
_CRC = struct.Struct("<I")
IDENTITY_BYTES = _LAYOUT.size + _CRC.size
INCARNATION_BITS = 63


def load_identity(disk: Disk, node_id: NodeId, random_bits: Callable[[int], int]) -> Incarnation:
    """The directory's incarnation; an empty directory becomes this node's.

    Raises `DataDirectoryError` if the directory holds other things or belongs to another node, `CorruptionError` or
    `UnknownFormatError` if the file cannot be read.
    """
    names = sorted(disk.files())
    if IDENTITY_NAME in names:
        found, incarnation = decode_identity(disk.read(IDENTITY_NAME, 0, IDENTITY_BYTES + 1))
        if found != node_id:
            raise DataDirectoryError(
                f"the data directory belongs to node {found}, this is node {node_id}: configure another"
                " directory, or the right node id"
            )
        # The process that made it may have been killed before it had synced the directory.
        disk.run((SyncDirectory(),))
        return incarnation
    others = [name for name in names if name != UNFINISHED_NAME]
    if others:
        raise DataDirectoryError(
            f"the data directory holds {', '.join(others[:5])} but no file {IDENTITY_NAME}: configure an empty"
            f" directory. (If `d-engine recover` was interrupted here, remove the directory and recover again)"
        )
    incarnation = random_bits(INCARNATION_BITS) or 1
    write_identity(disk, node_id, incarnation)
    return incarnation


def write_identity(disk: Disk, node_id: NodeId, incarnation: Incarnation) -> None:
    """Make the directory this node's. When it returns, that is durable; before, it is nobody's."""
    data = encode_identity(node_id, incarnation)
    disk.run(
        (
            CreateFile(UNFINISHED_NAME, len(data)),
            WriteFile(UNFINISHED_NAME, 0, (data,)),
            SyncFile(UNFINISHED_NAME),
            RenameFile(UNFINISHED_NAME, IDENTITY_NAME),
            SyncDirectory(),
        )
    )


def encode_identity(node_id: NodeId, incarnation: Incarnation) -> bytes:
    """The file's content."""
    length = _LAYOUT.size - _PREFIX.size
    data = _LAYOUT.pack(IDENTITY_MAGIC, IDENTITY_VERSION, length, node_id, incarnation)
    return data + _CRC.pack(crc32c.crc32c(data))


def decode_identity(data: bytes) -> tuple[NodeId, Incarnation]:
    """Node id and incarnation."""
    if len(data) >= _PREFIX.size and data.startswith(IDENTITY_MAGIC):
        _, version, _ = _PREFIX.unpack_from(data)
        if version != IDENTITY_VERSION:
            raise UnknownFormatError(
                f"{IDENTITY_NAME} has format version {version}; this release knows version {IDENTITY_VERSION}"
            )
    if len(data) != IDENTITY_BYTES or _CRC.unpack_from(data, _LAYOUT.size)[0] != crc32c.crc32c(
        data[: _LAYOUT.size]
    ):
        raise CorruptionError(
            f"{IDENTITY_NAME} is damaged: put this one file back from a copy (it never changes; no other file may come"
            " from one), or let this node join anew with an empty directory"
        )
    magic, _, length, node_id, incarnation = _LAYOUT.unpack_from(data)
    if magic != IDENTITY_MAGIC or length != _LAYOUT.size - _PREFIX.size:
        raise CorruptionError(f"{IDENTITY_NAME} is not an identity file")
    return node_id, incarnation
