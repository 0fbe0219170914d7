"""A disk that is soon full: a small file system in memory, with ballast that can be thrown overboard."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

_MEBIBYTE = 1 << 20


class SmallDisk:
    """A mounted tmpfs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._ballast = path / "ballast"

    @property
    def free_bytes(self) -> int:
        """What can still be written."""
        state = os.statvfs(self.path)
        return state.f_bavail * state.f_frsize

    def load(self, leave_bytes: int = 0) -> None:
        """Fill it up but for so many bytes."""
        with self._ballast.open("ab") as file:
            file.write(bytes(max(self.free_bytes - leave_bytes, 0)))

    def unload(self) -> None:
        """Give back what `load` took."""
        self._ballast.unlink(missing_ok=True)

    def remount(self, option: str) -> None:
        """ "ro" or "rw"."""
        subprocess.run(["mount", "-o", f"remount,{option}", str(self.path)], check=True)


@contextmanager
def small_disk(path: Path, mebibytes: int) -> Iterator[SmallDisk]:
    """Mount one at `path`; skips, and says why, where that is not allowed."""
    path.mkdir(parents=True)
    options = ["-t", "tmpfs", "-o", f"size={mebibytes * _MEBIBYTE}", "tmpfs", str(path)]
    mounted = subprocess.run(["mount", *options], capture_output=True, text=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no file system can be mounted here (needs root): {mounted.stderr.strip()}")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
