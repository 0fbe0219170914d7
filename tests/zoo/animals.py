"""The animals: each file in `bugs` describes one bug and how to bring it into the sources.

An animal is a TOML file with

* `title`, `story` (what the bug is), `seen` (where it lived);
* `profiles`: the families of simulated runs in which it should show, and `invariants`: what may be found broken;
* `[[replace]]`: `file` below `src/d_engine`, and `old` text, which must stand there exactly once, to become `new`;
* `[caught]`: the recorded run that catches it. It stands last; `make zoo-full` writes it.

The bug is brought into a copy of the sources, never into the tree.
"""

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from shutil import copytree, ignore_patterns

ROOT = Path(__file__).parent.parent.parent
BUGS = Path(__file__).parent / "bugs"
PACKAGE = Path("d_engine")
_CAUGHT = "[caught]"


class StalePatch(Exception):  # noqa: N818 - it says what is the matter
    """The text that an animal replaces is not in the sources, or not only once."""


@dataclass(frozen=True, slots=True)
class Replacement:
    """One text for another in a file below `src/d_engine`."""

    file: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Catch:
    """The run that caught the animal: what it broke, and how many runs it took to find."""

    profile: str
    seed: int
    invariant: str
    runs: int


@dataclass(frozen=True, slots=True)
class Animal:
    """One bug."""

    name: str
    title: str
    story: str
    seen: str
    profiles: tuple[str, ...]
    invariants: tuple[str, ...]
    replacements: tuple[Replacement, ...]
    caught: Catch | None

    def run(self, number: int) -> tuple[str, int]:
        """The search's run of this number: profile and seed. The profiles take turns."""
        return self.profiles[number % len(self.profiles)], number // len(self.profiles)

    def patched(self, sources: Path = ROOT / "src") -> dict[str, str]:
        """The files that it changes, changed. Raises `StalePatch`."""
        texts: dict[str, str] = {}
        for change in self.replacements:
            text = texts.get(change.file) or (sources / PACKAGE / change.file).read_text()
            count = text.count(change.old)
            if count != 1:
                raise StalePatch(
                    f"tests/zoo/bugs/{self.name}.toml no longer fits: bring its `old` text up to date (and `new` with"
                    f" it). In {change.file} this stands {count} times:\n{change.old}"
                )
            texts[change.file] = text.replace(change.old, change.new)
        return texts

    def bring_into(self, copy: Path) -> None:
        """Make a copy of the sources at that place, with the bug."""
        texts = self.patched()
        copytree(ROOT / "src", copy, ignore=ignore_patterns("__pycache__"))
        for file, text in texts.items():
            (copy / PACKAGE / file).write_text(text)

    def record(self, caught: Catch) -> None:
        """Write the catching run into the animal's file."""
        path = BUGS / f"{self.name}.toml"
        text = path.read_text().partition(_CAUGHT)[0].rstrip()
        lines = (
            _CAUGHT,
            f"profile = {json.dumps(caught.profile)}",
            f"seed = {caught.seed}",
            f"invariant = {json.dumps(caught.invariant)}",
            f"runs = {caught.runs}",
        )
        path.write_text(text + "\n\n" + "\n".join(lines) + "\n")


def load_animal(path: Path) -> Animal:
    """Read one file."""
    data = tomllib.loads(path.read_text())
    caught = data.get("caught")
    return Animal(
        name=path.stem,
        title=data["title"],
        story=data["story"].strip(),
        seen=data["seen"].strip(),
        profiles=tuple(data["profiles"]),
        invariants=tuple(data["invariants"]),
        replacements=tuple(Replacement(**change) for change in data["replace"]),
        caught=None if caught is None else Catch(**caught),
    )


def load_animals() -> list[Animal]:
    """All of them, by name."""
    return [load_animal(path) for path in sorted(BUGS.glob("*.toml"))]
