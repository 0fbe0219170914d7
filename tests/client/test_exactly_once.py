"""Whatever happens to connections: no command is applied twice, and none that was acknowledged is missing."""

import asyncio
import random
from collections.abc import Callable
from functools import partial

import pytest
from hypothesis import HealthCheck, Phase, event, given, settings
from hypothesis import strategies as st

from d_engine.client import dialer
from d_engine.client.remote import RemoteClient, connect
from d_engine.format.errors import NotAppliedError, OutcomeUnknownError
from d_engine.kv.commands import encode_put
from d_engine.runtime.thread import new_loop
from tests.client.fake_cluster import FakeNode, start_nodes

TASKS = 8
WRITES = 12


class Trouble:
    """Decides for each answer: now, later, never, or not before the connections are cut."""

    def __init__(self, seed: int, nodes: list[FakeNode]) -> None:
        self.random = random.Random(seed)
        self.nodes = nodes
        self.on = True

    def attach(self) -> None:
        for node in self.nodes:
            node.answer = partial(self.answer, node)

    def answer(self, node: FakeNode, send: Callable[[], None]) -> None:
        draw = self.random.random()
        loop = asyncio.get_running_loop()
        if not self.on or draw < 0.6:
            send()
        elif draw < 0.85:
            loop.call_later(self.random.random() * 0.01, send)
        else:
            if draw < 0.93:
                send()
            loop.call_soon(node.drop)


async def write(client: RemoteClient, task: int, acknowledged: list[str], refused: list[str]) -> None:
    for number in range(WRITES):
        key = f"{task}-{number}"
        try:
            await client.put(key, key)
        except NotAppliedError:
            refused.append(key)
        except OutcomeUnknownError:
            continue
        else:
            acknowledged.append(key)


async def run(seed: int) -> int:
    """Returns how many groups came more than once."""
    nodes = await start_nodes(2)
    try:
        await write_under(Trouble(seed, nodes))
    finally:
        for node in nodes:
            node.stop()
    return nodes[0].state.copies - nodes[0].state.groups


async def write_under(trouble: Trouble) -> None:
    state = trouble.nodes[0].state
    acknowledged: list[str] = []
    refused: list[str] = []
    addresses = [node.address for node in trouble.nodes]
    async with connect(addresses, request_timeout=1.0) as client:
        trouble.attach()
        await asyncio.gather(*(write(client, task, acknowledged, refused) for task in range(TASKS)))
        trouble.on = False
        assert len(state.applied) == len(set(state.applied))
        applied = set(state.applied)
        assert {encode_put(key.encode(), key.encode()) for key in acknowledged} <= applied
        assert not {encode_put(key.encode(), key.encode()) for key in refused} & applied
        values = await client.get_multi(acknowledged)
        assert values == [key.encode() for key in acknowledged]
    assert acknowledged


@settings(
    max_examples=15,
    deadline=None,
    phases=(Phase.explicit, Phase.generate),  # a smaller seed is no simpler
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(seed=st.integers(0, 2**32))
def test_random_drops_never_apply_twice_and_never_lose(monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    monkeypatch.setattr(dialer, "BACKOFF_SECONDS", 0.001)
    monkeypatch.setattr(dialer, "BACKOFF_CAP_SECONDS", 0.01)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        repeated = runner.run(run(seed))
    event("groups were sent again" if repeated else "no group was sent again")
