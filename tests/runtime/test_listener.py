"""Where one may listen, who is let in, and what a full house looks like."""

import asyncio
import socket
from pathlib import Path

import pytest

from d_engine.format.errors import AddressInUseError, ConfigError, ListenError, UnavailableError
from d_engine.format.frames import FrameKind, encode_frame
from d_engine.format.hello import Channel, Hello, Refusal
from d_engine.runtime.connection import Connection
from d_engine.runtime.greeting import dial
from tests.runtime.conftest import Run
from tests.runtime.manual_loop import Recorder
from tests.runtime.nodes import CLUSTER, Node, until


class Guest:
    """A client that dials."""

    def __init__(self) -> None:
        self.recorder = Recorder()
        self.hello: Hello | None = None
        self.connection: Connection | None = None

    async def dial(self, node: Node, cluster: int = CLUSTER) -> "Guest | Refusal":
        hello = Hello(Channel.CLIENT, cluster, 0, 0)
        outcome = await dial(node.address, hello, lambda hello: None, self._established)
        return outcome if isinstance(outcome, Refusal) else self

    def _established(self, connection: Connection, hello: Hello) -> None:
        connection.establish(self.recorder, 1_000_000)
        self.connection, self.hello = connection, hello


def test_client_is_greeted_and_served(run: Run) -> None:
    async def scenario() -> None:
        node, guest = await Node(1).start(), Guest()
        assert await guest.dial(node) is guest
        assert guest.hello == node.hello(Channel.CLIENT)
        assert guest.connection is not None
        guest.connection.send(encode_frame(FrameKind.REQUEST, b"x"))
        await until(lambda: node.clients and node.clients[0].frames == 1)
        node.clients[0].connection.send(encode_frame(FrameKind.RESPONSE, b"y"))
        await until(lambda: guest.recorder.batches == [[b"y"]])
        guest.connection.close()
        await until(lambda: node.clients[0].closed == [None] and node.listener.connections == 0)
        assert guest.recorder.closed == [None]
        node.stop()

    run(scenario())


def test_client_that_insists_on_another_cluster_is_refused(run: Run) -> None:
    async def scenario() -> None:
        node, guest = await Node(1).start(), Guest()
        assert await guest.dial(node, CLUSTER + 1) == Refusal(
            "cluster_id_mismatch", f"this is cluster {CLUSTER}"
        )
        assert not node.clients
        await until(lambda: node.listener.connections == 0)
        node.stop()

    run(scenario())


def test_port_in_use_is_named(run: Run) -> None:
    async def scenario() -> None:
        node = await Node(1).start()
        with pytest.raises(AddressInUseError, match=node.address):
            await Node(2).start(node.address)
        node.stop()

    run(scenario())


def test_port_is_free_again_at_once(run: Run) -> None:
    async def scenario() -> None:
        node, guest = await Node(1).start(), Guest()
        await guest.dial(node)
        node.stop()
        await until(lambda: node.listener.connections == 0)
        again = await Node(1).start(node.address)
        assert again.address == node.address
        again.stop()
        await until(lambda: guest.recorder.closed)

    run(scenario())


@pytest.mark.parametrize(
    "address", ["no.such.host.invalid:7000", "192.0.2.1:7000", "unix:/no/such/place/socket"]
)
def test_address_that_cannot_be_used_is_named(run: Run, address: str) -> None:
    async def scenario() -> None:
        with pytest.raises(ListenError, match=address):
            await Node(1, insecure_listen=True).start(address)

    run(scenario())


def test_only_loopback_unless_allowed(run: Run) -> None:
    async def scenario() -> None:
        with pytest.raises(ListenError, match=r"0\.0\.0\.0.*insecure_listen"):
            await Node(1).start("0.0.0.0:0")
        node = await Node(1, insecure_listen=True).start("0.0.0.0:0")
        local = await Node(2).start("localhost:0")
        node.stop()
        local.stop()

    run(scenario())


def test_bad_address(run: Run) -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigError):
            await Node(1).start("nonsense")

    run(scenario())


def test_socket_file_left_behind_is_replaced_but_not_one_in_use(run: Run, tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "socket"
        with socket.socket(socket.AF_UNIX) as stale:
            stale.bind(str(path))
        node = await Node(1).start(f"unix:{path}")
        with pytest.raises(AddressInUseError, match=str(path)):
            await Node(2).start(f"unix:{path}")
        node.stop()
        path.write_text("precious")
        with pytest.raises(AddressInUseError):
            await Node(2).start(f"unix:{path}")
        assert path.read_text() == "precious"

    run(scenario())


def test_clients_leave_room_for_members(run: Run) -> None:
    async def scenario() -> None:
        node, other = await Node(1, max_connections=8).start(), await Node(2).start()
        guests = [Guest() for _ in range(6)]
        outcomes = [await guest.dial(node) for guest in guests]
        assert [isinstance(outcome, Guest) for outcome in outcomes] == [True] * 4 + [False] * 2
        assert isinstance(outcomes[-1], Refusal)
        assert outcomes[-1].code == "overloaded"
        other.network.set_peers({1: node.address})
        await until(lambda: node.events == [("connected", 2)])
        for guest in guests:
            if guest.connection is not None:
                guest.connection.close()
        node.stop()
        other.stop()

    run(scenario())


def test_connection_limit_counts_those_who_say_nothing(run: Run) -> None:
    async def scenario() -> None:
        node = await Node(1, max_connections=4).start()
        host, port = node.address.rsplit(":", 1)
        streams = [await asyncio.open_connection(host, int(port)) for _ in range(4)]
        await until(lambda: node.listener.connections == 4)
        with pytest.raises(UnavailableError):
            await Guest().dial(node)
        for _, writer in streams:
            writer.close()
        await until(lambda: node.listener.connections == 0)
        guest = Guest()
        assert await guest.dial(node) is guest
        node.stop()
        await until(lambda: guest.recorder.closed)

    run(scenario())


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no.such.host.invalid:7000", "unix:/no/such/socket"])
def test_dialling_nobody(run: Run, address: str) -> None:
    async def scenario() -> None:
        node = Node(1)
        node.address = address
        with pytest.raises(UnavailableError, match=address):
            await Guest().dial(node)

    run(scenario())
