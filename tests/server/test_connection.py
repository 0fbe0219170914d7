"""The server side of a client's connection, without sockets: frames in, frames out."""

from collections.abc import Callable, Sequence
from typing import cast

import pytest

from d_engine.format.errors import DEngineError, DiskFullError, MalformedError, NoLeaderError
from d_engine.format.frames import Frame, FrameKind, decode_frame, encode_frame
from d_engine.format.limits import BATCH_BYTES, MAX_FRAME_BYTES
from d_engine.format.requests import (
    LINEARIZABLE,
    Failure,
    GroupResults,
    Manage,
    Managed,
    OpenSession,
    ReadBatch,
    ReadResults,
    Request,
    Response,
    SessionOpened,
    WriteGroup,
    decode_response,
    encode_request,
)
from d_engine.replica.outcome import GroupDone, GroupOutcome, ReadDone
from d_engine.runtime.connection import Connection
from d_engine.server.connection import (
    MAX_REQUEST_BYTES,
    MAX_REQUESTS,
    MAX_TIMEOUT_MS,
    ClientHandler,
    DocumentDone,
)
from tests.replica.watching import Node


class FakeConnection:
    remote = "somebody"
    congested = False

    def __init__(self) -> None:
        self.responses: list[Response] = []

    def send(self, parts: Sequence[bytes]) -> bool:
        frame = decode_frame(b"".join(parts))
        assert frame.kind is FrameKind.RESPONSE
        self.responses.append(decode_response(frame.head))
        return True


class FakeBackend:
    """Keeps every `done`; answers queries with themselves."""

    def __init__(self) -> None:
        self.groups: list[GroupDone] = []
        self.reads: list[ReadDone] = []
        self.documents: list[DocumentDone] = []
        self.timeouts: list[int] = []
        self.error: DEngineError | None = None
        self.watches = Node().watches
        self.query: Callable[[bytes], bytes] = lambda request: request

    def _note(self, timeout: int) -> None:
        self.timeouts.append(timeout)
        if self.error is not None:
            raise self.error

    def open_session(self, timeout: int, done: GroupDone, /) -> None:
        self._note(timeout)
        self.groups.append(done)

    def propose(self, group: bytes, timeout: int, done: GroupDone, /) -> None:
        self._note(timeout)
        self.groups.append(done)

    def read(self, policy: int, min_revision: int, timeout: int, count: int, done: ReadDone, /) -> None:
        self._note(timeout)
        self.reads.append(done)

    def manage(self, operation: str, arguments: bytes, timeout: int, done: DocumentDone, /) -> None:
        self._note(timeout)
        self.documents.append(done)


class Setup:
    def __init__(self) -> None:
        self.connection = FakeConnection()
        self.backend = FakeBackend()
        self.handler = ClientHandler(cast(Connection, self.connection), self.backend)

    @property
    def responses(self) -> list[Response]:
        return self.connection.responses

    def ask(self, *requests: Request) -> None:
        self.handler.on_frames([frame_of(encode_request(request)) for request in requests])


def frame_of(head: bytes, kind: FrameKind = FrameKind.REQUEST, tail: Sequence[bytes] = ()) -> Frame:
    return decode_frame(b"".join(encode_frame(kind, head, tail)))


@pytest.fixture(name="setup")
def make_setup() -> Setup:
    return Setup()


def test_each_request_gets_its_answer_in_whatever_order_they_come(setup: Setup) -> None:
    setup.ask(
        OpenSession(1, 1000),
        WriteGroup(2, 1000, b"group"),
        ReadBatch(3, 1000, LINEARIZABLE, 0, (b"a", b"b")),
        Manage(4, 1000, "status", b"{}"),
    )
    assert not setup.responses
    backend = setup.backend
    backend.documents[0](b"{}", None)
    backend.reads[0](None)
    backend.groups[1](GroupOutcome([b"x", b"y"], 7, None))
    backend.groups[0](GroupOutcome((), 55, None))
    assert setup.responses == [
        Managed(4, b"{}"),
        ReadResults(3, (b"a", b"b")),
        GroupResults(2, 7, (b"x", b"y")),
        SessionOpened(1, 55),
    ]
    assert backend.timeouts == [1_000_000_000] * 4


def test_errors_keep_their_code_whether_raised_or_told(setup: Setup) -> None:
    requests = (
        OpenSession(1, 0),
        WriteGroup(2, 0, b""),
        ReadBatch(3, 0, LINEARIZABLE, 0, ()),
        Manage(4, 0, "leader", b""),
    )
    setup.ask(*requests)
    for done in setup.backend.groups:
        done(GroupOutcome((), 0, DiskFullError("full")))
    setup.backend.reads[0](DiskFullError("full"))
    setup.backend.documents[0](b"", DiskFullError("full"))
    setup.backend.error = NoLeaderError("nobody")
    setup.ask(*requests)
    assert setup.responses == [Failure(number, "disk_full", "full") for number in range(1, 5)] + [
        Failure(number, "no_leader", "nobody") for number in range(1, 5)
    ]


def test_what_is_no_request_closes_the_connection(setup: Setup) -> None:
    good = encode_request(OpenSession(1, 0))
    for frame in (
        frame_of(b"nonsense"),
        frame_of(good, FrameKind.RESPONSE),
        frame_of(good, FrameKind.PEER),
        frame_of(good, tail=[b"tail"]),
    ):
        with pytest.raises(MalformedError):
            setup.handler.on_frames([frame])


def test_requests_under_way_are_limited(setup: Setup) -> None:
    setup.ask(*(Manage(number, 0, "leader", b"") for number in range(MAX_REQUESTS + 1)))
    (refused,) = setup.responses
    assert isinstance(refused, Failure)
    assert (refused.request, refused.code) == (MAX_REQUESTS, "overloaded")
    setup.backend.documents[0](b"", None)
    setup.ask(Manage(9999, 0, "leader", b""))
    assert len(setup.backend.documents) == MAX_REQUESTS + 1


def test_bytes_under_way_are_limited(setup: Setup) -> None:
    large = bytes(MAX_REQUEST_BYTES // 8)
    for number in range(8):
        setup.ask(WriteGroup(number, 0, large))
    (refused,) = setup.responses
    assert isinstance(refused, Failure)
    assert (refused.request, refused.code) == (7, "overloaded")
    setup.backend.groups[0](GroupOutcome((), 1, None))
    setup.ask(WriteGroup(8, 0, large))
    assert len(setup.backend.groups) == 8


def test_time_outs_are_limited(setup: Setup) -> None:
    setup.ask(OpenSession(1, 2**63 - 1))
    assert setup.backend.timeouts == [MAX_TIMEOUT_MS * 1_000_000]


def test_large_answers_come_in_parts(setup: Setup) -> None:
    setup.backend.query = lambda request: bytes(BATCH_BYTES // 2)
    setup.ask(ReadBatch(1, 0, LINEARIZABLE, 0, (b"",) * 5))
    setup.backend.reads[0](None)
    (response,) = setup.responses
    assert isinstance(response, ReadResults)
    assert len(response.answers) == 2


def test_who_does_not_take_answers_gets_no_more_of_them(setup: Setup) -> None:
    setup.connection.congested = True
    setup.ask(ReadBatch(1, 0, LINEARIZABLE, 0, (b"x",)))
    setup.backend.reads[0](None)
    assert setup.responses == [ReadResults(1, ())]


def test_an_answer_that_fits_no_frame_is_an_error(setup: Setup) -> None:
    setup.backend.query = lambda request: bytes(MAX_FRAME_BYTES)
    setup.ask(ReadBatch(1, 0, LINEARIZABLE, 0, (b"",)), WriteGroup(2, 0, b""))
    setup.backend.reads[0](None)
    setup.backend.groups[0](GroupOutcome([bytes(MAX_FRAME_BYTES)], 1, None))
    read, write = setup.responses
    assert isinstance(read, Failure)
    assert isinstance(write, Failure)
    assert (read.code, write.code) == ("invalid_request", "outcome_unknown")


def test_a_state_machine_that_fails_on_a_query_does_not_end_the_node(
    setup: Setup, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(request: bytes) -> bytes:
        raise KeyError("broken")

    setup.backend.query = broken
    setup.ask(ReadBatch(1, 0, LINEARIZABLE, 0, (b"",)))
    setup.backend.reads[0](None)
    (response,) = setup.responses
    assert isinstance(response, Failure)
    assert "KeyError" in response.text
    assert "failed to answer" in caplog.text
