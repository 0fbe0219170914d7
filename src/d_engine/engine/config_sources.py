"""Where configuration comes from: a TOML file, the environment, arguments. The later one wins, key by key."""

import difflib
import os
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from d_engine.engine.config_sections import FIELDS, SECTIONS, read_field
from d_engine.format.errors import ConfigError

ENVIRONMENT_PREFIX = "D_ENGINE__"
DEFAULT = "default"


@dataclass(frozen=True, slots=True)
class Setting:
    """A key's value and where it came from, in words."""

    value: object
    source: str


def read_sources(
    path: "str | os.PathLike[str] | None", environ: Mapping[str, str], overrides: Mapping[str, object]
) -> dict[str, Setting]:
    """Every key that is set anywhere, with the value that wins. Raises `ConfigError`."""
    settings: dict[str, Setting] = {}
    if path is not None:
        settings.update(_read(_from_file(path), is_text=False))
    settings.update(_read(_from_environment(environ), is_text=True))
    settings.update(_read(_from_arguments(overrides), is_text=True))
    return settings


def _read(items: Iterable[tuple[str, object, str]], is_text: bool) -> Iterator[tuple[str, Setting]]:
    for key, raw, source in items:
        if key not in FIELDS:
            raise ConfigError(f"there is no configuration key {key} ({source}){_suggestion(key)}")
        yield key, Setting(read_field(key, raw, source, is_text), source)


def _from_file(path: "str | os.PathLike[str]") -> Iterator[tuple[str, object, str]]:
    source = f"file {os.fspath(path)}"
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        raise ConfigError(f"the configuration {source} cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"the configuration {source} is no TOML: {error}") from None
    for section, content in document.items():
        if section not in SECTIONS:
            raise ConfigError(
                f"there is no configuration section [{section}] ({source}){_suggestion(section)}"
            )
        if not isinstance(content, Mapping):
            raise ConfigError(
                f"{section} is {content!r} ({source}); it must be a section with keys: [{section}]"
            )
        for name, raw in content.items():
            yield f"{section}.{name}", raw, source


def _from_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, object, str]]:
    for name in sorted(environ):
        if name.startswith(ENVIRONMENT_PREFIX):
            key = name.removeprefix(ENVIRONMENT_PREFIX).replace("__", ".", 1).lower()
            yield key, environ[name], f"environment variable {name}"


def _from_arguments(overrides: Mapping[str, object]) -> Iterator[tuple[str, object, str]]:
    for key, raw in overrides.items():
        yield key, raw, "argument"


def _suggestion(wrong: str) -> str:
    """The nearest known name, in words, or what there is."""
    section, dot, name = wrong.partition(".")
    everywhere = [key for key in FIELDS if key.endswith(f".{name if dot else section}")]
    inside = [key.partition(".")[2] for key in FIELDS if dot and key.startswith(f"{section}.")]
    near = (
        everywhere
        or [f"{section}.{match}" for match in difflib.get_close_matches(name, inside, 1)]
        or difflib.get_close_matches(wrong, FIELDS if dot else SECTIONS, 1)
    )
    if near:
        return f"; did you mean {near[0]}?"
    return f"; [{section}] has {', '.join(inside)}" if inside else f"; there are {', '.join(SECTIONS)}"
