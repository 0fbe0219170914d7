"""Sessions of a web application: they end by themselves, and every server sees the same ones.

    python examples/session_store.py

A session is a key with a TTL. Whoever comes back in time gets all of it again (`touch`); what is changed in between
changes nothing about the end (`keep_lease=True`). Nothing has to be cleaned up: the cluster does that, never early,
also when its leader changes.
"""

import asyncio
import json
import secrets
import tempfile
from typing import Any

from d_engine import Client, EmbeddedEngine

TTL_SECONDS = 0.5


class Sessions:
    """All sessions, by token."""

    def __init__(self, client: Client, ttl: float) -> None:
        self._client = client
        self._ttl = ttl

    async def login(self, user: str) -> str:
        token = secrets.token_urlsafe()
        await self._client.put(f"session/{token}", json.dumps({"user": user}), ttl=self._ttl)
        return token

    async def get(self, token: str) -> dict[str, Any] | None:
        value = await self._client.get(f"session/{token}")
        return None if value is None else dict(json.loads(value))

    async def touch(self, token: str) -> bool:
        """The user is still there: the session lives its whole time from now on. False if it is over."""
        entry = await self._client.get_entry(f"session/{token}")
        return entry is not None and (await self._client.keep_alive(entry.lease))[0]

    async def set(self, token: str, name: str, value: object) -> bool:
        """Remember something. That does not make the session longer. False if it is over, or somebody was faster."""
        key = f"session/{token}"
        before = await self._client.get(key)
        if before is None:
            return False
        after = json.dumps({**json.loads(before), name: value})
        return await self._client.compare_and_swap(key, before, after, keep_lease=True)

    async def logout(self, token: str) -> None:
        await self._client.delete(f"session/{token}")

    async def count(self) -> int:
        return (await self._client.count(prefix="session/")).count


async def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with EmbeddedEngine(f"{folder}/data") as engine:
            sessions = Sessions(engine.client, TTL_SECONDS)
            anna, ben = await sessions.login("anna"), await sessions.login("ben")
            assert await sessions.set(anna, "basket", ["apples"])
            print(f"{await sessions.count()} sessions; anna's: {await sessions.get(anna)}")

            # Anna stays, Ben goes away without a word.
            while await sessions.get(ben) is not None:
                assert await sessions.touch(anna)
                await asyncio.sleep(TTL_SECONDS / 10)
            print(f"ben's is over; anna's: {await sessions.get(anna)}")

            assert not await sessions.touch(ben)
            await sessions.logout(anna)
            print(f"{await sessions.count()} sessions")


if __name__ == "__main__":
    asyncio.run(main())
