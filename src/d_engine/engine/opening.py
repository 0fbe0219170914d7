"""How far a node is that opens its data directory: hundreds of megabytes take seconds, and somebody waits for it."""

import logging
import time
from collections.abc import Callable

from d_engine.engine.config import EngineConfig

_log = logging.getLogger(__name__)
INTERVAL_SECONDS = 2.0
"""A line is logged so often."""
_MEBIBYTE_BITS = 20


class Opening:
    """Logs the beginning and the end, and in between, at most once in an interval, which file is being read."""

    def __init__(self, config: EngineConfig, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` tells seconds."""
        self._node_id = config.node.id
        self._clock = clock
        self._begin = clock()
        self._next = self._begin + INTERVAL_SECONDS
        _log.info("node %d opens %s", config.node.id, config.node.data_dir)

    def reading(self, name: str, offset: int, size: Callable[[str], int]) -> None:
        """A file is read at `offset`; `size` tells its size. To be called for every read."""
        now = self._clock()
        if now >= self._next:
            self._next = now + INTERVAL_SECONDS
            place, whole = offset >> _MEBIBYTE_BITS, size(name) >> _MEBIBYTE_BITS
            _log.info("node %d is opening: it reads %s, at %d of %d MiB", self._node_id, name, place, whole)

    def done(self) -> None:
        """All was read."""
        _log.info("node %d has opened its data, in %.1f s", self._node_id, self._clock() - self._begin)
