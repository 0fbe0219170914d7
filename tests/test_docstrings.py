"""The examples in the docstrings of the client run as they stand, against a real engine."""

import ast
import asyncio
import inspect
import re
from pathlib import Path
from textwrap import dedent
from types import FunctionType

import pytest

import d_engine
from d_engine import Client, EmbeddedEngine

CHANGES_OF_THE_CLUSTER = (
    "add_learner",
    "change_members",
    "demote",
    "promote",
    "remove",
    "replace",
    "set_address",
    "take_snapshot",
    "transfer",
)
"""They need more than one node, or time; the operators' pages show them, and tests run those."""
METHODS = {
    name: inspect.getdoc(method) or "" for name, method in inspect.getmembers(Client) if name[0] != "_"
}
PREPARATION = """
for name in ("anna", "ben"):
    await client.put(f"balance/{name}", "100")
await client.put("job/1", "sweep")
await client.put("session/anna/1", "token")
"""


def examples(text: str) -> list[str]:
    return [dedent(found) for found in re.findall(r"Example::\n\n((?:    .*\n?|\n)+)", text)]


async def run(code: str, directory: Path) -> None:
    async with EmbeddedEngine(directory) as engine:
        names = {name: getattr(d_engine, name) for name in d_engine.__all__} | {"client": engine.client}
        for part in (PREPARATION, code):
            compiled = compile(part, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            done = FunctionType(compiled, names)()
            if done is not None:
                await done


def test_every_method_that_reads_or_writes_has_an_example() -> None:
    without = [name for name, text in METHODS.items() if not examples(text)]
    assert without == sorted(CHANGES_OF_THE_CLUSTER)


@pytest.mark.parametrize("name", [name for name, text in METHODS.items() if examples(text)])
def test_examples_of_the_client_run(name: str, tmp_path: Path) -> None:
    for number, code in enumerate(examples(METHODS[name])):
        asyncio.run(asyncio.wait_for(run(code, tmp_path / str(number)), 15))
