"""Chance from one seed, split so that one subsystem's draws do not move another's.

Each subsystem asks for a generator under a path of names. What the generator draws depends on the seed and that path
alone: not on who else draws, not on `PYTHONHASHSEED`. So taking one fault out of a run leaves the others as they were,
which is what makes shrinking work.
"""

from hashlib import blake2b
from random import Random

_SEED_BYTES = 16


def split(seed: int, *path: str | int) -> Random:
    """The generator of the subsystem that `path` names."""
    text = "/".join(map(str, (seed, *path)))
    return Random(int.from_bytes(blake2b(text.encode(), digest_size=_SEED_BYTES).digest(), "little"))


def between(rng: Random, low: int, high: int) -> int:
    """An integer from `low` to `high`, with as many draws in each order of magnitude: small values are as likely to be
    tried as large ones."""
    if low >= high:
        return low
    shift = 1 - low
    ratio = float(high + shift) / (low + shift)
    return int((low + shift) * ratio ** rng.random()) - shift
