"""The operators' pages: their commands are run, in order, and print what the pages say that they print.

A page is one session of a shell in an empty folder. The ports that it names are replaced by free ones. What a block
`text` shows must come out of the block `sh` before it, line by line; numbers may differ, and so may the width of gaps.
"""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from d_engine.testing.processes import free_ports

pytestmark = pytest.mark.slow
FOLDER = Path(__file__).parents[2] / "docs" / "operations"
AS_ROOT = ("disk-full.md",)
"""They mount a small file system."""
_MARK = "=== block"


def blocks(page: str) -> list[tuple[str, str]]:
    """`(language, content)` of all commands and outputs."""
    return re.findall(r"```(sh|text)\n(.*?)```", page, re.DOTALL)


def session(page: str, folder: Path) -> list[str]:
    """What each block of commands has printed."""
    commands = [content for language, content in blocks(page) if language == "sh"]
    script = "\n".join(f"echo '{_MARK}'\n{content}" for content in commands)
    named = sorted(set(re.findall(r"127\.0\.0\.1:(\d+)", page)))
    for old, new in zip(named, free_ports(len(named)), strict=True):
        script = script.replace(f"127.0.0.1:{old}", f"127.0.0.1:{new}")
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    output = folder / "output"
    with output.open("wb") as file:
        shell = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=file,
            stderr=file,
            cwd=folder,
            env={**os.environ, "PATH": path},
            start_new_session=True,
        )
        try:
            shell.communicate(f"exec 2>&1\nset -u\n{script}\nexit 0\n".encode(), timeout=150)
        finally:
            # The nodes that the page has left running belong to the session.
            with suppress(ProcessLookupError):
                os.killpg(shell.pid, signal.SIGKILL)
    return output.read_text(errors="replace").split(f"{_MARK}\n")[1:]


def alike(line: str) -> str:
    """The line without what differs from run to run."""
    return re.sub(r"\d+", "#", re.sub(r"0x[0-9a-f]+", "#", " ".join(line.split())))


PAGES = [page for page in sorted(FOLDER.glob("*.md")) if blocks(page.read_text())]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_do_what_it_says(page: Path, tmp_path: Path) -> None:
    if page.name in AS_ROOT and os.getuid() != 0:
        pytest.skip("this page mounts a file system, which needs root")
    text = page.read_text()
    printed = session(text, tmp_path)
    number = -1
    for language, content in blocks(text):
        if language == "sh":
            number += 1
            continue
        found = {alike(line) for line in printed[number].splitlines()}
        for line in content.splitlines():
            assert alike(line) in found, f"{line!r} is not in:\n{printed[number]}"
