"""The part of the `Client` interface that is about watches."""

from abc import ABC, abstractmethod
from collections.abc import Sequence

from d_engine.client.operations import Text
from d_engine.client.watch import StateWatch, Watch
from d_engine.kv.events import EventKind


class WatchApi(ABC):
    """Inherited by `Client`, which says what errors every method may raise."""

    @abstractmethod
    def watch(
        self,
        key: Text | None = None,
        *,
        prefix: Text | None = None,
        start: Text | None = None,
        end: Text | None = None,
        since: int | None = None,
        kinds: Sequence[EventKind] = ("put", "delete"),
        previous: bool = False,
        progress: bool = False,
        timeout: float | None = None,
    ) -> Watch:
        """Watch `key`, all keys that begin with `prefix`, or those from `start` up to but without `end` (nothing: all
        keys), on the node that is asked, whichever that is. To be entered with `async with`.

        Iterating gives one `WatchBatch` for each revision that concerns the watch: all its events of a transaction
        together. They come in order, none is missing and none comes twice, whatever happens to nodes, leaders and
        connections; a client that cannot keep that promise raises.

        `since`: what happened behind this revision comes first, from the node's history; 0 is the beginning. A revision
        in the future is waited for. Without it the watch begins at the state of the node, which may be a little behind
        the leader's. `kinds`: only "put", or only "delete". `previous`: each event has the entry that was replaced or
        removed. `progress`: batches without events say how far the watch is true, every 10 s and when asked.
        `timeout`: for entering it.

        Entering raises `CompactedError` if what happened behind `since` is not kept any more (`oldest` is the lowest
        revision that would do), `WatchLimitError` if there are too many watches. Iterating raises `WatchLaggedError` if
        the events were taken so slowly that the history has passed by, and `CompactedError` if nobody has what is
        missing after a break. What to do then: `snapshot_then_watch`.

        Example::

            async with client.watch(prefix="service/") as watch:
                await client.put("service/a", "10.0.0.1:80")
                async for batch in watch:
                    assert batch.events[0].value == b"10.0.0.1:80"
                    break
        """

    @abstractmethod
    def snapshot_then_watch(
        self,
        prefix: Text = b"",
        *,
        previous: bool = False,
        progress: bool = False,
        timeout: float | None = None,
    ) -> StateWatch:
        """The state of all keys that begin with `prefix`, at one revision, and every change after it: nothing is missed
        between the two. Entering it reads the state into `items`; the state must fit into memory. Otherwise as `watch`.

        Example::

            async with client.snapshot_then_watch("config/") as watch:
                settings = {entry.key: entry.value for entry in watch.items}
                await client.put("config/colour", "green")
                async for event in watch.events():
                    settings[event.key] = event.value
                    break
                assert settings[b"config/colour"] == b"green"
        """
