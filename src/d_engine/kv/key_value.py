"""What the store holds under a key: the public record that reads, scans and "previous value" answers return."""

from typing import Annotated

from msgspec import Meta, Struct

from d_engine.format.ids import MAX_U63

_Revision = Annotated[int, Meta(ge=1, le=MAX_U63)]


class KeyValue(Struct, frozen=True, array_like=True, forbid_unknown_fields=True, gc=False):
    """A key, its value, and where they stand in the history.

    `create_revision` is the revision that brought the key into being, `mod_revision` the last one that wrote it,
    `version` counts the writes since creation, from 1. A deleted key that is written again starts anew. `lease` is
    the id of the lease that the key hangs on, 0 for none.

    Example::

        entry = await client.get_entry("job/1")
        assert (entry.key, entry.value, entry.version, entry.lease) == (b"job/1", b"sweep", 1, 0)
        assert entry.create_revision == entry.mod_revision

    The store keeps exactly these objects: a read hands out the stored one. They hold nothing but bytes and integers,
    so the garbage collector need not look at them (`gc=False`), nor at the dicts that hold nothing else.
    """

    key: bytes
    value: bytes
    create_revision: _Revision
    mod_revision: _Revision
    version: _Revision
    lease: Annotated[int, Meta(ge=0, le=MAX_U63)] = 0
