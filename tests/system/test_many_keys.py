"""Transactions and ranges at the shell, against a real server."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from d_engine.testing.processes import ServerProcess, free_ports

pytestmark = pytest.mark.slow

PAY = {
    "when": [
        {"key": "anna", "target": "value", "relation": "==", "operand": "10"},
        {"key": "ben", "target": "version", "relation": "==", "operand": 0},
    ],
    "then": [
        {"op": "put", "key": "anna", "value": "0"},
        {"op": "put", "key": "ben", "value": {"base64": "MTA="}},
        {"op": "delete_range", "prefix": "note/"},
    ],
    "otherwise": [{"op": "get", "key": "anna"}, {"op": "get_range", "prefix": "", "limit": 1}],
}


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    (port,) = free_ports(1)
    process = ServerProcess(1, tmp_path, f"127.0.0.1:{port}", {})
    process.start()
    yield process
    process.kill()


def run(server: ServerProcess, *arguments: str, input: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    place = ("--endpoints", server.address, "--timeout", "20")
    return subprocess.run(
        [sys.executable, "-m", "d_engine.cli", *arguments, *place],
        input=input,
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_many_keys_at_the_shell(server: ServerProcess) -> None:
    for key, value in (("anna", "10"), ("note/1", "x"), ("note/2", "y")):
        assert run(server, "put", key, value).returncode == 0

    pay = json.dumps(PAY).encode()
    paid = run(server, "txn", "-o", "json", input=pay)
    assert paid.returncode == 0, paid.stderr
    assert json.loads(paid.stdout) == {
        "succeeded": True,
        "revision": 4,
        "results": [{"revision": 4}, {"revision": 4}, {"revision": 4, "deleted": 2}],
    }
    again = run(server, "txn", input=pay)
    assert again.returncode == 1
    first, entry, found = again.stdout.decode().splitlines()
    assert first == "did 'otherwise', revision 4"
    assert json.loads(entry)["value"] == {"text": "0"}
    assert json.loads(found)["more"] is True
    refused = run(server, "txn", input=json.dumps({"then": PAY["then"] * 2}).encode())
    assert refused.returncode == 5
    assert b"twice" in refused.stderr

    listed = run(server, "range", "--start", "a", "--end", "c")
    assert listed.stdout == b"anna\t0\nben\t10\n"
    assert listed.stderr == b"2 entries at revision 4\n"
    (page,) = run(
        server, "range", "--reverse", "--keys-only", "--limit", "1", "-o", "json"
    ).stdout.splitlines()
    document = json.loads(page)
    assert [item["key"] for item in document["items"]] == [{"text": "ben"}]
    assert "value" not in document["items"][0]
    assert (document["revision"], document["more"]) == (4, True)

    deleted = run(server, "delete", "--prefix", "", "-o", "json")
    assert json.loads(deleted.stdout) == {"deleted": 2, "revision": 5}
    assert run(server, "range").stdout == b""
