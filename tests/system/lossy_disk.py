"""A file system that loses power on demand: `python -m tests.system.lossy_disk MOUNTPOINT`.

Everything lives in the memory of this process, twice: as programs see it, and as a disk would hold it. fsync and
fdatasync carry a file's pages over, fsync of a directory carries its entries over. `mkdir MOUNTPOINT/.lose-power` puts
everything back to what the disk would hold; some of the pages that were not synced survive all the same, as they do on
a real disk, chosen by a seeded generator.
"""

import errno
import random
import stat
import sys
import time
from dataclasses import dataclass, field
from typing import Any

import mfusepy

PAGE = 4096
LOSE_POWER = ".lose-power"
_SURVIVAL = 0.3


@dataclass(eq=False)
class _File:
    seen: bytearray = field(default_factory=bytearray)
    held: bytearray = field(default_factory=bytearray)
    dirty: set[int] = field(default_factory=set)
    mode: int = stat.S_IFREG | 0o600

    def write(self, data: bytes, offset: int) -> None:
        end = offset + len(data)
        if end > len(self.seen):
            self.seen.extend(bytes(end - len(self.seen)))
        self.seen[offset:end] = data
        self.dirty.update(range(offset // PAGE, (end + PAGE - 1) // PAGE))

    def resize(self, size: int) -> None:
        before = len(self.seen)
        if size < before:
            del self.seen[size:]
        else:
            self.seen.extend(bytes(size - before))
        self.dirty.update(range(min(size, before) // PAGE, (max(size, before) + PAGE - 1) // PAGE))

    def sync(self) -> None:
        size = len(self.seen)
        del self.held[size:]
        self.held.extend(bytes(size - len(self.held)))
        for page in self.dirty:
            start = page * PAGE
            if start < size:
                self.held[start : start + PAGE] = self.seen[start : start + PAGE]
        self.dirty.clear()

    def lose_power(self, chance: random.Random) -> int:
        """Returns how many pages were lost."""
        lost = 0
        for page in sorted(self.dirty):
            start, end = page * PAGE, page * PAGE + PAGE
            if end <= len(self.held) and end <= len(self.seen) and chance.random() < _SURVIVAL:
                self.held[start:end] = self.seen[start:end]
            else:
                lost += 1
        self.seen = bytearray(self.held)
        self.dirty.clear()
        return lost


@dataclass(eq=False)
class _Directory:
    seen: dict[str, "_File | _Directory"] = field(default_factory=dict)
    held: dict[str, "_File | _Directory"] = field(default_factory=dict)


class LossyDisk(mfusepy.Operations):  # type: ignore[misc] # mfusepy has no types
    """The operations that a data directory needs."""

    def __init__(self, seed: int) -> None:
        self._root = _Directory()
        self._open: dict[int, _File] = {}
        self._handle = 0
        self._chance = random.Random(seed)

    def _lose_power(self, directory: _Directory) -> int:
        lost = sum(1 for name in directory.seen if name not in directory.held)
        directory.seen = dict(directory.held)
        for node in directory.seen.values():
            lost += self._lose_power(node) if isinstance(node, _Directory) else node.lose_power(self._chance)
        return lost

    def _find(self, path: str) -> "_File | _Directory":
        node: _File | _Directory = self._root
        for name in path.strip("/").split("/"):
            if not name:
                continue
            if not isinstance(node, _Directory) or name not in node.seen:
                raise mfusepy.FuseOSError(errno.ENOENT)
            node = node.seen[name]
        return node

    def _parent(self, path: str) -> tuple[_Directory, str]:
        folder, _, name = path.rpartition("/")
        parent = self._find(folder)
        if not isinstance(parent, _Directory):
            raise mfusepy.FuseOSError(errno.ENOTDIR)
        return parent, name

    def _file(self, path: str) -> _File:
        node = self._find(path)
        if not isinstance(node, _File):
            raise mfusepy.FuseOSError(errno.EISDIR)
        return node

    # --- what the kernel asks for ---

    def getattr(self, path: str, fh: int | None = None) -> dict[str, Any]:
        node = self._open[fh] if fh in self._open else self._find(path)
        now = time.time()
        times = {"st_atime": now, "st_mtime": now, "st_ctime": now}
        if isinstance(node, _Directory):
            return {"st_mode": stat.S_IFDIR | 0o700, "st_nlink": 2, **times}
        return {"st_mode": node.mode, "st_nlink": 1, "st_size": len(node.seen), **times}

    def readdir(self, path: str, fh: int) -> list[str]:
        node = self._find(path)
        if not isinstance(node, _Directory):
            raise mfusepy.FuseOSError(errno.ENOTDIR)
        return [".", "..", *node.seen]

    def mkdir(self, path: str, mode: int) -> int:
        parent, name = self._parent(path)
        if name == LOSE_POWER:
            print("lost", self._lose_power(self._root), flush=True)
            raise mfusepy.FuseOSError(errno.EEXIST)  # it is no directory that anybody could look at
        # Directories themselves are made durable at once: what is tested is what happens inside of them.
        parent.seen[name] = parent.held[name] = _Directory()
        return 0

    def create(self, path: str, mode: int, fi: Any = None) -> int:
        parent, name = self._parent(path)
        file = _File(mode=stat.S_IFREG | stat.S_IMODE(mode))
        parent.seen[name] = file
        return self._opened(file)

    def open(self, path: str, flags: int) -> int:
        return self._opened(self._file(path))

    def _opened(self, file: _File) -> int:
        self._handle += 1
        self._open[self._handle] = file
        return self._handle

    def release(self, path: str, fh: int) -> int:
        self._open.pop(fh, None)
        return 0

    def read(self, path: str, size: int, offset: int, fh: int) -> bytes:
        return bytes(self._open[fh].seen[offset : offset + size])

    def write(self, path: str, data: bytes, offset: int, fh: int) -> int:
        self._open[fh].write(data, offset)
        return len(data)

    def truncate(self, path: str, length: int, fh: int | None = None) -> int:
        (self._open[fh] if fh in self._open else self._file(path)).resize(length)
        return 0

    def fsync(self, path: str, datasync: int, fh: int) -> int:
        self._open[fh].sync()
        return 0

    def fsyncdir(self, path: str, datasync: int, fh: int) -> int:
        node = self._find(path)
        if isinstance(node, _Directory):
            node.held = dict(node.seen)
        return 0

    def rename(self, old: str, new: str) -> int:
        source, name = self._parent(old)
        target, other = self._parent(new)
        if name not in source.seen:
            raise mfusepy.FuseOSError(errno.ENOENT)
        target.seen[other] = source.seen.pop(name)
        return 0

    def unlink(self, path: str) -> int:
        parent, name = self._parent(path)
        if parent.seen.pop(name, None) is None:
            raise mfusepy.FuseOSError(errno.ENOENT)
        return 0

    def statfs(self, path: str) -> dict[str, int]:
        free = 1 << 20
        return {
            "f_bsize": PAGE,
            "f_frsize": PAGE,
            "f_blocks": 2 * free,
            "f_bfree": free,
            "f_bavail": free,
            "f_namemax": 255,
        }


def main() -> None:
    """Serve until unmounted."""
    mountpoint, seed = sys.argv[1], int(sys.argv[2])
    mfusepy.FUSE(
        LossyDisk(seed),
        mountpoint,
        foreground=True,
        nothreads=True,
        direct_io=True,
        attr_timeout=0,
        entry_timeout=0,
    )


if __name__ == "__main__":
    main()
