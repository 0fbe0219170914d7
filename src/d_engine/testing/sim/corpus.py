"""The corpus: every seed that ever failed, to be run for ever.

Lines are `profile seed [nodes]`; `#` begins a comment.
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class CorpusEntry:
    """One seed that failed once. `nodes` is None for what the seed draws."""

    profile: str
    seed: int
    nodes: int | None = None


def read_corpus(path: Path) -> tuple[CorpusEntry, ...]:
    """All entries. Raises `ValueError` for a line that is none."""
    found: list[CorpusEntry] = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        words = line.partition("#")[0].split()
        if not words:
            continue
        if len(words) not in (2, 3):
            raise ValueError(f"{path}, line {number}: expected `profile seed [nodes]`, found {line!r}")
        found.append(CorpusEntry(words[0], int(words[1]), int(words[2]) if len(words) == 3 else None))
    return tuple(found)
