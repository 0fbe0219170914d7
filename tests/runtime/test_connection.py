"""A connection's rules of time and memory, with time and the kernel in the test's hand."""

import pytest

from d_engine.format.errors import MalformedError, OverloadedError, UnavailableError
from d_engine.format.frames import Frame, FrameKind, encode_frame
from d_engine.runtime.connection import (
    GREETING_SECONDS,
    LINGER_SECONDS,
    PROGRESS_BYTES,
    PROGRESS_SECONDS,
    Connection,
)
from tests.runtime.manual_loop import ManualLoop, ManualTransport, Recorder

LIMIT = 10_000


class Scene:
    """A connection between a manual loop and a manual transport."""

    def __init__(self, *, established: bool = True, lossy: bool = False) -> None:
        self.loop = ManualLoop()
        self.recorder = Recorder()
        self.transport = ManualTransport()
        self.connection = Connection(self.loop.loop, self.recorder)
        self.connection.connection_made(self.transport)
        if established:
            self.connection.establish(self.recorder, LIMIT, lossy)

    def arrive(self, data: bytes) -> None:
        while data:
            buffer = self.connection.get_buffer(-1)
            count = min(len(buffer), len(data))
            buffer[:count] = data[:count]
            self.connection.buffer_updated(count)
            data = data[count:]

    def block(self, unread: int) -> None:
        """The kernel takes no more."""
        self.transport.unread = unread
        self.connection.pause_writing()

    def unblock(self) -> None:
        self.transport.unread = 0
        self.connection.resume_writing()

    def lose(self, error: Exception | None = None) -> None:
        self.connection.connection_lost(error)


def frame(head: bytes, tail: bytes = b"") -> bytes:
    return b"".join(encode_frame(FrameKind.REQUEST, head, [tail] if tail else []))


# --- reading ---------------------------------------------------------------------------------------------------------


def test_frames_come_in_batches_but_alone_while_greeting() -> None:
    scene = Scene(established=False)
    scene.arrive(frame(b"1") + frame(b"2"))
    assert scene.recorder.batches == [[b"1"], [b"2"]]
    scene.connection.establish(scene.recorder, LIMIT)
    scene.arrive(frame(b"3") + frame(b"4"))
    assert scene.recorder.batches[2:] == [[b"3", b"4"]]


def test_greeting_must_end() -> None:
    scene = Scene(established=False)
    scene.arrive(frame(b"1")[:-1])
    scene.loop.sleep(GREETING_SECONDS - 0.1)
    assert scene.transport.closed == ""
    scene.loop.sleep(0.2)
    assert scene.transport.closed == "aborted"
    scene.lose()
    assert isinstance(scene.recorder.closed[0], MalformedError)


def test_greeting_that_ended_has_no_limit_of_time() -> None:
    scene = Scene()
    scene.loop.sleep(1000)
    assert not scene.transport.closed
    assert scene.loop.timers == 0


def test_frame_must_go_on() -> None:
    scene = Scene()
    scene.arrive(frame(b"x" * 1000)[:500])
    scene.loop.sleep(PROGRESS_SECONDS - 0.1)
    scene.arrive(b"x")
    scene.loop.sleep(0.2)
    assert scene.transport.closed == "aborted"


def test_frame_that_goes_on_slowly_is_left_alone() -> None:
    scene = Scene()
    data = frame(b"x", b"y" * (PROGRESS_BYTES * 20))
    scene.arrive(data[:1000])
    for begin in range(1000, len(data), PROGRESS_BYTES):
        scene.loop.sleep(PROGRESS_SECONDS - 0.1)
        scene.arrive(data[begin : begin + PROGRESS_BYTES])
    scene.loop.sleep(1000)
    assert not scene.transport.closed
    assert scene.recorder.batches == [[b"x"]]
    assert scene.loop.timers == 0


def test_another_frame_is_another_matter() -> None:
    scene = Scene()
    data = frame(b"1234")
    scene.arrive(data[:-1])
    scene.loop.sleep(PROGRESS_SECONDS - 0.1)
    scene.arrive(data[-1:] + data[:-1])
    scene.loop.sleep(0.2)
    scene.arrive(data[-1:])
    scene.loop.sleep(1000)
    assert not scene.transport.closed


def test_own_stall_is_not_the_other_sides_fault() -> None:
    for scene in (Scene(established=False), Scene()):
        scene.arrive(frame(b"1")[:-1])
        scene.loop.stall(60)
        assert not scene.transport.closed
        scene.loop.sleep(PROGRESS_SECONDS)
        assert scene.transport.closed


def test_malformed_input_closes_with_its_reason() -> None:
    scene = Scene()
    scene.arrive(frame(b"1") + b"?" * 16)
    assert scene.recorder.batches == [[b"1"]]
    assert scene.transport.closed == "aborted"
    scene.lose()
    assert isinstance(scene.recorder.closed[0], MalformedError)


def test_nothing_is_delivered_after_the_handler_closed() -> None:
    scene = Scene(established=False)

    class Closer(Recorder):
        def on_frames(self, frames: list[Frame]) -> None:
            scene.connection.close()

    scene.connection.handler = Closer()
    scene.arrive(frame(b"1") + frame(b"2"))
    scene.connection.handler = scene.recorder
    scene.arrive(frame(b"3"))
    assert scene.recorder.batches == []


# --- writing ---------------------------------------------------------------------------------------------------------


def test_one_write_a_turn() -> None:
    scene = Scene()
    for number in range(100):
        assert scene.connection.send([b"%02d" % number, b"."])
    assert scene.transport.writes == 0
    scene.loop.turn()
    assert scene.transport.writes == 1
    assert b"".join(scene.transport.written) == b"".join(b"%02d." % number for number in range(100))
    assert scene.connection.queued_bytes == 0


def test_large_parts_are_not_joined() -> None:
    scene = Scene(lossy=True)
    scene.connection.establish(scene.recorder, 1_000_000)
    scene.connection.send([b"head", bytes(100_000)])
    scene.loop.turn()
    assert [len(part) for part in scene.transport.written] == [4, 100_000]


def test_lossy_queue_drops_what_is_new() -> None:
    scene = Scene(lossy=True)
    scene.block(4000)
    assert scene.connection.send([b"a" * 6000])
    assert not scene.connection.send([b"b"])
    assert scene.connection.queued_bytes == LIMIT
    scene.unblock()
    assert scene.transport.written == [b"a" * 6000]
    assert scene.connection.send([b"c"])
    scene.loop.turn()
    assert scene.transport.written == [b"a" * 6000, b"c"]
    assert scene.transport.reading


def test_queue_that_is_not_lossy_stops_reading_instead() -> None:
    scene = Scene()
    scene.block(4000)
    assert scene.connection.send([b"a" * 6000])
    assert scene.transport.reading
    assert scene.connection.send([b"b"])
    assert scene.connection.congested
    assert not scene.transport.reading
    scene.unblock()
    assert scene.transport.reading
    assert b"".join(scene.transport.written) == b"a" * 6000 + b"b"


def test_reading_stops_when_the_kernel_refuses_a_large_write() -> None:
    scene = Scene()
    scene.connection.send([b"a" * 3 * LIMIT])
    scene.loop.turn()
    assert scene.transport.reading
    scene.block(3 * LIMIT)
    assert not scene.transport.reading


def test_far_beyond_the_limit_the_connection_ends() -> None:
    scene = Scene()
    scene.block(LIMIT)
    sent = 0
    while scene.connection.send([b"a" * 1000]):
        sent += 1000
    assert sent == 3 * LIMIT
    assert scene.transport.closed == "aborted"
    assert scene.connection.queued_bytes == 0
    scene.lose()
    assert isinstance(scene.recorder.closed[0], OverloadedError)


def test_a_single_frame_beyond_every_limit_is_sent() -> None:
    scene = Scene()
    assert scene.connection.send([b"a" * 10 * LIMIT])
    scene.loop.turn()
    assert scene.transport.written == [b"a" * 10 * LIMIT]


# --- ending ----------------------------------------------------------------------------------------------------------


def test_close_writes_what_is_queued_and_does_not_wait_for_ever() -> None:
    scene = Scene()
    scene.connection.send([b"last words"])
    scene.connection.close()
    assert scene.transport.written == [b"last words"]
    assert not scene.connection.send([b"more"])
    assert scene.transport.closed == "closed"
    scene.loop.sleep(LINGER_SECONDS)
    assert scene.transport.closed == "aborted"


def test_close_ends_the_linger_timer() -> None:
    scene = Scene()
    scene.connection.close()
    scene.lose()
    assert scene.loop.timers == 0
    assert scene.recorder.closed == [None]


def test_abort_before_the_connection_is_made() -> None:
    loop, recorder, transport = ManualLoop(), Recorder(), ManualTransport()
    connection = Connection(loop.loop, recorder)
    connection.abort()
    connection.connection_made(transport)
    assert transport.closed == "aborted"
    connection.connection_lost(None)
    assert recorder.closed == [None]
    assert loop.timers == 0


def test_a_broken_connection_says_why() -> None:
    scene = Scene()
    scene.lose(ConnectionResetError("reset"))
    assert isinstance(scene.recorder.closed[0], UnavailableError)
    assert "reset" in str(scene.recorder.closed[0])


@pytest.mark.parametrize("rest", [b"", frame(b"1")[:-1]])
def test_end_of_stream(rest: bytes) -> None:
    scene = Scene()
    scene.arrive(rest)
    assert scene.connection.eof_received() is False
    scene.lose()
    assert (scene.recorder.closed[0] is None) == (not rest)
