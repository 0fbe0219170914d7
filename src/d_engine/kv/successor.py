"""Entries that are to become the store's, loaded a few at a time while the store goes on as it is."""

from collections.abc import Sequence

from d_engine.kv.key_value import KeyValue
from d_engine.kv.ordered import OrderedKeys
from d_engine.kv.shards import Shards


class Successor:
    """Shards and keys that nobody else sees yet."""

    __slots__ = ("keys", "shards")

    def __init__(self, entries: Sequence[KeyValue] = ()) -> None:
        self.shards = Shards()
        self.keys = OrderedKeys()
        self.load(entries)

    def load(self, entries: Sequence[KeyValue]) -> None:
        """More entries, in key order, behind those that are there."""
        load = self.shards.load
        for entry in entries:
            load(entry)
        self.keys.extend([entry.key for entry in entries])
