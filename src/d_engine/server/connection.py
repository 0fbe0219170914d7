"""One client's connection, on the node's side.

Everything runs on the engine's own loop, from callback to callback: a frame becomes a request, the node answers now or
later, the answer becomes a frame; what is answered within one turn leaves with one write. A write is answered when
*this* node has applied it, whoever leads: so a client sees its own writes on the node that it wrote through.

What a client can cost is bounded. Requests that are under way are counted, and refused beyond a limit, with an answer
that says so. Answers that the client does not take stop the reading of its requests (`d_engine.runtime.connection`).
A batch of reads is answered in part when its answers grow large, and not at all while too much waits to be taken: the
client asks again for what is missing.
"""

import logging
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeAlias

from d_engine.format.errors import (
    DEngineError,
    InvalidRequestError,
    MalformedError,
    OutcomeUnknownError,
    OverloadedError,
)
from d_engine.format.frames import Frame, FrameKind, encode_frame
from d_engine.format.ids import Nanoseconds
from d_engine.format.limits import BATCH_BYTES, MAX_FRAME_BYTES
from d_engine.format.requests import (
    Failure,
    GroupResults,
    Manage,
    Managed,
    OpenSession,
    ReadBatch,
    ReadResults,
    Response,
    SessionOpened,
    Watch,
    WatchControl,
    WriteGroup,
    decode_request,
    encode_response,
)
from d_engine.replica.outcome import GroupDone, GroupOutcome, ReadDone
from d_engine.runtime.connection import Connection
from d_engine.server.watches import ClientWatches, WatchBackend

MAX_REQUESTS = 1024
MAX_REQUEST_BYTES = 64 * 1024 * 1024
"""Of one connection, under way at once."""

MAX_TIMEOUT_MS = 3_600_000
_NANOSECONDS_PER_MS = 1_000_000
_log = logging.getLogger(__name__)

CountedRequest: TypeAlias = OpenSession | WriteGroup | ReadBatch | Manage
"""Answered once. Watches have limits of their own."""
DocumentDone: TypeAlias = Callable[[bytes, DEngineError | None], None]
"""Gets a JSON document, or an error."""


class ServerBackend(WatchBackend, Protocol):
    """The node behind the connection. Every method calls `done` once, now or later, on this thread, or raises a
    `DEngineError`: then it has done nothing. `read` calls `done(None)` when `query` may be called, within that call.
    """

    def open_session(self, timeout: Nanoseconds, done: GroupDone, /) -> None: ...

    def propose(self, group: bytes, timeout: Nanoseconds, done: GroupDone, /) -> None: ...

    def read(
        self, policy: int, min_revision: int, timeout: Nanoseconds, count: int, done: ReadDone, /
    ) -> None: ...

    def query(self, request: bytes, /) -> bytes: ...

    def manage(
        self, operation: str, arguments: bytes, timeout: Nanoseconds, done: DocumentDone, /
    ) -> None: ...


class ClientHandler:
    """Handles an established connection (`d_engine.runtime.connection.Handler`)."""

    def __init__(self, connection: Connection, backend: ServerBackend) -> None:
        self._connection = connection
        self._backend = backend
        self._watches = ClientWatches(backend, self._send)
        self._requests = 0
        self._bytes = 0

    def on_frames(self, frames: list[Frame]) -> None:
        """Requests came. Raises `MalformedError`, which closes the connection, for anything else."""
        for frame in frames:
            if frame.kind is not FrameKind.REQUEST or len(frame.tail):
                raise MalformedError(f"a client sent a {frame.kind.name.lower()} frame")
            request = decode_request(frame.head)
            if isinstance(request, Watch):
                self._watches.begin(request)
            elif isinstance(request, WatchControl):
                self._watches.control(request)
            else:
                self._begin(request, len(frame.head))

    def on_close(self, reason: DEngineError | None) -> None:
        """What is under way goes on; its answers find the connection closed. Nobody watches any more."""
        self._watches.close()
        if reason is not None:
            _log.info("the client at %s is gone: %s", self._connection.remote, reason)

    def _begin(self, request: CountedRequest, size: int) -> None:
        number = request.request
        if self._requests >= MAX_REQUESTS or (self._requests and self._bytes + size > MAX_REQUEST_BYTES):
            error = OverloadedError(f"{self._requests} requests of {self._bytes} bytes are under way here")
            self._send(_failure(number, error))
            return
        self._requests += 1
        self._bytes += size
        try:
            self._dispatch(request, partial(self._answer, size))
        except DEngineError as error:
            self._answer(size, _failure(number, error))

    def _dispatch(self, request: CountedRequest, answer: Callable[[Response], None]) -> None:
        timeout = min(request.timeout_ms, MAX_TIMEOUT_MS) * _NANOSECONDS_PER_MS
        number, backend = request.request, self._backend
        if isinstance(request, WriteGroup):
            backend.propose(request.group, timeout, lambda outcome: answer(_group_response(number, outcome)))
        elif isinstance(request, ReadBatch):
            done = partial(self._read, request, answer)
            backend.read(request.policy, request.min_revision, timeout, len(request.queries), done)
        elif isinstance(request, OpenSession):
            backend.open_session(timeout, lambda outcome: answer(_session_response(number, outcome)))
        else:
            done_managing = partial(_managed, number, answer)
            backend.manage(request.operation, request.arguments, timeout, done_managing)

    def _read(
        self, request: ReadBatch, answer: Callable[[Response], None], error: DEngineError | None
    ) -> None:
        number = request.request
        if error is not None:
            answer(_failure(number, error))
            return
        answers: list[bytes] = []
        size = 0
        if not self._connection.congested:
            for query in request.queries:
                try:
                    answers.append(self._backend.query(query))
                except Exception as failure:
                    # A state machine of somebody's own must not end the node for a question that it did not expect.
                    _log.exception("the state machine failed to answer a query")
                    answer(_failure(number, DEngineError(f"the state machine did not answer: {failure!r}")))
                    return
                size += len(answers[-1])
                if size >= BATCH_BYTES:
                    break
        answer(ReadResults(number, tuple(answers)))

    def _answer(self, size: int, response: Response) -> None:
        self._requests -= 1
        self._bytes -= size
        self._send(response)

    def _send(self, response: Response) -> None:
        head = encode_response(response)
        if len(head) > MAX_FRAME_BYTES:
            too_large = f"the answer has {len(head)} bytes, more than a frame's {MAX_FRAME_BYTES}"
            if isinstance(response, GroupResults):
                error: DEngineError = OutcomeUnknownError(f"the write took effect, but {too_large}")
            else:
                error = InvalidRequestError(too_large)
            head = encode_response(_failure(response.request, error))
        self._connection.send(encode_frame(FrameKind.RESPONSE, head))


def _failure(number: int, error: DEngineError) -> Failure:
    return Failure(number, error.code, str(error))


def _group_response(number: int, outcome: GroupOutcome) -> Response:
    if outcome.error is not None:
        return _failure(number, outcome.error)
    return GroupResults(number, outcome.revision, tuple(outcome.results))


def _session_response(number: int, outcome: GroupOutcome) -> Response:
    if outcome.error is not None:
        return _failure(number, outcome.error)
    return SessionOpened(number, outcome.revision)


def _managed(
    number: int, answer: Callable[[Response], None], document: bytes, error: DEngineError | None
) -> None:
    answer(Managed(number, document) if error is None else _failure(number, error))
