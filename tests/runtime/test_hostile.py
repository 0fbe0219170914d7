"""What a stranger or a mad member can send: the connection ends with a typed reason, and nothing else happens."""

import asyncio
import struct
from collections.abc import Awaitable, Callable

import pytest

from d_engine.format.errors import DEngineError, UnavailableError
from d_engine.format.frames import FrameKind, decode_frame, encode_frame
from d_engine.format.hello import Channel, Greeting, Hello, Refusal, decode_greeting, encode_greeting
from d_engine.format.messages import VoteRequest, encode_message
from d_engine.runtime import connection as connection_module
from tests.runtime.conftest import Run
from tests.runtime.nodes import CLUSTER, Node, connected, heartbeat, until


def frame(kind: FrameKind, head: bytes, tail: bytes = b"") -> bytes:
    return b"".join(encode_frame(kind, head, [tail] if tail else []))


def hello(node_id: int = 2, channel: Channel = Channel.DATA, cluster: int = CLUSTER) -> bytes:
    return frame(FrameKind.HELLO, encode_greeting(Hello(channel, cluster, node_id, 5)))


def header(magic: int = 0xDE51, version: int = 1, kind: int = 1, length: int = 0, head: int = 0) -> bytes:
    return struct.pack("<HBBII", magic, version, kind, length, head) + bytes(4)


class Raw:
    """A connection whose other side is a node, to write anything to."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    @classmethod
    async def open(cls, node: Node) -> "Raw":
        host, port = node.address.rsplit(":", 1)
        return cls(*await asyncio.open_connection(host, int(port)))

    async def rest(self) -> bytes:
        """Everything until the node closes."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""

    async def answer(self) -> Greeting:
        data = await self.reader.readexactly(16)
        length = struct.unpack_from("<I", data, 4)[0]
        return decode_greeting(decode_frame(data + await self.reader.readexactly(length)).head)


Attack = Callable[[Node, Raw], Awaitable[None]]


def attack(run: Run, scene: Attack) -> None:
    """Run the scene against node 1 and see to it that the node still serves, and has forgotten the attacker."""

    async def scenario() -> None:
        node, other = await Node(1).start(), await Node(3).start()
        raw = await Raw.open(node)
        await scene(node, raw)
        raw.writer.close()
        await connected(node, other)
        other.network.send(1, Channel.DATA, heartbeat(9))
        await until(lambda: (3, heartbeat(9)) in node.received)
        await until(lambda: node.listener.connections == 2)
        node.stop()
        other.stop()

    run(scenario())


@pytest.mark.parametrize(
    "bad",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        bytes(64),
        b"\xff" * 64,
        header(magic=1),
        header(version=2),
        header(kind=77),
        header(length=2**31),
        header(length=2**32 - 1),
        header(length=4097),
        header(length=5, head=6),
        frame(FrameKind.PEER, encode_message(heartbeat(1))[0]),
        frame(FrameKind.HELLO, b""),
        frame(FrameKind.HELLO, b"\x93\x01\x02\x03"),
        frame(FrameKind.HELLO, encode_greeting(Hello(Channel.DATA, CLUSTER, 2, 5)), b"tail"),
        frame(FrameKind.HELLO, encode_greeting(Refusal("x", "y"))),
        hello()[:-1] + b"\x00",
        hello(node_id=0),
        hello(node_id=1),
        hello(cluster=CLUSTER + 1),
    ],
    ids=lambda bad: bad[:12].hex(),
)
def test_bad_hello(run: Run, bad: bytes) -> None:
    async def scene(node: Node, raw: Raw) -> None:
        raw.writer.write(bad + hello())
        answered = await raw.rest()
        assert not node.received
        assert not node.events
        if answered:
            greeting = decode_greeting(decode_frame(answered).head)
            assert isinstance(greeting, Refusal)

    attack(run, scene)


def test_other_cluster_is_told_why(run: Run) -> None:
    async def scene(node: Node, raw: Raw) -> None:
        raw.writer.write(hello(cluster=5))
        assert await raw.answer() == Refusal("cluster_id_mismatch", f"this is cluster {CLUSTER}")
        assert await raw.rest() == b""

    attack(run, scene)


@pytest.mark.parametrize(
    "bad",
    [
        bytes(16),
        b"garbage",
        header(version=9),
        header(kind=2, length=2**31),
        header(kind=2, length=2**32 - 1),
        frame(FrameKind.PEER, b""),
        frame(FrameKind.PEER, b"\x92\x05"),
        frame(FrameKind.PEER, b"\x91" * 4000),
        frame(FrameKind.PEER, encode_message(heartbeat(1))[0], b"tail"),
        frame(FrameKind.PEER, encode_message(VoteRequest(2**64 - 1, 0, 0, False, False))[0]),
        frame(FrameKind.PEER, encode_message(VoteRequest(1, 2**64 - 1, 0, False, False))[0]),
        frame(FrameKind.PEER, b"\x94\x05\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00\x01\x01\x01"),
        frame(FrameKind.REQUEST, encode_message(heartbeat(1))[0]),
        frame(FrameKind.HELLO, encode_greeting(Hello(Channel.DATA, CLUSTER, 3, 5))),
        frame(FrameKind.PEER, encode_message(heartbeat(1))[0])[:-1] + b"\x7f",
    ],
    ids=lambda bad: bad[:20].hex(),
)
def test_bad_frame_from_a_member(run: Run, bad: bytes) -> None:
    async def scene(node: Node, raw: Raw) -> None:
        raw.writer.write(hello())
        assert isinstance(await raw.answer(), Hello)
        good = frame(FrameKind.PEER, encode_message(heartbeat(4))[0])
        raw.writer.write(good + bad.ljust(16, b"\x00") + good)
        assert await raw.rest() == b""
        await until(lambda: node.events == [("connected", 2), ("lost", 2)])
        assert node.received == [(2, heartbeat(4))]

    attack(run, scene)


def test_a_member_speaks_as_itself_and_is_refused_later_by_a_refusal(run: Run) -> None:
    async def scene(node: Node, raw: Raw) -> None:
        raw.writer.write(hello())
        assert isinstance(await raw.answer(), Hello)
        raw.writer.write(frame(FrameKind.HELLO, encode_greeting(Refusal("not_member", "go away"))))
        assert await raw.rest() == b""
        assert node.refusals == [(2, Refusal("not_member", "go away"))]

    attack(run, scene)


@pytest.mark.parametrize("said", [b"", hello()[:5], hello()[:-1]], ids=["nothing", "header", "all but one"])
def test_slow_hello(run: Run, said: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "GREETING_SECONDS", 0.05)

    async def scene(node: Node, raw: Raw) -> None:
        raw.writer.write(said)
        assert await raw.rest() == b""

    attack(run, scene)


def test_end_in_the_middle_of_a_frame_has_a_reason(run: Run) -> None:
    reasons: list[DEngineError | None] = []

    async def scene(node: Node, raw: Raw) -> None:
        raw.writer.write(hello(node_id=0, channel=Channel.CLIENT))
        assert isinstance(await raw.answer(), Hello)
        raw.writer.write(frame(FrameKind.REQUEST, b"x" * 1000)[:-1])
        raw.writer.write_eof()
        assert await raw.rest() == b""
        reasons.extend(node.clients[0].closed)

    attack(run, scene)
    assert isinstance(reasons[0], UnavailableError)
    assert "middle of a frame" in str(reasons[0])
