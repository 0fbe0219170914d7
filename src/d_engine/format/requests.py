"""What clients ask and nodes answer, on a CLIENT connection.

Every request carries a number chosen by the client; its response carries the same. Many are in flight at once and
answers come in any order. A request is a *batch*: what a client's tasks asked for within one turn of its loop.
"""

from typing import Annotated, TypeAlias

import msgspec
from msgspec import Meta, Struct

from d_engine.format.errors import MalformedError
from d_engine.format.ids import MAX_U63, SessionId
from d_engine.format.limits import MAX_BATCH_ITEMS

_Count: TypeAlias = Annotated[int, Meta(ge=0, le=MAX_U63)]

LINEARIZABLE, LEASE, EVENTUAL = 0, 1, 2
"""Read policies, as numbers on the wire."""


class OpenSession(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """Open a session for writes. Answer: `SessionOpened`."""

    request: _Count
    timeout_ms: _Count


class WriteGroup(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """Apply one group (`d_engine.format.group`). Answer: `GroupResults`. To be repeated, byte for byte, on any node."""

    request: _Count
    timeout_ms: _Count
    group: bytes


class ReadBatch(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """Answer queries of the state machine under one policy. Answer: `ReadResults`."""

    request: _Count
    timeout_ms: _Count
    policy: Annotated[int, Meta(ge=0, le=2)]
    min_revision: _Count
    queries: Annotated[tuple[bytes, ...], Meta(max_length=MAX_BATCH_ITEMS)]


class Manage(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """Everything rare: `operation` is "status", "members", "leader", "transfer", "add_learner", "remove", ...;
    `arguments` is a JSON object. Answer: `Managed`."""

    request: _Count
    timeout_ms: _Count
    operation: str
    arguments: bytes


Request: TypeAlias = OpenSession | WriteGroup | ReadBatch | Manage


class SessionOpened(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=1):
    """The session's id."""

    request: _Count
    session: SessionId


class GroupResults(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=2):
    """One result for each command of the group, and the state's revision after it."""

    request: _Count
    revision: _Count
    results: tuple[bytes, ...]


class ReadResults(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=3):
    """Answers to the first queries, in order. There may be fewer than queries, even none, when they are large or the
    client does not take what it was sent: the rest is to be asked for again."""

    request: _Count
    answers: tuple[bytes, ...]


class Managed(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=4):
    """A JSON document."""

    request: _Count
    document: bytes


class Failure(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """The request failed: the `code` of a `d_engine.format.errors` class, and its text."""

    request: _Count
    code: str
    text: str


Response: TypeAlias = SessionOpened | GroupResults | ReadResults | Managed | Failure

_ENCODER = msgspec.msgpack.Encoder()
_REQUESTS: "msgspec.msgpack.Decoder[Request]" = msgspec.msgpack.Decoder(Request)
_RESPONSES: "msgspec.msgpack.Decoder[Response]" = msgspec.msgpack.Decoder(Response)


def encode_request(request: Request) -> bytes:
    """The head of a REQUEST frame."""
    return _ENCODER.encode(request)


def encode_response(response: Response) -> bytes:
    """The head of a RESPONSE frame."""
    return _ENCODER.encode(response)


def decode_request(head: bytes | memoryview) -> Request:
    """Read and validate. Raises `MalformedError`."""
    try:
        return _REQUESTS.decode(head)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedError(f"a request does not decode: {error}") from None


def decode_response(head: bytes | memoryview) -> Response:
    """Read and validate. Raises `MalformedError`."""
    try:
        return _RESPONSES.decode(head)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedError(f"a response does not decode: {error}") from None
