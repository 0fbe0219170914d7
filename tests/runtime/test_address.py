"""What is an address and what is not."""

import pytest

from d_engine.format.errors import ConfigError
from d_engine.runtime.address import TcpAddress, UnixAddress, parse_address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:7000", TcpAddress("127.0.0.1", 7000)),
        ("node-1.example:0", TcpAddress("node-1.example", 0)),
        ("[::1]:65535", TcpAddress("::1", 65535)),
        ("unix:/run/engine.sock", UnixAddress("/run/engine.sock")),
    ],
)
def test_addresses(text: str, address: TcpAddress | UnixAddress) -> None:
    assert parse_address(text) == address
    assert str(address) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "host",
        ":7000",
        "host:",
        "host:-1",
        "host:65536",
        "host:7x",
        "host:²",
        "::1:70",
        "unix:",
        "unix:a",
        "h:1" * 100,
    ],
)
def test_not_addresses(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_address(text)
