"""One client connection's watches: requests to the node, events to frames."""

from collections.abc import Callable
from typing import Protocol

from d_engine.format.errors import CompactedError, DEngineError, InvalidRequestError, WatchLaggedError
from d_engine.format.limits import MAX_FRAME_BYTES
from d_engine.format.requests import (
    Response,
    Watch,
    WatchControl,
    WatchEnded,
    WatchEvents,
    WatchProgress,
    WatchStarted,
)
from d_engine.kv.events import Event
from d_engine.kv.watching import decode_selection, encode_events
from d_engine.replica.watches import Watches

_ROOM_BYTES = 4096


class WatchBackend(Protocol):
    """The node behind the connection."""

    @property
    def watches(self) -> Watches: ...


class ClientWatches:
    """Owns the connection's watches (`d_engine.replica.watchers.WatchOwner`)."""

    def __init__(self, backend: WatchBackend, send: Callable[[Response], None]) -> None:
        self._watches = backend.watches
        self._send = send

    def begin(self, request: Watch) -> None:
        """A watch is wanted."""
        number = request.request
        try:
            revision = self._watches.open(self, number, decode_selection(request.selection), request.since)
        except DEngineError as error:
            self.ended(number, error)
        else:
            self._send(WatchStarted(number, revision, self._watches.settings.told_window_bytes))

    def control(self, request: WatchControl) -> None:
        """About one that may have ended meanwhile."""
        number = request.request
        if request.taken:
            self._watches.take(self, number, request.taken)
        if request.progress:
            self._watches.ask_progress(self, number)
        if request.stop:
            self._watches.close(self, number)

    def close(self) -> None:
        """The client is gone."""
        self._watches.close(self)

    # --- from the node -----------------------------------------------------------------------------------------------

    def events(self, number: int, revision: int, events: list[Event]) -> None:
        encoded = encode_events(events)
        if len(encoded) > MAX_FRAME_BYTES - _ROOM_BYTES:
            # Only one event larger than half a frame, with what it replaced, can come to this.
            self._watches.close(self, number)
            text = f"an event of {len(encoded)} bytes is too large for a frame: watch without the previous values"
            self.ended(number, InvalidRequestError(text))
        else:
            self._send(WatchEvents(number, revision, encoded))

    def progress(self, numbers: list[int], revision: int) -> None:
        self._send(WatchProgress(numbers[0], revision, tuple(numbers)))

    def ended(self, number: int, error: DEngineError) -> None:
        revision = 0
        if isinstance(error, CompactedError):
            revision = error.oldest
        elif isinstance(error, WatchLaggedError):
            revision = error.last_revision
        self._send(WatchEnded(number, error.code, str(error), revision))
