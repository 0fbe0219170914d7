"""Examples that are programs of their own: they run to their end, and say what they should."""

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name: str, timeout: float) -> list[str]:
    result = subprocess.run(
        [sys.executable, str(EXAMPLES / name)], capture_output=True, timeout=timeout, check=False
    )
    assert (result.returncode, result.stderr) == (0, b""), result.stderr.decode()
    return result.stdout.decode().splitlines()


def test_session_store() -> None:
    assert run("session_store.py", 18) == [
        "2 sessions; anna's: {'user': 'anna', 'basket': ['apples']}",
        "ben's is over; anna's: {'user': 'anna', 'basket': ['apples']}",
        "0 sessions",
    ]


@pytest.mark.slow
def test_service_discovery() -> None:
    *lines, last_but_two, last_but_one, last = run("service_discovery.py", 120)
    assert lines == [
        "registered: mail/1, web/1, web/2",
        "web/1 is killed",
        "web/1 is gone (expired)",
        "registered: mail/1, web/2",
        "the others are stopped",
    ]
    assert {last_but_two, last_but_one} == {"mail/1 is gone (deleted)", "web/2 is gone (deleted)"}
    assert last == "registered: nobody"


@pytest.mark.slow
def test_inventory() -> None:
    """Fifty buyers and a leader that is killed: nothing is sold twice, nothing is lost."""
    killed, sold = run("inventory.py", 120)
    assert killed.endswith("the leader, is killed")
    assert sold == "120 were there, 120 are sold, 120 orders, 0 left"


def test_live_configuration() -> None:
    assert run("live_configuration.py", 18) == [
        "revision 2: host=10.0.0.1, port=80",
        "revision 4: host=10.0.0.2, port=8080",
        "revision 5: host=10.0.0.2, stop=yes",
    ]
