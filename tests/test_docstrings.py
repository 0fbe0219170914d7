"""The examples in the docstrings of all that is exported run as they stand, against real engines."""

import ast
import asyncio
import dataclasses
import inspect
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from textwrap import dedent
from types import FunctionType

import pytest
from examples.replicated_counters import Counters, CountersUnderFaults

import d_engine
from d_engine import Client, EmbeddedEngine, EngineConfig
from d_engine.engine.config_sections import ClusterConfig, NodeConfig
from d_engine.testing import checkers, plugin

EXPORTED = {name: getattr(d_engine, name) for name in d_engine.__all__ if name != "__version__"}
CHECKERS = {name: getattr(checkers, name) for name in checkers.__all__ if "check_" in name}
CHECKERS |= {name: getattr(checkers, name) for name in ("History", "require")}
METHODS = [name for name, _ in inspect.getmembers(Client) if name[0] != "_"]
CHANGES_OF_THE_CLUSTER = (
    "add_learner",
    "change_members",
    "demote",
    "promote",
    "remove",
    "replace",
    "set_address",
    "transfer",
)
"""They need more than one node."""
PREPARATION = """
for name in ("anna", "ben"):
    await client.put(f"balance/{name}", "100")
await client.put("job/1", "sweep")
await client.put("session/anna/1", "token")
"""


def examples(text: str) -> list[str]:
    return [dedent(found) for found in re.findall(r"Example::\n\n((?:    .*\n?|\n)+)", text)]


def of(name: str, thing: object) -> Iterator[tuple[str, str]]:
    """The examples of a class and of its methods, or of a function, under names."""
    yield from ((name, code) for code in examples(inspect.getdoc(thing) or ""))
    if inspect.isclass(thing):
        for method, value in vars(thing).items():
            if method[0] != "_" and callable(getattr(value, "__func__", value)):
                yield from ((f"{name}.{method}", code) for code in examples(inspect.getdoc(value) or ""))


def of_all(things: dict[str, object]) -> list[tuple[str, str]]:
    return [found for name, thing in things.items() for found in of(name, thing)]


OF_CLIENT = [
    (name, code) for name in METHODS for code in examples(inspect.getdoc(getattr(Client, name)) or "")
]
OF_CLUSTER = [found for found in OF_CLIENT if found[0] in CHANGES_OF_THE_CLUSTER]
OF_CLUSTER += of("MemberChange", d_engine.MemberChange)
OF_OTHERS = [found for found in OF_CLIENT if found not in OF_CLUSTER]
OF_OTHERS += [
    (name, code)
    for name, code in of_all(EXPORTED)
    if not name.startswith("Client.") and name != "MemberChange"
]


async def run(code: str, names: dict[str, object]) -> None:
    compiled = compile(code, "example", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
    done = FunctionType(compiled, names)()
    if done is not None:
        await done


def test_whatever_is_exported_has_an_example() -> None:
    with_example = {name.partition(".")[0] for name, _ in (*OF_OTHERS, *OF_CLUSTER)}
    assert [name for name in EXPORTED if name not in with_example] == []
    assert [name for name in METHODS if name not in {name for name, _ in OF_CLIENT}] == []
    assert {name for name, _ in of_all(CHECKERS)} == {*CHECKERS}


def together(found: list[tuple[str, str]]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("code", [code for _, code in found], ids=[name for name, _ in found])


# --- one node --------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def one_node(folder: Path) -> AsyncIterator[dict[str, object]]:
    """What examples speak of: an engine that also listens, a configuration file, parts for another node."""
    address = f"unix:{folder}/7000"
    (folder / "node1.toml").write_text(
        f'[node]\nid = 1\ndata_dir = "{folder}/served"\n[cluster]\nclient_listen = "unix:{folder}/served.sock"\n'
    )
    config = EngineConfig(
        node=NodeConfig(data_dir=f"{folder}/shared"), cluster=ClusterConfig(client_listen=address)
    )
    async with EmbeddedEngine(config=config) as engine:
        shutdown = asyncio.Event()
        asyncio.get_running_loop().call_later(0.2, shutdown.set)
        yield {
            "engine": engine,
            "client": engine.client,
            "config": EngineConfig.single_node(folder / "built"),
            "MyStateMachine": Counters,
            "shutdown": shutdown,
        }


async def run_with_one_node(code: str, folder: Path, exported: dict[str, object], preparation: str) -> None:
    code = re.sub(r"127\.0\.0\.1:7000(,127\.0\.0\.1:7001)?", f"unix:{folder}/7000", code)
    async with asyncio.timeout(15), one_node(folder) as names:
        names |= exported
        await run(preparation, names)
        await run(code, names)


@together(OF_OTHERS)
def test_examples_run(code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exported = {**EXPORTED, "d_engine": d_engine, "asyncio": asyncio, "dataclasses": dataclasses}
    asyncio.run(run_with_one_node(code, tmp_path, exported, PREPARATION))


@together(of_all(CHECKERS))
def test_examples_of_checkers_run(code: str, tmp_path: Path) -> None:
    exported = {**EXPORTED, **{name: getattr(checkers, name) for name in checkers.__all__}}
    asyncio.run(run_with_one_node(code, tmp_path, exported, ""))


def test_the_example_of_the_simulator_runs() -> None:
    (code,) = examples(inspect.getdoc(plugin) or "")
    names: dict[str, object] = {"CountersUnderFaults": CountersUnderFaults}
    asyncio.run(run(code.replace("seeds=200", "seeds=1"), names))
    test = names["test_counters"]
    assert callable(test)
    test()


# --- three nodes, and a fourth that learns ---------------------------------------------------------------------------


def member(folder: Path, number: int) -> EngineConfig:
    initial = ",".join(f"{each}=unix:{folder}/{each}" for each in (1, 2, 3))
    cluster = ClusterConfig(listen=f"unix:{folder}/{number}")
    if number <= 3:
        cluster = dataclasses.replace(cluster, initial=initial)  # type: ignore[arg-type]
    else:
        cluster = dataclasses.replace(cluster, join=(f"unix:{folder}/1",))
    return EngineConfig(node=NodeConfig(number, f"{folder}/data{number}"), cluster=cluster)


async def learner_is_ready(client: Client) -> bool:
    """Whether the leader would make a voter of node 4 if it were asked to."""
    peers = (await client.status()).peers
    return any(peer.node_id == 4 and "it is ready" in peer.promotion for peer in peers)


async def run_with_cluster(code: str, folder: Path) -> None:
    code = re.sub(r"10\.0\.\d\.\d:7000", f"unix:{folder}/elsewhere", code)
    async with AsyncExitStack() as stack:
        engines = [EmbeddedEngine(config=member(folder, number)) for number in (1, 2, 3, 4)]
        for engine in engines:
            await engine.start()
            stack.push_async_callback(engine.stop)
        await engines[0].wait_ready()
        client = engines[0].client
        await client.put("now", "somebody leads")
        if not engines[0].is_leader:
            await client.transfer(1)
        while not engines[0].is_leader:
            await asyncio.sleep(0.01)
        await client.put("now", "node 1 leads")
        await client.add_learner(4, f"unix:{folder}/4")
        while not await learner_is_ready(client):
            await asyncio.sleep(0.01)
        await run(code, {"client": client, "MemberChange": d_engine.MemberChange})


@together(OF_CLUSTER)
def test_examples_of_changes_run(code: str, tmp_path: Path) -> None:
    asyncio.run(asyncio.wait_for(run_with_cluster(code, tmp_path), 19))
