"""Ranges of keys: from `start` up to but without `end`; `end` None: to the last key there is.

Keys are ordered as bytes. All keys that begin with a prefix are a range too, so nothing else needs to know prefixes.
"""


def prefix_end(prefix: bytes) -> bytes | None:
    """The end of the range of all keys that begin with `prefix` (which is its start)."""
    stem = prefix.rstrip(b"\xff")
    # Behind "a\xff\xff..." comes "b"; behind nothing but \xff comes nothing.
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None


def in_range(key: bytes, start: bytes, end: bytes | None) -> bool:
    """Whether the key lies in the range."""
    return start <= key and (end is None or key < end)


def overlap(start: bytes, end: bytes | None, other_start: bytes, other_end: bytes | None) -> bool:
    """Whether some key could lie in both ranges. An empty range overlaps none."""
    low = max(start, other_start)
    return (end is None or low < end) and (other_end is None or low < other_end)
