"""What clients ask and nodes answer, on a CLIENT connection.

Every request carries a number chosen by the client; its response carries the same. Many are in flight at once and
answers come in any order. A request is a *batch*: what a client's tasks asked for within one turn of its loop.

A watch is a request with many answers: what follows `WatchStarted` carries the same number, until it ends.
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


class Watch(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=5):
    """Tell the events that the state machine's `selection` selects, from behind revision `since` (None: from now) on.
    Answer: `WatchStarted`, then `WatchEvents` and `WatchProgress`, until `WatchEnded`."""

    request: _Count
    timeout_ms: _Count
    since: _Count | None
    selection: bytes


class WatchControl(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6):
    """About the watch of this number: the client has taken so many bytes of its events; it wants to know how far the
    watch is true; it is not interested any more. Has no answer of its own."""

    request: _Count
    taken: _Count
    progress: bool = False
    stop: bool = False


Request: TypeAlias = OpenSession | WriteGroup | ReadBatch | Manage | Watch | WatchControl


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


class WatchStarted(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=6):
    """All events behind `revision` will be told. `window`: so many bytes are sent before the client has taken any."""

    request: _Count
    revision: _Count
    window: _Count


class WatchEvents(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=7):
    """With these events the watch was told everything up to `revision`. Those of a higher revision are not all yet."""

    request: _Count
    revision: _Count
    events: bytes


class WatchProgress(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=8):
    """These watches were told everything up to `revision`. `request` is one of them."""

    request: _Count
    revision: _Count
    watches: tuple[_Count, ...]


class WatchEnded(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, tag=9):
    """The watch is over, or was never begun: why. `revision` is, if it was compacted, the oldest that a watch may begin
    with; if it lagged, the last up to which it was told everything; else 0."""

    request: _Count
    code: str
    text: str
    revision: _Count


WatchResponse: TypeAlias = WatchStarted | WatchEvents | WatchProgress | WatchEnded
Response: TypeAlias = SessionOpened | GroupResults | ReadResults | Managed | Failure | WatchResponse

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
