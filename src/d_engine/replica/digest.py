"""The rolling digest: what a replica has done, in sixteen bytes (architecture, section 11).

Each applied entry is hashed into it once: its index, its checksum, the state machine's revision behind it, and what
each of its groups came to. Two replicas with the same digest at the same index have applied the same entries from the
first one on, and every command had the same result on both. It is part of a snapshot, so that a node that is restored
goes on with it.

What no command returned is not in it: a value that rots in memory shows when a comparison or a write depends on it.
"""

import struct
from collections.abc import Sequence
from hashlib import blake2b

from d_engine.format.entry import Entry

DIGEST_BYTES = 16
NOTHING = bytes(DIGEST_BYTES)
"""The digest of a state to which nothing was applied."""
_PLACE = struct.Struct("<QIQ")


def roll(digest: bytes, entry: Entry, revision: int, outcomes: Sequence[bytes]) -> bytes:
    """The digest behind an entry that came to these outcomes; `digest` is the one before it."""
    place = _PLACE.pack(entry.index, entry.checksum, revision)
    return blake2b(b"".join((digest, place, *outcomes)), digest_size=DIGEST_BYTES).digest()
