"""Real input for the demonstration: `key<TAB>value` lines from a file, or made from files of this machine."""

import hashlib
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from d_engine.format.errors import InvalidRequestError

LEAST_KEYS = 500
_MOST_KEYS = 2000
_ZONES = Path("/usr/share/zoneinfo")


def read_input(path: Path) -> dict[bytes, bytes]:
    """The lines of a file. Raises `InvalidRequestError` naming the line that is none."""
    items: dict[bytes, bytes] = {}
    try:
        text = path.read_bytes()
    except OSError as error:
        raise InvalidRequestError(f"the input {path} cannot be read: {error.strerror}") from None
    for number, line in enumerate(text.splitlines(), 1):
        if not line:
            continue
        key, separator, value = line.partition(b"\t")
        if not separator:
            raise InvalidRequestError(f"{path}, line {number}: expected key<TAB>value, found no tab")
        items[key] = value
    if not items:
        raise InvalidRequestError(f"{path} holds no key<TAB>value lines")
    return items


def default_input() -> tuple[dict[bytes, bytes], str]:
    """Names and SHA-256 sums of the time zones of this machine, or of Python's own library; and where they are from."""
    for root in (_ZONES, Path(sysconfig.get_paths()["stdlib"])):
        items = dict(_sums(root))
        if len(items) >= LEAST_KEYS:
            return items, str(root)
    raise InvalidRequestError(
        f"this machine has fewer than {LEAST_KEYS} files to make input from; give --input FILE"
    )


def _sums(root: Path) -> Iterator[tuple[bytes, bytes]]:
    count = 0
    for path in sorted(root.rglob("*")) if root.is_dir() else ():
        if count >= _MOST_KEYS:
            return
        if path.is_file() and path.suffix not in (".pyc", ".so"):
            count += 1
            yield str(path.relative_to(root)).encode(), hashlib.sha256(path.read_bytes()).hexdigest().encode()
