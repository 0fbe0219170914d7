"""A file as a disk and a page cache see it: what a crash may leave of writes that were not synced.

Content is what a process reads: the cache. Behind it stands what is on the platter. The two differ in pages that were
written since the last sync; for those the platter's version is kept aside.

* A process that is killed loses nothing that was written: the next one reads the cache.
* A machine that loses power loses the cache. Of each unsynced write the platter has nothing, all, some sectors, or a
  beginning of any length, whatever order they were made in. A sector that no synced byte shares may hold anything.
* After a sync that failed the cache holds the new content and believes it to be on the platter. It is not, and no later
  sync puts it there, unless the page is written again. (That is what Linux does since the discovery of "fsyncgate".)
"""

from collections.abc import Callable
from enum import Enum
from random import Random

PAGE_BYTES = 4096
SECTOR_BYTES = 512


class Survival(Enum):
    """What power loss does to unsynced writes."""

    NOTHING = "nothing"
    EVERYTHING = "everything"
    PREFIX = "prefix"
    """The first writes, and of the next one its first bytes."""
    SECTORS = "sectors"
    """Each sector of each write, or not."""
    GARBAGE = "garbage"
    """As SECTORS, and some sectors that hold no synced byte are zeros or somebody else's."""


SURVIVALS = tuple(Survival)


class PagedFile:
    """One inode. `size` and content are the cache's."""

    __slots__ = (
        "_ghosts",
        "_platter",
        "_platter_size",
        "_writes",
        "allocated",
        "content",
        "damaged",
        "settled",
    )

    def __init__(self, size: int) -> None:
        """A file of zeros that are on the platter."""
        self.content = bytearray(size)
        self.damaged = False
        """Synced bytes were changed behind everybody's back."""
        self.settled = 0
        """Where the last batch of writes begins: what is before it was synced, and something else was after it."""
        self.allocated = size
        """Up to here blocks were given to the file; writing behind it needs room, though it may be within the size."""
        self._platter_size = size
        self._platter: dict[int, bytes] = {}
        self._ghosts: dict[int, bytes] = {}
        self._writes: list[tuple[int, bytes]] = []

    @property
    def dirty(self) -> bool:
        """True if power loss could change something."""
        return bool(self._platter or self._ghosts) or self._platter_size != len(self.content)

    def write(self, offset: int, data: bytes) -> None:
        """Into the cache."""
        content = self.content
        end = offset + len(data)
        self.allocated = max(self.allocated, end)
        if end > len(content):
            content.extend(bytes(end - len(content)))
        for page in range(offset // PAGE_BYTES, -(-end // PAGE_BYTES)):
            if page not in self._platter:
                old = self._ghosts.pop(page, None)
                self._platter[page] = (
                    bytes(content[page * PAGE_BYTES : (page + 1) * PAGE_BYTES]) if old is None else old
                )
        content[offset:end] = data
        self._writes.append((offset, data))

    def truncate(self, size: int) -> None:
        """Cut or extend with zeros, in the cache."""
        content = self.content
        if size > len(content):
            content.extend(bytes(size - len(content)))
        else:
            for page in range(size // PAGE_BYTES, -(-len(content) // PAGE_BYTES)):
                if page not in self._platter:
                    old = self._ghosts.pop(page, None)
                    whole = bytes(content[page * PAGE_BYTES : (page + 1) * PAGE_BYTES])
                    self._platter[page] = whole if old is None else old
            del content[size:]
            self.allocated = min(self.allocated, size)
            self._writes = [(offset, data[: size - offset]) for offset, data in self._writes if offset < size]

    def sync(self) -> None:
        """The platter has it."""
        self.settled = min((offset for offset, _ in self._writes), default=self.settled)
        self._forget_cache()

    def sync_failed(self) -> None:
        """The platter does not have it, the cache forgets that."""
        self._ghosts.update(self._platter)
        self._platter.clear()
        self._writes.clear()

    def lose_power(self, survival: Survival, rng: Random) -> None:
        """Afterwards the cache holds what the platter does."""
        if not self.dirty:
            return
        written = self.content
        size = self._platter_size if rng.random() < 0.5 else len(written)
        image = bytearray(written[:size])
        image.extend(bytes(size - len(image)))
        for page, old in sorted((self._ghosts | self._platter).items()):
            start = page * PAGE_BYTES
            if start < size:
                piece = old[: size - start].ljust(min(PAGE_BYTES, size - start), b"\0")
                image[start : start + len(piece)] = piece
        if survival is Survival.EVERYTHING:
            _survive(image, self._writes, lambda: True)
        elif survival is Survival.PREFIX and self._writes:
            kept = rng.randrange(len(self._writes))
            offset, data = self._writes[kept]
            torn = (offset, data[: rng.randrange(len(data) + 1)])
            _survive(image, [*self._writes[:kept], torn], lambda: True)
        elif survival in (Survival.SECTORS, Survival.GARBAGE):
            _survive(image, self._writes, lambda: rng.random() < 0.5)
            if survival is Survival.GARBAGE:
                self._spoil(image, rng)
        self.content = image
        self._ghosts.clear()
        # Nothing is settled by that: what was synced last may be what stands last again.
        self._forget_cache()

    def _forget_cache(self) -> None:
        """The cache and the platter are the same."""
        self._platter.clear()
        self._writes.clear()
        self._platter_size = len(self.content)

    def _spoil(self, image: bytearray, rng: Random) -> None:
        for offset, data in self._writes:
            first, last = -(-offset // SECTOR_BYTES), (offset + len(data)) // SECTOR_BYTES
            for sector in range(first, last):
                start = sector * SECTOR_BYTES
                if start + SECTOR_BYTES <= len(image) and self._is_fresh(start) and rng.random() < 0.2:
                    other = rng.randrange(first, last) * SECTOR_BYTES
                    source = (
                        bytes(SECTOR_BYTES)
                        if rng.random() < 0.5
                        else bytes(image[other : other + SECTOR_BYTES])
                    )
                    image[start : start + SECTOR_BYTES] = source.ljust(SECTOR_BYTES, b"\0")

    def _is_fresh(self, start: int) -> bool:
        """Whether the platter never held anything but zeros in the sector that begins there."""
        page, place = divmod(start, PAGE_BYTES)
        old = self._platter.get(page, self._ghosts.get(page, b""))
        return not any(old[place : place + SECTOR_BYTES])

    def flip_bit(self, position: int, bit: int) -> None:
        """Bit rot, on the platter and therefore in whatever reads it."""
        self.damaged = True
        self.content[position] ^= 1 << bit
        page = position // PAGE_BYTES
        for pages in (self._platter, self._ghosts):
            if page in pages and position % PAGE_BYTES < len(pages[page]):
                rotten = bytearray(pages[page])
                rotten[position % PAGE_BYTES] ^= 1 << bit
                pages[page] = bytes(rotten)


def _survive(image: bytearray, writes: list[tuple[int, bytes]], survives: Callable[[], bool]) -> None:
    """Apply the writes, sector by sector, as far as they survive and the file reaches."""
    for offset, data in writes:
        position, end = offset, min(offset + len(data), len(image))
        while position < end:
            following = min(end, (position // SECTOR_BYTES + 1) * SECTOR_BYTES)
            if survives():
                image[position:following] = data[position - offset : following - offset]
            position = following
