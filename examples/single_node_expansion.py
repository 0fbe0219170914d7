"""One node grows to three, under load, without a pause and without losing a write.

    python examples/single_node_expansion.py

An application has begun with one embedded engine, which is a cluster of one. Two more nodes are started with nothing
but the address of the first. They join as learners, receive the log, and as soon as both have caught up the leader
makes them voters, both in one step. Then the first node is stopped, to show that it is not needed any more.

Here all three run in one process; on three machines each would be a process of its own, or
`d-engine serve --id 2 --data-dir d2 --listen HOST:PORT --join FIRST`.
"""

import asyncio
import tempfile
import time
from contextlib import AsyncExitStack
from pathlib import Path

from d_engine import EmbeddedEngine
from d_engine.engine.config import EngineConfig, load_config
from d_engine.testing.processes import free_ports

WRITERS = 20
SECONDS_BEFORE_AND_AFTER = 1.0


def configuration(folder: Path, node_id: int, address: str, join: str = "") -> EngineConfig:
    settings = {
        "node.id": str(node_id),
        "node.data_dir": str(folder / f"node{node_id}"),
        "cluster.listen": address,
    }
    return load_config(None, environ={}, overrides=settings | ({"cluster.join": join} if join else {}))


class Load:
    """Writers that never stop, and remember what was acknowledged."""

    def __init__(self, engine: EmbeddedEngine) -> None:
        self.engine = engine
        self.acknowledged: dict[str, bytes] = {}
        self.longest_pause = 0.0
        self._stop = False
        self._tasks = [asyncio.create_task(self._write(number)) for number in range(WRITERS)]

    async def _write(self, number: int) -> None:
        count = 0
        while not self._stop:
            count += 1
            key, value = f"writer {number}, write {count}", b"%d" % count
            began = time.perf_counter()
            await self.engine.client.put(key, value)
            self.longest_pause = max(self.longest_pause, time.perf_counter() - began)
            self.acknowledged[key] = value

    async def stop(self) -> None:
        self._stop = True
        await asyncio.gather(*self._tasks)


async def wait_for_voters(engine: EmbeddedEngine, voters: tuple[int, ...]) -> None:
    async for members in engine.watch_membership():
        if members is not None:
            print(f"  log index {members.index}: voters {members.voters}, learners {members.learners}")
            if members.voters == voters and not members.joint:
                return


async def check(engine: EmbeddedEngine, load: Load) -> None:
    for key, value in load.acknowledged.items():
        found = await engine.client.get(key)
        if found != value:
            raise SystemExit(f"{key}: acknowledged was {value!r}, found {found!r}")


async def grow(folder: Path) -> None:
    addresses = [f"127.0.0.1:{port}" for port in free_ports(3)]
    async with AsyncExitStack() as stack:
        first = await stack.enter_async_context(EmbeddedEngine(config=configuration(folder, 1, addresses[0])))
        load = Load(first)
        await asyncio.sleep(SECONDS_BEFORE_AND_AFTER)
        print(f"one node, {len(load.acknowledged)} writes; two more join:")
        watching = asyncio.create_task(wait_for_voters(first, (1, 2, 3)))
        others = [
            await stack.enter_async_context(
                EmbeddedEngine(config=configuration(folder, node_id, addresses[node_id - 1], addresses[0]))
            )
            for node_id in (2, 3)
        ]
        await asyncio.wait_for(watching, 60)
        await asyncio.sleep(SECONDS_BEFORE_AND_AFTER)
        await load.stop()
        print(f"three nodes, {len(load.acknowledged)} writes, none failed")
        print(f"the slowest write took {load.longest_pause * 1000:.0f} ms")

        await first.stop()
        await others[0].client.put("without the first node", "v")
        for engine in others:
            await check(engine, load)
        print("the first node is gone; every acknowledged write is there, on both others")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        asyncio.run(grow(Path(folder)))


if __name__ == "__main__":
    main()
