"""Addresses: `host:port`, `[v6]:port`, or `unix:/path`. Parsed in one place, so that all texts agree."""

from dataclasses import dataclass
from typing import TypeAlias

from d_engine.format.errors import ConfigError
from d_engine.format.limits import MAX_ADDRESS_LENGTH

UNIX_PREFIX = "unix:"


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """Host name or number, and port. Port 0 asks the listener for a free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """The path of a Unix socket."""

    path: str

    def __str__(self) -> str:
        return UNIX_PREFIX + self.path


Address: TypeAlias = TcpAddress | UnixAddress


def parse_address(text: str) -> Address:
    """`127.0.0.1:7000`, `[::1]:7000`, `unix:/run/engine.sock`. Raises `ConfigError`."""
    if len(text) > MAX_ADDRESS_LENGTH:
        raise ConfigError(
            f"an address has {len(text)} characters; at most {MAX_ADDRESS_LENGTH} are allowed: {text[:40]!r}..."
        )
    if text.startswith(UNIX_PREFIX):
        path = text.removeprefix(UNIX_PREFIX)
        if not path.startswith("/") or "\0" in path:
            raise ConfigError(f"the address {text!r} does not name an absolute path behind {UNIX_PREFIX!r}")
        return UnixAddress(path)
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"the address {text!r} needs brackets around its host: [host]:port")
    if not colon or not host or not (port.isascii() and port.isdigit()) or int(port) > 65535:
        raise ConfigError(f"the address {text!r} is neither host:port nor unix:/path")
    return TcpAddress(host, int(port))
