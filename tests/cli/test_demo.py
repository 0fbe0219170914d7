"""The parts of the demonstration: its material, and the promises that it checks."""

from pathlib import Path

import pytest

from d_engine.cli.demo.material import LEAST_KEYS, default_input, read_input
from d_engine.cli.demo.workload import Promise, Workload
from d_engine.client.api import Client
from d_engine.engine.embedded import EmbeddedEngine
from d_engine.format.errors import InvalidRequestError


def test_input_is_key_tab_value(tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(b"a\t1\n\nb\t2\t3\n\xff\t\n")
    assert read_input(file) == {b"a": b"1", b"b": b"2\t3", b"\xff": b""}


@pytest.mark.parametrize(("content", "text"), [(b"a\t1\nb\n", "line 2"), (b"\n", "no key")])
def test_bad_input_is_named(tmp_path: Path, content: bytes, text: str) -> None:
    file = tmp_path / "input"
    file.write_bytes(content)
    with pytest.raises(InvalidRequestError, match=text):
        read_input(file)


def test_missing_input_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequestError, match="nowhere"):
        read_input(tmp_path / "nowhere")


def test_this_machine_has_enough_material() -> None:
    items, origin = default_input()
    assert len(items) >= LEAST_KEYS
    assert Path(origin).is_dir()


def test_a_promise_allows_what_was_acknowledged_or_may_have_been_applied() -> None:
    promise = Promise(b"1", [b"2"])
    assert promise.allows(b"1")
    assert promise.allows(b"2")
    assert not promise.allows(b"3")
    assert not promise.allows(None)
    assert Promise().allows(None)


async def test_verification_finds_what_is_lost_and_what_is_wrong(tmp_path: Path) -> None:
    async with EmbeddedEngine(tmp_path / "data") as engine:
        client: Client = engine.client
        workload = Workload({b"kept": b"1", b"lost": b"2", b"wrong": b"3"})
        await workload.load(client)
        assert await workload.verify(client) == (0, 0)
        await client.delete("lost")
        await client.put("wrong", "something else")
        assert await workload.verify(client) == (1, 1)
