"""What the documents say: their links lead somewhere, their examples run, their commands exist."""

import ast
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from d_engine.cli.app import app
from d_engine.testing.sim.profiles import PROFILES

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text()
SIMULATOR_HELP = CliRunner().invoke(app, ["sim", "--help"], standalone_mode=False).output


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, re.DOTALL)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#\s]+)", page.read_text())
    missing = [link for link in links if not (page.parent / link).exists()]
    assert not missing


def test_the_first_example_runs_as_it_is(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", blocks(README, "python")[0]],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.stderr == ""
    assert result.stdout == "b'hello'\nTrue\n"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_examples_are_python(page: Path) -> None:
    for block in blocks(page.read_text(), "python"):
        compile(block, page.name, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_commands_exist_with_their_options(page: Path) -> None:
    for block in blocks(page.read_text(), "sh"):
        for line in block.splitlines():
            words = shlex.split(line, comments=True)
            if not words or words[0] != "d-engine":
                continue
            command: object = app
            for word in words[1:]:
                if not word.startswith("-") and hasattr(command, "commands"):
                    assert word in command.commands, line
                    command = command.commands[word]
            known = {option for parameter in getattr(command, "params", ()) for option in parameter.opts}
            if words[1] == "sim":
                known |= set(re.findall(r"--[a-z-]+", SIMULATOR_HELP))
            used = {word.split("=")[0] for word in words if word.startswith("-")}
            assert used <= known | {"--help", "--version"}, line


def guarantees() -> list[tuple[str, str]]:
    """What is promised, and what shows it."""
    rows = re.findall(r"^\| (.+?) \| (.+) \|$", (ROOT / "docs/guarantees.md").read_text(), re.MULTILINE)
    return [(promise, shown) for promise, shown in rows if promise not in ("guarantee", "---")]


@pytest.mark.parametrize(("promise", "shown"), guarantees(), ids=lambda text: text[:60])
def test_each_guarantee_is_shown_by_what_exists(promise: str, shown: str) -> None:
    """A test in one of the linked files, a simulator profile, a scenario, or all tests of a linked file."""
    files = [ROOT / "docs" / link for link in re.findall(r"\]\(([^)#]+)\)", shown)]
    tests = re.findall(r"`(test_\w+)`", shown)
    profiles = re.findall(r"profiles? ((?:`\w+`(?:, | and )?)+)", shown)
    defined = "\n".join(file.read_text() for file in files if file.suffix == ".py")
    assert [
        test for test in tests if not re.search(rf"^(?:async )?def {test}\(", defined, re.MULTILINE)
    ] == []
    named = [name for names in profiles for name in re.findall(r"`(\w+)`", names)]
    assert [name for name in named if name not in PROFILES] == []
    whole = [file for file in files if file.name.startswith("test_") or "scenarios" in file.parts]
    assert tests or named or whole


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"(?:`|^)make ([a-z-]+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
