"""Cutting frames out of a stream, without any I/O of its own.

A read goes straight into a buffer that all connections of a thread share: between the moment at which a transport
asks for a buffer and the moment at which it says how much it read, nothing else runs on that thread. What is left of
a batch, the begin of a frame, is set aside and put back in front before the next read. Only a frame larger than the
shared buffer gets one of its own, which grows as the bytes arrive: a length that was merely claimed costs nothing.

Hence one rule for whoever gets frames: **their bytes are valid until the callback returns**. Decoding copies.

Measured against `asyncio.Protocol` on uvloop, 20 frames of 100 bytes to one of 64 KiB: 3.6 to 4.2 µs of CPU a frame
against 5.5 to 6.0, and 14 against 40 for frames of 64 KiB only.
"""

import threading

from d_engine.format.errors import ProtocolError
from d_engine.format.frames import FRAME_HEADER_BYTES, Frame, decode_frame, frame_size

SHARED_BUFFER_BYTES = 256 * 1024
_thread = threading.local()


def shared_buffer() -> memoryview:
    """The calling thread's read buffer."""
    view: memoryview | None = getattr(_thread, "view", None)
    if view is None:
        view = _thread.view = memoryview(bytearray(SHARED_BUFFER_BYTES))
    return view


class FrameReader:
    """The state of one stream's input: `buffer`, `received`, `take` until it returns nothing, `settle`; again."""

    __slots__ = ("_end", "_kept", "_position", "_shared", "_view", "limit", "pending", "total")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        """The largest body that is accepted. May be changed between two calls of `take`."""
        self.pending = 0
        """Bytes that have come of a frame that is not complete."""
        self.total = 0
        """Bytes that have come altogether."""
        self._shared = self._view = shared_buffer()
        self._position = self._end = 0
        self._kept = b""

    def buffer(self) -> memoryview:
        """Where to read to."""
        if self._kept:
            self._end = len(self._kept)
            self._view[: self._end] = self._kept
        return self._view[self._end :]

    def received(self, count: int) -> None:
        """So many bytes were read."""
        self._end += count
        self.total += count

    def take(self, only_one: bool = False) -> list[Frame]:
        """The complete frames, or only the first. What follows bad bytes is never looked at: the frames before them
        are returned first, then the next call raises `MalformedError` or `UnsupportedVersionError`."""
        frames: list[Frame] = []
        view, position, end = self._view, self._position, self._end
        try:
            while end - position >= FRAME_HEADER_BYTES:
                size = frame_size(view, position, self.limit)
                if size is None or position + size > end:
                    break
                frames.append(decode_frame(view, position))
                position += size
                if only_one:
                    break
        except ProtocolError:
            if not frames:
                raise
        self._position = position
        return frames

    def settle(self) -> None:
        """Set aside what is left. Raises like `take` if that cannot begin a frame."""
        rest = self.pending = self._end - self._position
        self._kept = b""
        if rest == 0:
            self._view, self._position, self._end = self._shared, 0, 0
            return
        left = self._view[self._position : self._end]
        size = frame_size(left, 0, self.limit)
        if size is None or size <= len(self._shared):
            self._kept = bytes(left)
            self._view, self._position, self._end = self._shared, 0, 0
        elif self._view is self._shared or self._end == len(self._view):
            own = memoryview(bytearray(min(size, 2 * max(rest, SHARED_BUFFER_BYTES))))
            own[:rest] = left
            self._view, self._position, self._end = own, 0, rest
