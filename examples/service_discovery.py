"""Who is there? Services that register with a lease, and disappear when they crash.

    python examples/service_discovery.py

Each service is a process of its own. It registers its address under a key that hangs on a lease, which its client keeps
alive. If it ends in order the lease is given back, and the entry goes at once; if it is killed nobody keeps the lease
alive any more, and the entry goes when the TTL is over. Nobody has to notice the crash.
"""

import asyncio
import os
import signal
import sys
import tempfile

import d_engine
from d_engine import EmbeddedEngine, StateWatch
from d_engine.engine.config import load_config

PREFIX = "service/"
TTL_SECONDS = 1.0


async def serve(endpoints: str, name: str) -> None:
    """What runs in a service's process."""
    stopping = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.set)
    async with d_engine.connect(endpoints) as client, client.lease(TTL_SECONDS) as lease:
        await client.put(f"{PREFIX}{name}", f"pid {os.getpid()}", lease=lease)
        stopped, lost = asyncio.create_task(stopping.wait()), asyncio.create_task(lease.lost.wait())
        # Who has lost its lease is not registered any more, and must not go on as if it were.
        await asyncio.wait((stopped, lost), return_when=asyncio.FIRST_COMPLETED)


class Registry:
    """Who is registered, from a watch: nobody asks again and again."""

    def __init__(self, watch: StateWatch) -> None:
        self._watch = watch
        self._names = {_name(entry.key) for entry in watch.items}

    async def until(self, names: set[str]) -> None:
        """Follow the changes until exactly these are registered."""
        while self._names != names:
            batch = await anext(self._watch)
            for event in batch.events:
                if event.value is None:
                    self._names.discard(_name(event.key))
                    print(f"{_name(event.key)} is gone ({event.cause})")
                else:
                    self._names.add(_name(event.key))
        print("registered:", ", ".join(sorted(names)) or "nobody")


def _name(key: bytes) -> str:
    return key.decode().removeprefix(PREFIX)


async def start(endpoints: str, name: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(sys.executable, __file__, endpoints, name)


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        endpoints = f"unix:{folder}/socket"
        settings = {"node.data_dir": f"{folder}/data", "cluster.client_listen": endpoints}
        async with (
            EmbeddedEngine(config=load_config(None, environ={}, overrides=settings)) as engine,
            engine.client.snapshot_then_watch(PREFIX) as watch,
        ):
            await follow(Registry(watch), endpoints)


async def follow(registry: Registry, endpoints: str) -> None:
    """Services come and go."""
    processes = [await start(endpoints, name) for name in ("mail/1", "web/1", "web/2")]
    await registry.until({"mail/1", "web/1", "web/2"})

    processes[1].kill()
    print("web/1 is killed")
    await registry.until({"mail/1", "web/2"})

    processes[0].terminate()
    processes[2].terminate()
    print("the others are stopped")
    await registry.until(set())
    await asyncio.gather(*(process.wait() for process in processes))


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:]) if len(sys.argv) == 3 else main())
