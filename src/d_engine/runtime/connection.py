"""One stream connection that carries frames, over TCP or a Unix socket.

Reading: bytes become frames (`d_engine.runtime.framing`), one callback for all frames of a batch. A connection begins
in its greeting: a small frame limit, one frame at a time, and a few seconds until `establish`. A frame that has begun
must go on arriving at a modest pace. Whatever breaks these rules closes the connection, with the reason.

Writing: what is sent within a loop turn is written at once. The queue is bounded in bytes. On a *lossy* connection
(between members, whose protocol repeats itself) what exceeds the bound is dropped. On any other, reading pauses
until the queue has drained, because no answers are owed to requests that were not read; what is queued without
having been asked for is its sender's to limit, and far beyond the bound the connection ends.

A peer that vanished without a word is found by the kernel: `TCP_USER_TIMEOUT` ends a connection whose data was not
acknowledged, or not taken, for `SILENCE_MS`; keep-alive probes do the same for one that is idle. A user time-out much
longer than an election would leave a healed network waiting for the backed-off retransmission.
"""

import asyncio
import socket
from collections.abc import Callable, Sequence
from typing import Protocol, cast

from d_engine.format.errors import (
    DEngineError,
    MalformedError,
    OverloadedError,
    ProtocolError,
    UnavailableError,
)
from d_engine.format.frames import Frame
from d_engine.format.limits import MAX_FRAME_BYTES
from d_engine.runtime.fork import hold, release
from d_engine.runtime.framing import FrameReader
from d_engine.runtime.turn import at_end

GREETING_LIMIT_BYTES = 4096
GREETING_SECONDS = 3.0
PROGRESS_SECONDS = 5.0
PROGRESS_BYTES = 64 * 1024
"""A frame that has begun must bring so many bytes in `PROGRESS_SECONDS`, or end."""
LINGER_SECONDS = 2.0
SILENCE_MS = 1500
HARD_FACTOR = 4
_JOIN_BYTES = 64 * 1024
_TRANSPORT_BYTES = 256 * 1024


class Handler(Protocol):
    """Who gets what arrives. Frames are valid until `on_frames` returns; a `ProtocolError` raised by it closes the
    connection. `on_close` comes once, last; the reason is None when either side just closed."""

    def on_frames(self, frames: list[Frame]) -> None: ...

    def on_close(self, reason: DEngineError | None) -> None: ...


class SendQueue:
    """Parts that wait for the end of the turn, or for the transport to take more."""

    __slots__ = ("_loop", "_parts", "_scheduled", "_size", "_taken", "limit", "lossy", "paused", "transport")

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: int) -> None:
        self._loop = loop
        self._parts: list[bytes] = []
        self._size = 0
        self._taken = 0  # what the transport still held when it paused us: its most, until it resumes us
        self._scheduled = False
        self.limit = limit
        self.lossy = False
        self.paused = False
        self.transport: asyncio.Transport | None = None

    @property
    def size(self) -> int:
        """Bytes queued here and, while it does not take more, in the transport."""
        return self._size + self._taken

    def add(self, parts: Sequence[bytes], size: int) -> None:
        self._parts.extend(parts)
        self._size += size
        if not self._scheduled and not self.paused:
            self._scheduled = True
            at_end(self._loop, self.flush)

    def flush(self) -> None:
        """Hand everything to the transport."""
        self._scheduled = False
        if self.paused or not self._parts or self.transport is None:
            return
        parts, self._parts = self._parts, []
        size, self._size = self._size, 0
        # Many small parts are cheaper joined than listed; large ones are not worth a copy.
        if size <= _JOIN_BYTES:
            self.transport.write(b"".join(parts))
        else:
            self.transport.writelines(parts)

    def pause(self) -> None:
        self.paused = True
        self._taken = self.transport.get_write_buffer_size() if self.transport is not None else 0

    def resume(self) -> None:
        self.paused = False
        self._taken = 0
        self.flush()

    def clear(self) -> None:
        self._parts = []
        self._size = self._taken = 0
        self.transport = None


class Connection(asyncio.BufferedProtocol):
    """See the module. Everything happens on the loop's thread; nothing here calls back from within a call."""

    def __init__(self, loop: asyncio.AbstractEventLoop, handler: Handler) -> None:
        self.handler = handler
        self.remote = ""
        """The other side's address, for texts and logs."""
        self.ended: Callable[[Connection], None] | None = None
        """Called when it is gone, for whoever counts connections."""
        self._loop = loop
        self._reader = FrameReader(GREETING_LIMIT_BYTES)
        self._queue = SendQueue(loop, GREETING_LIMIT_BYTES)
        self._transport: asyncio.Transport | None = None
        self._descriptor = -1
        self._greeting = True
        self._open = True
        self._reading = True
        self._reason: DEngineError | None = None
        self._watch: asyncio.TimerHandle | None = None

    # --- for the owner -------------------------------------------------------------------------------------------

    @property
    def open(self) -> bool:
        """False once either side has begun to close."""
        return self._open

    @property
    def queued_bytes(self) -> int:
        """What was sent and not yet taken by the kernel, as far as it is known."""
        return self._queue.size

    @property
    def congested(self) -> bool:
        """True while the queue is beyond its bound: send nothing that was not asked for."""
        return self._queue.size > self._queue.limit

    def establish(self, handler: Handler, send_limit: int, lossy: bool = False) -> None:
        """The greeting is over: full frames, whole batches, another handler."""
        self.handler = handler
        self._greeting = False
        self._reader.limit = MAX_FRAME_BYTES
        self._queue.limit = send_limit
        self._queue.lossy = lossy
        self._stop_watch()

    def send(self, parts: Sequence[bytes]) -> bool:
        """Queue one frame's parts. False if it was dropped: the connection is closed, or lossy and full."""
        if not self._open:
            return False
        queue = self._queue
        size = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        after = queue.size + size
        if after > queue.limit:
            if queue.lossy:
                return False
            if after > queue.limit * HARD_FACTOR and queue.size:
                self.abort(OverloadedError(f"{self.remote} leaves {after} bytes unread"))
                return False
            self._pause_reading()
        queue.add(parts, size)
        return True

    def close(self, reason: DEngineError | None = None) -> None:
        """Write what is queued, then close; at the latest after `LINGER_SECONDS`."""
        if not self._open:
            return
        self._end(reason)
        if self._transport is not None:
            self._queue.paused = False
            self._queue.flush()
            self._transport.close()
            self._watch = self._loop.call_later(LINGER_SECONDS, self._transport.abort)

    def abort(self, reason: DEngineError | None = None) -> None:
        """Close at once; what is queued is lost."""
        if self._open:
            self._end(reason)
        self._queue.clear()
        if self._transport is not None:
            self._transport.abort()

    # --- for the transport ---------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._queue.transport = self._transport
        self._transport.set_write_buffer_limits(_TRANSPORT_BYTES)
        self.remote = self.remote or _describe(self._transport.get_extra_info("peername"))
        sock: socket.socket = self._transport.get_extra_info("socket")
        _detect_silence(sock)
        self._descriptor = sock.fileno()
        hold(self._descriptor)
        if not self._open:
            self._transport.abort()
        else:
            self._start_watch(GREETING_SECONDS)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._reader.buffer()

    def buffer_updated(self, nbytes: int) -> None:
        if not self._open:
            return
        reader = self._reader
        reader.received(nbytes)
        try:
            while frames := reader.take(self._greeting):
                self.handler.on_frames(frames)
                if not self._open:
                    return
            reader.settle()
        except ProtocolError as error:
            self.abort(error)
            return
        if reader.pending and self._watch is None:
            self._start_watch(PROGRESS_SECONDS)

    def eof_received(self) -> bool:
        if self._open and self._reader.pending:
            self._reason = UnavailableError(f"{self.remote} closed the connection in the middle of a frame")
        return False

    def pause_writing(self) -> None:
        self._queue.pause()
        if self.congested and not self._queue.lossy:
            self._pause_reading()

    def resume_writing(self) -> None:
        self._queue.resume()
        if not self._reading and self._open and self._transport is not None and not self.congested:
            self._reading = True
            self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._open:
            reason = self._reason
            if exc is not None:
                reason = UnavailableError(f"the connection with {self.remote} broke: {exc}")
            self._end(reason)
        release(self._descriptor)
        self._stop_watch()
        self._queue.clear()
        self._transport = None
        if self.ended is not None:
            self.ended(self)
        self.handler.on_close(self._reason)

    # --- inside --------------------------------------------------------------------------------------------------

    def _end(self, reason: DEngineError | None) -> None:
        self._open = False
        self._reason = reason
        self._stop_watch()

    def _pause_reading(self) -> None:
        if self._reading and self._transport is not None and self._queue.paused:
            self._reading = False
            self._transport.pause_reading()

    def _start_watch(self, seconds: float) -> None:
        deadline = self._loop.time() + seconds
        total = self._reader.total
        self._watch = self._loop.call_later(
            seconds, self._check_pace, deadline, total - self._reader.pending, total
        )

    def _stop_watch(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None

    def _check_pace(self, deadline: float, begin: int, total: int) -> None:
        """`begin` is where in the stream the frame began that was under way, `total` how far the stream had come."""
        self._watch = None
        reader = self._reader
        # After a stall of our own the timers run before what has arrived meanwhile was read: that is not their fault.
        if self._loop.time() > deadline + 0.5 or not self._reading:
            self._start_watch(PROGRESS_SECONDS)
        elif self._greeting:
            self.abort(MalformedError(f"{self.remote} did not say hello within {GREETING_SECONDS:g} s"))
        elif reader.total - reader.pending == begin and reader.total - total < PROGRESS_BYTES:
            self.abort(
                MalformedError(f"{self.remote} began a frame and did not go on for {PROGRESS_SECONDS:g} s")
            )
        elif reader.pending:
            self._start_watch(PROGRESS_SECONDS)


def _describe(name: object) -> str:
    if isinstance(name, tuple):
        return f"[{name[0]}]:{name[1]}" if ":" in name[0] else f"{name[0]}:{name[1]}"
    return f"unix:{name or ''}"


def _detect_silence(sock: socket.socket) -> None:
    if sock.family not in (socket.AF_INET, socket.AF_INET6):
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in (
        ("TCP_KEEPIDLE", 1),
        ("TCP_KEEPINTVL", 1),
        ("TCP_KEEPCNT", 3),
        ("TCP_USER_TIMEOUT", SILENCE_MS),
    ):
        option = getattr(socket, name, None)  # macOS has no user time-out
        if option is not None:
            sock.setsockopt(socket.IPPROTO_TCP, option, value)
