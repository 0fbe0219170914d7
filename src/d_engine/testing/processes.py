"""Real clusters for tests and demonstrations: server processes on this machine, to be killed and started again.

Each node is a `d-engine serve` process with a data directory of its own below one folder, listening on loopback. Faults
are real signals: SIGKILL loses what the process held in memory (the kernel keeps what was written, synced or not),
SIGSTOP freezes it.
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from d_engine.client.remote import connect
from d_engine.format.errors import DEngineError, UnavailableError
from d_engine.format.ids import NodeId

_POLL_SECONDS = 0.05


def free_ports(count: int) -> list[int]:
    """Ports of loopback that were free a moment ago."""
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for sock in sockets:
            sock.bind(("127.0.0.1", 0))
        return [int(sock.getsockname()[1]) for sock in sockets]


class ServerProcess:
    """One node. `settings` are configuration keys, as for `d-engine serve --set`."""

    def __init__(self, node_id: NodeId, folder: Path, address: str, settings: Mapping[str, str]) -> None:
        self.node_id = node_id
        self.folder = folder
        self.address = address
        self.data_dir = folder / f"node{node_id}"
        self.log = folder / f"node{node_id}.log"
        self._settings = dict(settings)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def command(self) -> list[str]:
        """What is run."""
        settings = {
            "node.id": str(self.node_id),
            "node.data_dir": str(self.data_dir),
            "cluster.listen": self.address,
        }
        assignments = [f"{key}={value}" for key, value in {**settings, **self._settings}.items()]
        options = [option for assignment in assignments for option in ("--set", assignment)]
        return [sys.executable, "-m", "d_engine.cli", "serve", *options]

    @property
    def running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """How it ended; negative for a signal."""
        return None if self._process is None else self._process.poll()

    @property
    def pid(self) -> int:
        """The process id."""
        if self._process is None:
            raise UnavailableError(f"node {self.node_id} was not started")
        return self._process.pid

    def start(self, wrapper: Sequence[str] = (), environment: Mapping[str, str] | None = None) -> None:
        """Start the process, below `wrapper` (for example strace) if one is given. Its output goes to `log`."""
        if self.running:
            raise UnavailableError(f"node {self.node_id} runs already")
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*wrapper, *self.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **(environment or {})},
            )

    def signal(self, number: signal.Signals) -> None:
        """Send a signal, if it runs."""
        if self._process is not None and self.running:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; returns when the process is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def describe(self) -> str:
        """Whether it runs, and its last words."""
        state = f"ended with {self.exit_code}"
        if self._process is None:
            state = "was not started"
        elif self.running:
            state = f"runs ({_kernel_state(self.pid)})"
        return f"node {self.node_id} {state}: {_last_line(self.log)}"

    def wait(self, timeout: float = 30.0) -> int:
        """Wait for the end; the exit code."""
        return 0 if self._process is None else self._process.wait(timeout)


class LocalCluster:
    """`size` voters on loopback. A context manager that leaves no process behind."""

    def __init__(self, folder: Path, size: int = 3, settings: Mapping[str, str] | None = None) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        addresses = [f"127.0.0.1:{port}" for port in free_ports(size)]
        initial = ",".join(f"{number}={address}" for number, address in enumerate(addresses, 1))
        self.nodes = {
            number: ServerProcess(number, folder, address, {"cluster.initial": initial, **(settings or {})})
            for number, address in enumerate(addresses, 1)
        }

    @property
    def endpoints(self) -> str:
        """All addresses, as `connect` takes them."""
        return ",".join(node.address for node in self.nodes.values())

    def start(self) -> None:
        """Start what does not run."""
        for node in self.nodes.values():
            if not node.running:
                node.start()

    def kill_all(self) -> None:
        """SIGKILL all, as close together as one process can."""
        for node in self.nodes.values():
            node.signal(signal.SIGKILL)
        for node in self.nodes.values():
            node.wait()

    async def wait_leader(self, timeout: float = 30.0, among: Sequence[NodeId] | None = None) -> NodeId:
        """Wait until a running node leads, and knows it. Raises `UnavailableError` with the nodes' last words."""
        reason = "nobody was asked"
        try:
            async with asyncio.timeout(timeout):
                while True:
                    for node in self.nodes.values():
                        if not node.running or (among is not None and node.node_id not in among):
                            continue
                        try:
                            if await self._leads(node):
                                return node.node_id
                        except (DEngineError, TimeoutError) as error:
                            reason = str(error)
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError:
            words = "\n".join(node.describe() for node in self.nodes.values())
            raise UnavailableError(f"no leader within {timeout:g} s ({reason})\n{words}") from None

    async def _leads(self, node: ServerProcess) -> bool:
        async with connect(node.address, discover=False, connect_timeout=1.0, request_timeout=1.0) as client:
            status = await client.status()
        return status.role == "leader" and status.leader_ready

    async def wait_caught_up(self, node_id: NodeId, timeout: float = 30.0) -> None:
        """Wait until the node has applied what was committed when the wait began."""
        leader = self.nodes[await self.wait_leader(timeout)]
        async with connect(leader.address, discover=False) as client:
            target = (await client.status()).commit_index
        async with (
            asyncio.timeout(timeout),
            connect(self.nodes[node_id].address, discover=False, connect_timeout=timeout) as client,
        ):
            while (await client.status(timeout=timeout)).applied_index < target:  # noqa: ASYNC110 - another process
                await asyncio.sleep(_POLL_SECONDS)

    def __enter__(self) -> "LocalCluster":
        return self

    def __exit__(self, *exc: object) -> None:
        for node in self.nodes.values():
            node.signal(signal.SIGCONT)
        self.kill_all()


def _kernel_state(pid: int) -> str:
    """What the kernel says of a process: S asleep, R running, T stopped, t traced, D in an operation of the disk..."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "its state is unknown"
    return next((line for line in status.splitlines() if line.startswith("State:")), "State: unknown")


def _last_line(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines() if log.exists() else []
    return lines[-1] if lines else "(said nothing)"
