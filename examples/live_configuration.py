"""Live configuration: a service that follows its settings while somebody changes them.

It reads all settings at one revision and then gets every change after it. Settings that belong together are changed by
one transaction, and come in one batch, so the service never runs with half of a change.

    python examples/live_configuration.py
"""

import asyncio
import tempfile

import d_engine
from d_engine import Delete, Put

PREFIX = "config/"


class Service:
    """Does its work with the settings of this moment."""

    def __init__(self) -> None:
        self.settings: dict[str, str] = {}
        self.revision = 0

    async def follow(self, client: d_engine.Client, ready: asyncio.Event) -> None:
        """Take the settings over, and each change, until there is a setting `stop`."""
        async with client.snapshot_then_watch(PREFIX) as watch:
            self.settings = {entry.key.decode(): entry.value.decode() for entry in watch.items}
            self.revision = watch.snapshot_revision
            self.report()
            ready.set()
            async for batch in watch:
                for event in batch.events:
                    if event.value is None:
                        self.settings.pop(event.key.decode(), None)
                    else:
                        self.settings[event.key.decode()] = event.value.decode()
                self.revision = batch.revision
                self.report()
                if PREFIX + "stop" in self.settings:
                    return

    def report(self) -> None:
        """Show what it runs with."""
        shown = ", ".join(
            f"{key.removeprefix(PREFIX)}={value}" for key, value in sorted(self.settings.items())
        )
        print(f"revision {self.revision}: {shown}")


async def main() -> None:
    """A node in this process, a service, and an operator."""
    with tempfile.TemporaryDirectory() as directory:
        async with d_engine.EmbeddedEngine(directory) as engine:
            client = engine.client
            await client.put(PREFIX + "host", "10.0.0.1")
            await client.put(PREFIX + "port", "80")
            ready = asyncio.Event()
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(Service().follow(client, ready))
                await ready.wait()
                await client.put("elsewhere", "concerns nobody here")
                await client.txn(then=[Put(PREFIX + "host", "10.0.0.2"), Put(PREFIX + "port", "8080")])
                await client.txn(then=[Delete(PREFIX + "port"), Put(PREFIX + "stop", "yes")])


if __name__ == "__main__":
    asyncio.run(main())
