"""The JSON documents with which a node answers rare operations (`d_engine.format.requests.Manage`)."""

from typing import TypeVar

import msgspec

from d_engine.client.api import LeaderInfo, MemberInfo, SnapshotInfo, Status
from d_engine.format.errors import MalformedError

_Document = TypeVar("_Document")
_MEMBERS = msgspec.json.Decoder(list[MemberInfo])
_STATUS = msgspec.json.Decoder(Status)
_SNAPSHOT = msgspec.json.Decoder(SnapshotInfo)
_LEADER: "msgspec.json.Decoder[LeaderInfo | None]" = msgspec.json.Decoder(LeaderInfo | None)


def decode_members(document: bytes) -> list[MemberInfo]:
    """The answer to "members". Raises `MalformedError`, like the others."""
    return _decode(_MEMBERS, document)


def decode_leader(document: bytes) -> LeaderInfo | None:
    """The answer to "leader": null while none is known."""
    return _decode(_LEADER, document)


def decode_status(document: bytes) -> Status:
    """The answer to "status"."""
    return _decode(_STATUS, document)


def decode_snapshot(document: bytes) -> SnapshotInfo:
    """The answer to "snapshot"."""
    return _decode(_SNAPSHOT, document)


def _decode(decoder: "msgspec.json.Decoder[_Document]", document: bytes) -> _Document:
    try:
        return decoder.decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedError(f"a node's document does not decode: {error}") from None
