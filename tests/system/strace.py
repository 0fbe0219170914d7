"""Faults in the system calls of a running process, by strace (`-e inject=`)."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

_SECONDS = 20.0


def need_strace() -> None:
    """Skip, and say why, where no process can be traced."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed (Debian: apt-get install strace)")
    tried = subprocess.run(["strace", "-o", os.devnull, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"processes cannot be traced here: {tried.stderr.strip()}")


class Strace:
    """Traces a process that runs, all threads of it, and injects a fault. A context manager; at its end the process
    goes on untraced.

    `fault` is what stands behind `-e inject=`, for example "fdatasync:error=EIO:when=3". Calls are counted for each
    thread from the moment of attaching on.
    """

    def __init__(self, pid: int, fault: str, output: Path, calls: str = "") -> None:
        self.output = output
        output.unlink(missing_ok=True)
        trace = calls or fault.partition(":")[0]
        command = ["strace", "-f", "-y", "-o", str(output), "-e", f"trace={trace}", "-e", f"inject={fault}"]
        self._process = subprocess.Popen(
            [*command, "-p", str(pid)], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
        )
        assert self._process.stderr is not None
        said = self._process.stderr.readline()
        if "attached" not in said:
            self.close()
            pytest.skip(f"strace cannot attach to a process that is not its child: {said.strip()}")

    @property
    def lines(self) -> list[str]:
        """What was traced so far."""
        return self.output.read_text().splitlines() if self.output.exists() else []

    @property
    def injected(self) -> list[int]:
        """Which lines were faults. A call that killed its process left an unfinished line."""
        return [number for number, line in enumerate(self.lines) if "(INJECTED)" in line or "DELAYED" in line]

    def wait_line(self, text: str) -> None:
        """Until something with this text was traced."""
        deadline = time.monotonic() + _SECONDS
        while not any(text in line for line in self.lines):
            assert time.monotonic() < deadline, f"no {text!r} in {self.lines[-5:]}"
            time.sleep(0.02)

    def close(self) -> None:
        """Detach. A process that is held in a call stays in it."""
        self._process.terminate()
        try:
            self._process.wait(_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        if self._process.stderr is not None:
            self._process.stderr.close()

    def __enter__(self) -> "Strace":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
