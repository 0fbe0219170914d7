"""Members with a misbehaving line between them; and the proof that the proxy does what its users rely on."""

import asyncio

import pytest

from d_engine.format.hello import Channel
from d_engine.format.messages import Forward
from d_engine.replica import peering
from d_engine.replica.settings import MILLISECOND, SECOND
from tests.runtime.conftest import Run
from tests.runtime.nodes import Node, heartbeat, until
from tests.system.proxy import Direction, FaultProxy


class Scene:
    """Node 1 dials node 2 through a proxy; node 2 dials nobody."""

    def __init__(self) -> None:
        self.first: Node
        self.second: Node
        self.proxy: FaultProxy

    async def start(self) -> "Scene":
        self.first, self.second = await Node(1).start(), await Node(2).start()
        self.proxy = FaultProxy(self.second.address).start()
        self.first.network.set_peers({2: self.proxy.address})
        await self.up()
        return self

    async def up(self) -> None:
        await until(
            lambda: all(
                node.network.connected_to(other, channel)
                for node, other in ((self.first, 2), (self.second, 1))
                for channel in (Channel.CONTROL, Channel.DATA)
            )
        )

    async def exchange(self, number: int) -> None:
        """Send until it arrives, there and back: what is in flight when a line breaks is lost."""
        for sender, receiver in ((self.first, self.second), (self.second, self.first)):
            async with asyncio.timeout(10):
                while (sender.node_id, heartbeat(number)) not in receiver.received:
                    sender.network.send(receiver.node_id, Channel.DATA, heartbeat(number))
                    await asyncio.sleep(0.002)

    def stop(self) -> None:
        self.first.stop()
        self.second.stop()
        self.proxy.stop()


@pytest.fixture(autouse=True)
def no_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is never found out unless a test says so."""
    monkeypatch.setattr(peering, "SILENCE", 1000 * SECOND)


def test_reset_and_cut(run: Run) -> None:
    async def scenario() -> None:
        scene = await Scene().start()
        await scene.exchange(1)
        assert scene.proxy.connections == 2
        scene.proxy.reset()
        await until(lambda: ("lost", 2) in scene.first.events and ("lost", 1) in scene.second.events)
        await scene.up()
        await scene.exchange(2)
        scene.proxy.cut()
        await until(lambda: scene.first.events.count(("lost", 2)) == 2)
        await until(lambda: scene.second.events.count(("lost", 1)) == 2)
        assert scene.proxy.connections == 0
        scene.proxy.heal()
        await scene.up()
        await scene.exchange(3)
        scene.stop()

    run(scenario())


def test_stalled_line_keeps_everything(run: Run) -> None:
    async def scenario() -> None:
        scene = await Scene().start()
        scene.proxy.stall()
        for number in range(100):
            scene.first.network.send(2, Channel.DATA, heartbeat(number))
        passed = scene.proxy.passed
        await until(lambda: scene.first.network.queued_bytes(2) == 0)
        assert scene.proxy.passed == passed
        assert not scene.second.received
        scene.proxy.heal()
        await until(lambda: len(scene.second.received) == 100)
        assert scene.second.received == [(1, heartbeat(number)) for number in range(100)]
        scene.stop()

    run(scenario())


def test_half_open_line_is_given_up_when_nothing_comes_back(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(peering, "SILENCE", 20 * MILLISECOND)

    async def scenario() -> None:
        scene = await Scene().start()
        scene.proxy.half_open()
        number = 0
        async with asyncio.timeout(10):
            while ("lost", 2) not in scene.first.events:
                number += 1
                scene.first.network.send(2, Channel.CONTROL, heartbeat(number))
                await asyncio.sleep(0.002)
        assert not scene.second.received
        scene.proxy.heal()
        await scene.up()
        await scene.exchange(1)
        scene.stop()

    run(scenario())


def test_half_open_stream_breaks_when_it_is_healed(run: Run) -> None:
    async def scenario() -> None:
        scene = await Scene().start()
        scene.proxy.half_open((Direction.THERE,))
        scene.first.network.send(2, Channel.DATA, heartbeat(1))
        scene.second.network.send(1, Channel.DATA, heartbeat(2))
        await until(lambda: scene.first.received == [(2, heartbeat(2))])
        assert not scene.second.received
        scene.proxy.heal()
        await until(lambda: ("lost", 2) in scene.first.events)
        await scene.up()
        await scene.exchange(3)
        scene.stop()

    run(scenario())


def test_delayed_line_keeps_the_order(run: Run) -> None:
    async def scenario() -> None:
        scene = await Scene().start()
        scene.proxy.delay(0.05)
        begin = asyncio.get_running_loop().time()
        for number in range(50):
            scene.first.network.send(2, Channel.DATA, heartbeat(number))
            await asyncio.sleep(0)
        await until(lambda: len(scene.second.received) == 50)
        assert asyncio.get_running_loop().time() - begin >= 0.05
        assert scene.second.received == [(1, heartbeat(number)) for number in range(50)]
        scene.stop()

    run(scenario())


def test_dripping_line(run: Run) -> None:
    async def scenario() -> None:
        scene = await Scene().start()
        scene.proxy.drip(100)
        message = Forward((b"x" * 1_000_000,))
        passed = scene.proxy.passed[Direction.THERE]
        scene.first.network.send(2, Channel.DATA, message)
        await until(lambda: scene.proxy.passed[Direction.THERE] > passed)
        assert not scene.second.received
        scene.proxy.heal()
        await until(lambda: scene.second.received == [(1, message)])
        scene.stop()

    run(scenario())
