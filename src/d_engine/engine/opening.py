"""How far a node is that opens its data directory: hundreds of megabytes take seconds, a disk may hang, and somebody
waits for it. What the engine's thread is at is noted there, and logged from outside: that thread has no time.
"""

import asyncio
import logging
import time

from d_engine.engine.config import EngineConfig
from d_engine.storage.disk import DiskOperation

_log = logging.getLogger(__name__)
INTERVAL_SECONDS = 2.0
"""A line is logged so often."""
_MEBIBYTE_BITS = 20


class Opening:
    """One node's. The engine's thread calls what takes note, for every read and operation."""

    def __init__(self, config: EngineConfig) -> None:
        self._config = config
        self._at = "nothing is read yet"

    def reading(self, name: str, offset: int, size: int) -> None:
        """A file of `size` bytes is read at `offset`."""
        self._at = f"it reads {name}, at {offset >> _MEBIBYTE_BITS} of {size >> _MEBIBYTE_BITS} MiB"

    def performing(self, operation: DiskOperation) -> None:
        """Something is written, synced, removed..."""
        self._at = f"{type(operation).__name__} {getattr(operation, 'name', '')}".rstrip()

    async def watch(self, opened: asyncio.Future[None]) -> None:
        """Wait for it, and log how it goes: its beginning, from time to time where it is, and its end. Raises what it
        raises; cancelled, it cancels that."""
        node_id, begin = self._config.node.id, time.monotonic()
        _log.info("node %d opens %s", node_id, self._config.node.data_dir)
        try:
            while not (await asyncio.wait((opened,), timeout=INTERVAL_SECONDS))[0]:
                _log.info("node %d is opening, for %.0f s: %s", node_id, time.monotonic() - begin, self._at)
        except asyncio.CancelledError:
            opened.cancel()
            raise
        opened.result()
        _log.info("node %d has opened its data, in %.1f s", node_id, time.monotonic() - begin)
