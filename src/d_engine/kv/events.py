"""Events: what a watcher is told about the store, one for each key that a revision wrote."""

from typing import Annotated, Literal, TypeAlias

from msgspec import Meta, Struct

from d_engine.format.ids import MAX_U63
from d_engine.kv.key_value import KeyValue

Cause: TypeAlias = Literal["put", "deleted", "expired"]
"""Why an event happened: the key was set; somebody deleted it; the lease that it hung on ran out."""

EventKind: TypeAlias = Literal["put", "delete"]

_Count = Annotated[int, Meta(ge=0, le=MAX_U63)]
_Revision = Annotated[int, Meta(ge=1, le=MAX_U63)]


class Removed(Struct, frozen=True, gc=False):
    """A key ceased to exist: what the history holds where a write has a `KeyValue`."""

    key: bytes
    mod_revision: int
    cause: Cause


Write: TypeAlias = tuple[KeyValue | Removed, KeyValue | None]
"""What a key became, and what it was before (None: it did not exist)."""


class Event(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """One key at one revision.

    A put has the new `value` with `create_revision`, `version` and `lease`, as in `KeyValue`. A delete has the value
    None and zeros. `previous` is the entry that was replaced or removed, if the watch asked for it: None then means
    that the key did not exist, which is never the same as an empty value.

    Example::

        settings = {}
        async with client.watch(prefix="config/") as watch:
            await client.put("config/colour", "green")
            await client.delete("config/colour")
            async for event in watch.events():
                if event.kind == "put":
                    settings[event.key] = event.value
                else:
                    del settings[event.key]
                    break
    """

    key: bytes
    value: bytes | None
    cause: Cause
    revision: _Revision
    create_revision: _Count = 0
    version: _Count = 0
    lease: _Count = 0
    previous: KeyValue | None = None

    @property
    def kind(self) -> EventKind:
        """ "put" or "delete"; `cause` tells deletes apart."""
        return "put" if self.cause == "put" else "delete"


def event_of(write: Write, previous: bool) -> Event:
    """The event of a write, with or without the entry before."""
    entry, before = write
    if not previous:
        before = None
    if isinstance(entry, Removed):
        return Event(entry.key, None, entry.cause, entry.mod_revision, 0, 0, 0, before)
    return Event(
        entry.key,
        entry.value,
        "put",
        entry.mod_revision,
        entry.create_revision,
        entry.version,
        entry.lease,
        before,
    )
