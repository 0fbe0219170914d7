"""What a watch wants to see, and how that and the events travel: both as msgpack arrays."""

from collections.abc import Sequence

import msgspec
from msgspec import Struct

from d_engine.format.errors import InvalidRequestError, MalformedError
from d_engine.kv.events import Event, EventKind, Removed, Write

EVENT_BYTES = 64
"""What an event weighs besides its key and values."""


class Selection(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """The keys from `start` up to but without `end` (None: to the last key there is), and of what happens to them,
    `puts` and `deletes`. `previous`: each event tells the entry before."""

    start: bytes
    end: bytes | None
    puts: bool = True
    deletes: bool = True
    previous: bool = False

    @property
    def is_one_key(self) -> bool:
        """Whether no key but `start` is in the range."""
        return self.end == self.start + b"\x00"

    def wants(self, write: Write) -> bool:
        """Whether this kind of write is wanted, wherever it is."""
        return self.deletes if type(write[0]) is Removed else self.puts

    def has(self, key: bytes) -> bool:
        """Whether the key is in the range."""
        return self.start <= key and (self.end is None or key < self.end)


def select(
    start: bytes, end: bytes | None, kinds: Sequence[EventKind] = ("put", "delete"), previous: bool = False
) -> Selection:
    """Raises `InvalidRequestError` for what can never select anything."""
    if end is not None and end <= start:
        raise InvalidRequestError(f"a watch from {start!r} up to {end!r} would see nothing")
    if not kinds or isinstance(kinds, str) or not {*kinds} <= {"put", "delete"}:
        raise InvalidRequestError(f'the kinds of a watch are some of "put" and "delete", not {kinds!r}')
    return Selection(start, end, "put" in kinds, "delete" in kinds, previous)


def weigh(event: Event) -> int:
    """How much of a watch's window the event takes."""
    size = EVENT_BYTES + len(event.key)
    if event.value is not None:
        size += len(event.value)
    if event.previous is not None:
        size += len(event.previous.value)
    return size


_ENCODER = msgspec.msgpack.Encoder()
_SELECTION = msgspec.msgpack.Decoder(Selection)
_EVENTS = msgspec.msgpack.Decoder(tuple[Event, ...])


def encode_selection(selection: Selection) -> bytes:
    """For a request."""
    return _ENCODER.encode(selection)


def decode_selection(data: bytes) -> Selection:
    """Raises `InvalidRequestError`."""
    try:
        return _SELECTION.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise InvalidRequestError(f"a watch does not decode: {error}") from None


def encode_events(events: Sequence[Event]) -> bytes:
    """In order."""
    return _ENCODER.encode(events)


def decode_events(data: bytes | memoryview) -> tuple[Event, ...]:
    """Raises `MalformedError`."""
    try:
        return _EVENTS.decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise MalformedError(f"events do not decode: {error}") from None
