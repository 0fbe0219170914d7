"""Making the data directory on a node's first start."""

import os
from pathlib import Path

from d_engine.format.errors import DataDirectoryError


def make_data_directory(directory: str) -> None:
    """Create the directory, readable by its owner only, and see to it that it survives a loss of power. One that is
    there is left as it is. Raises `DataDirectoryError`."""
    path = Path(directory)
    missing = [folder for folder in (path, *path.absolute().parents) if not folder.exists()]
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder in missing:
            _sync_directory(folder.absolute().parent)
    except OSError as error:
        raise DataDirectoryError(
            f"the data directory {path} cannot be made: {error.strerror}; create it, or configure another one"
        ) from None


def _sync_directory(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
