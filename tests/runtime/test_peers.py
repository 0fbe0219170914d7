"""Members on real sockets: who talks to whom, what is told, and what a broken connection costs."""

import asyncio
import socket
import struct
from pathlib import Path
from typing import cast

import pytest

from d_engine.format.entry import Entry, EntryKind
from d_engine.format.frames import FrameKind, decode_frame, encode_frame
from d_engine.format.hello import Channel, Greeting, Hello, Refusal, decode_greeting, encode_greeting
from d_engine.format.messages import AppendRequest, Forward, encode_message
from d_engine.replica import peering
from d_engine.replica.peering import SEND_LIMITS, SILENCE_MESSAGES
from d_engine.runtime.connection import SILENCE_MS
from tests.runtime.conftest import Run
from tests.runtime.nodes import CLUSTER, Node, connected, heartbeat, until


def append(index: int, size: int) -> AppendRequest:
    entry = Entry.create(EntryKind.COMMANDS, 1, index, 5, (b"x" * size,), 0)
    return AppendRequest(1, index - 1, 1 if index > 1 else 0, 0, (entry,))


def test_three_members_exchange_messages_in_order(run: Run) -> None:
    async def scenario() -> None:
        nodes = [await Node(number).start() for number in (1, 2, 3)]
        await connected(*nodes)
        for number in range(1, 201):
            for node in nodes:
                for other in nodes:
                    if other is not node:
                        node.network.send(other.node_id, Channel.CONTROL, heartbeat(number))
                        node.network.send(other.node_id, Channel.DATA, append(number, number * 100))
        await until(lambda: all(len(node.received) == 800 for node in nodes))
        for node in nodes:
            for other in nodes:
                if other is not node:
                    got = [message for sender, message in node.received if sender == other.node_id]
                    assert [m for m in got if isinstance(m, AppendRequest)] == [
                        append(number, number * 100) for number in range(1, 201)
                    ]
                    assert [m for m in got if not isinstance(m, AppendRequest)] == [
                        heartbeat(number) for number in range(1, 201)
                    ]
            assert node.batches < 400
            assert sorted(node.events) == [("connected", o.node_id) for o in nodes if o is not node]
        for node in nodes:
            node.stop()
        await asyncio.sleep(0)

    run(scenario())


def test_unix_sockets(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        first = await Node(1).start(f"unix:{tmp_path}/one")
        second = await Node(2).start(f"unix:{tmp_path}/two")
        assert (tmp_path / "one").stat().st_mode & 0o777 == 0o600
        await connected(first, second)
        first.network.send(2, Channel.DATA, Forward((b"x" * 3_000_000,)))
        await until(lambda: second.received)
        assert second.received == [(1, Forward((b"x" * 3_000_000,)))]
        first.stop()
        second.stop()
        assert not (tmp_path / "one").exists()

    run(scenario())


class Stranger:
    """A member made of bare streams: it greets, and the test decides what else it does."""

    def __init__(self, node_id: int) -> None:
        self.node_id = node_id
        self.greeting: Greeting = Hello(Channel.DATA, CLUSTER, node_id, 1)
        self.streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter, Hello]] = []
        self.address = ""
        self._server: asyncio.Server | None = None

    async def start(self) -> "Stranger":
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"
        return self

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
        for _, writer, _ in self.streams:
            writer.transport.abort()
        await asyncio.sleep(0)

    def stop_reading(self) -> None:
        for _, writer, _ in self.streams:
            cast(asyncio.Transport, writer.transport).pause_reading()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readexactly(16)
        body = await reader.readexactly(struct.unpack_from("<I", head, 4)[0])
        hello = decode_greeting(decode_frame(head + body).head)
        assert isinstance(hello, Hello)
        mine = self.greeting
        if isinstance(mine, Hello):
            mine = Hello(hello.channel, mine.cluster_id, mine.node_id, mine.incarnation)
        writer.write(b"".join(encode_frame(FrameKind.HELLO, encode_greeting(mine))))
        self.streams.append((reader, writer, hello))


def reset(writer: asyncio.StreamWriter) -> None:
    """End with an RST instead of a FIN."""
    sock = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


def test_reconnects_after_a_reset_in_the_middle_of_a_frame(run: Run) -> None:
    async def scenario() -> None:
        node, stranger = await Node(1).start(), await Stranger(2).start()
        node.network.set_peers({2: stranger.address})

        async def break_it(number: int) -> None:
            await until(
                lambda: node.network.connected_to(2) and node.network.connected_to(2, Channel.CONTROL)
            )
            message = b"".join(encode_frame(FrameKind.PEER, encode_message(heartbeat(number))[0]))
            for _, writer, hello in stranger.streams:
                if hello.channel is Channel.DATA:
                    writer.write(message + message[:-3])
            await until(lambda: (2, heartbeat(number)) in node.received)
            streams, stranger.streams = stranger.streams, []
            for _, writer, _ in streams:
                reset(writer)
            await until(lambda: node.events.count(("lost", 2)) == number)

        for number in range(1, 6):
            await break_it(number)
        assert len(node.received) == 5
        assert node.events == [("connected", 2), ("lost", 2)] * 5
        node.stop()
        await stranger.stop()

    run(scenario())


def test_queue_to_a_member_that_does_not_read_is_bounded(run: Run) -> None:
    async def scenario() -> None:
        node, stranger = await Node(1).start(), await Stranger(2).start()
        node.network.set_peers({2: stranger.address})
        await until(lambda: node.network.connected_to(2) and node.network.connected_to(2, Channel.CONTROL))
        stranger.stop_reading()
        peak = 0
        for number in range(1, 101):
            node.network.send(2, Channel.DATA, append(number, 1_000_000))
            await asyncio.sleep(0)
            peak = max(peak, node.network.queued_bytes(2))
        limit = SEND_LIMITS[Channel.DATA]
        assert limit // 2 < peak <= limit
        for number in range(20_000):
            node.network.send(2, Channel.CONTROL, heartbeat(number))
        assert node.network.queued_bytes(2) <= limit + SEND_LIMITS[Channel.CONTROL]
        node.stop()
        await stranger.stop()

    run(scenario())


def test_a_member_that_answers_nothing_is_dialled_anew(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peering, "SILENCE", 0)

    async def scenario() -> None:
        node, stranger = await Node(1).start(), await Stranger(2).start()
        node.network.set_peers({2: stranger.address})
        await until(lambda: len(stranger.streams) == 2)
        number = 0
        while len(stranger.streams) < 4:
            number += 1
            node.network.send(2, Channel.CONTROL, heartbeat(number))
            await asyncio.sleep(0.001)
        assert number > SILENCE_MESSAGES
        await until(lambda: node.events == [("connected", 2), ("lost", 2), ("connected", 2)])
        node.stop()
        await stranger.stop()

    run(scenario())


def test_a_refusal_is_reported_and_dialling_goes_on(run: Run) -> None:
    async def scenario() -> None:
        node, stranger = await Node(1).start(), await Stranger(2).start()
        stranger.greeting = Refusal("not_member", "who are you?")
        node.network.set_peers({2: stranger.address})
        await until(lambda: len(node.refusals) >= 4)
        assert set(node.refusals) == {(2, Refusal("not_member", "who are you?"))}
        assert not node.events
        stranger.greeting = Hello(Channel.DATA, CLUSTER, 2, 1)
        await until(lambda: node.events == [("connected", 2)])
        node.stop()
        await stranger.stop()

    run(scenario())


@pytest.mark.parametrize(
    "answer", [Hello(Channel.DATA, CLUSTER, 3, 1), Hello(Channel.DATA, CLUSTER + 1, 2, 1)]
)
def test_who_answers_must_be_who_is_expected(run: Run, answer: Hello) -> None:
    async def scenario() -> None:
        node, stranger = await Node(1).start(), await Stranger(2).start()
        stranger.greeting = answer
        node.network.set_peers({2: stranger.address})
        await until(lambda: len(stranger.streams) >= 2)
        reader = stranger.streams[0][0]
        head = await reader.readexactly(16)
        body = await reader.readexactly(struct.unpack_from("<I", head, 4)[0])
        assert isinstance(decode_greeting(decode_frame(head + body).head), Refusal)
        assert await reader.read() == b""
        assert not node.events
        assert not node.refusals
        node.stop()
        await stranger.stop()

    run(scenario())


def test_one_side_that_can_dial_is_enough(run: Run) -> None:
    async def scenario() -> None:
        first, second = await Node(1).start(), await Node(2).start()
        first.network.set_peers({2: second.address})
        await until(lambda: second.events == [("connected", 1)] and first.events == [("connected", 2)])
        await until(lambda: second.network.connected_to(1, Channel.CONTROL))
        second.network.send(1, Channel.DATA, heartbeat(1))
        second.network.send(1, Channel.CONTROL, heartbeat(2))
        await until(lambda: len(first.received) == 2)
        first.network.set_peers({})
        await until(lambda: second.events == [("connected", 1), ("lost", 1)])
        await until(lambda: first.events == [("connected", 2), ("lost", 2)])
        second.network.send(1, Channel.DATA, heartbeat(3))
        first.network.send(2, Channel.DATA, heartbeat(4))
        assert not second.received
        first.stop()
        second.stop()

    run(scenario())


def test_the_other_connection_takes_over(run: Run) -> None:
    async def scenario() -> None:
        first, second = await Node(1).start(), await Node(2).start()
        await connected(first, second)
        await until(lambda: first.listener.connections == second.listener.connections == 2)
        first.network.set_peers({2: "127.0.0.1:1"})
        await until(lambda: first.network.connected_to(2) and second.network.connected_to(1))
        first.network.send(2, Channel.DATA, heartbeat(1))
        await until(lambda: second.received == [(1, heartbeat(1))])
        assert first.events in ([("connected", 2)], [("connected", 2), ("lost", 2), ("connected", 2)])
        first.stop()
        second.stop()

    run(scenario())


def test_disconnect_loses_what_was_queued_and_comes_back(run: Run) -> None:
    async def scenario() -> None:
        first, second = await Node(1).start(), await Node(2).start()
        await connected(first, second)
        first.network.send(2, Channel.DATA, heartbeat(1))
        first.network.disconnect(2)
        assert not first.network.connected_to(2)
        first.network.send(2, Channel.DATA, heartbeat(2))
        assert first.events == [("connected", 2)]
        await until(lambda: first.events == [("connected", 2), ("lost", 2), ("connected", 2)])
        first.network.send(2, Channel.DATA, heartbeat(3))
        await until(lambda: second.received)
        assert second.received == [(1, heartbeat(3))]
        first.network.disconnect(99)
        first.stop()
        second.stop()

    run(scenario())


def test_a_member_that_moved_is_dialled_at_its_new_address(run: Run) -> None:
    async def scenario() -> None:
        first, second = await Node(1).start(), await Node(2).start()
        first.network.set_peers({2: second.address})
        await until(lambda: first.events == [("connected", 2)])
        second.stop()
        moved = await Node(2).start()
        first.network.set_peers({2: moved.address})
        await until(lambda: first.events == [("connected", 2), ("lost", 2), ("connected", 2)])
        first.network.send(2, Channel.DATA, heartbeat(1))
        await until(lambda: moved.received)
        first.stop()
        moved.stop()

    run(scenario())


def test_the_newest_connection_of_a_member_replaces_the_one_before(run: Run) -> None:
    async def scenario() -> None:
        node = await Node(1).start()
        host, port = node.address.rsplit(":", 1)
        said = b"".join(encode_frame(FrameKind.HELLO, encode_greeting(Hello(Channel.DATA, CLUSTER, 2, 1))))
        before, writer_before = await asyncio.open_connection(host, int(port))
        writer_before.write(said)
        await until(lambda: node.events == [("connected", 2)])
        after, writer_after = await asyncio.open_connection(host, int(port))
        writer_after.write(said)
        await until(lambda: node.events == [("connected", 2), ("lost", 2), ("connected", 2)])
        await before.read()
        node.network.send(2, Channel.DATA, heartbeat(1))
        assert len(await after.readexactly(40)) == 40
        await until(lambda: node.listener.connections == 1)
        for writer in (writer_before, writer_after):
            writer.close()
        node.stop()

    run(scenario())


def test_two_data_directories_never_speak_under_one_number_at_a_time(run: Run) -> None:
    """The replica knows one incarnation of a member: the one that was admitted last."""

    async def scenario() -> None:
        node, second = await Node(1).start(), await Node(2).start()
        node.network.set_peers({2: second.address})
        await until(
            lambda: node.events == [("connected", 2)] and node.network.connected_to(2, Channel.CONTROL)
        )
        node.events.clear()
        host, port = node.address.rsplit(":", 1)
        reader, writer = await asyncio.open_connection(host, int(port))
        other = Hello(Channel.DATA, CLUSTER, 2, 5)
        writer.write(b"".join(encode_frame(FrameKind.HELLO, encode_greeting(other))))
        await until(lambda: node.events[:2] == [("lost", 2), ("connected", 2)])
        # Dialling goes on, and whoever answers replaces this one in turn.
        await reader.read()
        await until(lambda: node.network.connected_to(2, Channel.CONTROL) and node.network.connected_to(2))
        writer.close()
        node.stop()
        second.stop()

    run(scenario())


def test_closed_network_tells_nothing(run: Run) -> None:
    async def scenario() -> None:
        first, second = await Node(1).start(), await Node(2).start()
        await connected(first, second)
        first.stop()
        await until(lambda: ("lost", 1) in second.events)
        assert first.events == [("connected", 2)]
        second.stop()

    run(scenario())


@pytest.mark.slow
def test_the_kernel_gives_up_a_member_that_takes_nothing(run: Run) -> None:
    async def scenario() -> None:
        node, stranger = await Node(1).start(), await Stranger(2).start()
        node.network.set_peers({2: stranger.address})
        await until(lambda: len(stranger.streams) == 2 and node.network.connected_to(2))
        stranger.stop_reading()
        for number in range(1, 17):
            node.network.send(2, Channel.DATA, append(number, 1_000_000))
        await until(lambda: ("lost", 2) in node.events, seconds=SILENCE_MS / 1000 * 6)
        node.stop()
        await stranger.stop()

    run(scenario())
