"""Members on real sockets: who talks to whom, what is told, and what a broken connection costs."""

import asyncio
from pathlib import Path

from d_engine.format.entry import Entry, EntryKind
from d_engine.format.hello import Channel
from d_engine.format.messages import AppendRequest, Forward
from tests.runtime.conftest import Run
from tests.runtime.nodes import Node, connected, heartbeat, until


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
