"""What a configuration field may hold, and how it is read from a file, from an environment variable, from an argument.

A file has types, so there a number must be a number. Environment variables and command lines are text, so there text
is parsed. Each kind of field knows its rule and can say it in words.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, cast

from d_engine.format.ids import MAX_NODE_ID
from d_engine.format.limits import MAX_MEMBERS
from d_engine.runtime.address import parse_address

_KIND = "d_engine.kind"
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class MemberConfig:
    """One of the members that a cluster is born with."""

    id: int
    address: str


class Kind(Protocol):
    """The rule of a field. `read` returns the value or raises `ValueError`, whose text may add to `allowed`."""

    @property
    def allowed(self) -> str: ...

    def read(self, raw: object, is_text: bool) -> object: ...


def field(default: _T, kind: Kind) -> _T:
    """A dataclass field with its rule."""
    return dataclasses.field(default=default, metadata={_KIND: kind})


def kind_of(item: "dataclasses.Field[Any]") -> Kind:
    """The rule that `field` was given."""
    return cast(Kind, item.metadata[_KIND])


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number within bounds."""

    minimum: int
    maximum: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.minimum} to {self.maximum}"

    def read(self, raw: object, is_text: bool) -> int:
        value = int(raw) if is_text and isinstance(raw, str) else raw
        if not isinstance(value, int) or isinstance(value, bool) or not self.minimum <= value <= self.maximum:
            raise ValueError
        return value


@dataclass(frozen=True, slots=True)
class Seconds:
    """A time span above zero, fractions allowed."""

    maximum: float

    @property
    def allowed(self) -> str:
        return f"a number of seconds above 0 and up to {self.maximum:g}"

    def read(self, raw: object, is_text: bool) -> float:
        value = float(raw) if is_text and isinstance(raw, str) else raw
        if not isinstance(value, int | float) or isinstance(value, bool) or math.isnan(value):
            raise ValueError
        if not 0 < value <= self.maximum:
            raise ValueError
        return float(value)


@dataclass(frozen=True, slots=True)
class Flag:
    """true or false."""

    allowed: str = "true or false"

    def read(self, raw: object, is_text: bool) -> bool:
        value = {"true": True, "false": False}.get(raw.lower()) if is_text and isinstance(raw, str) else raw
        if not isinstance(value, bool):
            raise ValueError
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """Any text that `accepts` does not refuse by raising `ValueError`."""

    allowed: str
    accepts: Callable[[str], object]

    def read(self, raw: object, is_text: bool) -> str:
        if not isinstance(raw, str):
            raise ValueError
        self.accepts(raw)
        return raw


@dataclass(frozen=True, slots=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(f'"{word}"' for word in self.words)

    def read(self, raw: object, is_text: bool) -> str:
        if not isinstance(raw, str) or raw not in self.words:
            raise ValueError
        return raw


@dataclass(frozen=True, slots=True)
class Addresses:
    """A list of addresses, or one text with commas."""

    allowed: str = 'a list of addresses, or a text like "host:port,host:port"'

    def read(self, raw: object, is_text: bool) -> tuple[str, ...]:
        parts = [part.strip() for part in raw.split(",") if part.strip()] if isinstance(raw, str) else raw
        if not isinstance(parts, Sequence):
            raise ValueError
        return tuple(_reachable(part) for part in parts)


@dataclass(frozen=True, slots=True)
class Members:
    """A list of `{id, address}`, or one text."""

    allowed: str = 'a list of {id, address} tables, or a text like "1=host:port,2=host:port"'

    def read(self, raw: object, is_text: bool) -> tuple[MemberConfig, ...]:
        parts = [part.strip() for part in raw.split(",") if part.strip()] if isinstance(raw, str) else raw
        if not isinstance(parts, Sequence):
            raise ValueError
        if len(parts) > MAX_MEMBERS:
            raise ValueError(f"{len(parts)} members are more than {MAX_MEMBERS}")
        return tuple(_member(part) for part in parts)


_MEMBER_ID = Whole(1, MAX_NODE_ID)


def _member(part: object) -> MemberConfig:
    identifier: object
    address: object
    if isinstance(part, MemberConfig):
        identifier, address = part.id, part.address
    elif isinstance(part, str):
        left, equals, address = (item.strip() for item in part.partition("="))
        if not equals or not left.isascii() or not left.isdigit():
            raise ValueError(f'{part!r} is not of the form "id=address"')
        identifier = int(left)
    elif isinstance(part, Mapping) and set(part) == {"id", "address"}:
        identifier, address = part["id"], part["address"]
    else:
        raise ValueError(f"{part!r} is not an id and an address")
    try:
        number = _MEMBER_ID.read(identifier, False)
    except ValueError:
        raise ValueError(f"the id of {part!r} is not {_MEMBER_ID.allowed}") from None
    return MemberConfig(number, _reachable(address))


def _reachable(text: object) -> str:
    """An address that somebody can dial."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r} is not a text")
    if getattr(parse_address(text), "port", None) == 0:
        raise ValueError(f"nobody can reach port 0 of {text!r}")
    return text


def _no_nul(text: str) -> None:
    if not text or "\0" in text:
        raise ValueError


DIRECTORY = Text("the path of a directory", _no_nul)
LISTEN = Text('"host:port", "unix:/path", or "" for none', lambda text: parse_address(text) if text else None)
ADVERTISE = Text(
    '"host:port" or "unix:/path" that the other members can reach, or ""',
    lambda text: _reachable(text) if text else None,
)
