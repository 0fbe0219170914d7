"""What every part of the `Client` interface is made of: few primitives, which the embedded and the remote client have.

A client that supplies `_write` (a command to its result), `_read` (a query to its answer), `_manage` (a rare operation
to its JSON document), `_watches` and `_one_node` is complete.
"""

import math
from abc import ABC, abstractmethod
from asyncio import Future
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from functools import cached_property
from typing import TypeAlias

from d_engine.client.feed import WatchTransport
from d_engine.client.operations import Text
from d_engine.client.translation import Translator
from d_engine.format.errors import InvalidRequestError
from d_engine.format.ids import MAX_U63
from d_engine.format.limits import MAX_KEY_BYTES, MAX_VALUE_BYTES
from d_engine.format.requests import EVENTUAL, LEASE, LINEARIZABLE
from d_engine.kv.commands import check_key, check_value

NodeAsker: TypeAlias = Callable[[bytes, str, float | None], Awaitable[bytes]]
"""Asks one node: a query, under a consistency, with a time-out."""

_POLICIES = {"linearizable": LINEARIZABLE, "lease": LEASE, "eventual": EVENTUAL}


class Primitives(ABC):
    """`max_key_bytes` and `max_value_bytes` are the limits that are checked before sending."""

    def __init__(self, max_key_bytes: int = MAX_KEY_BYTES, max_value_bytes: int = MAX_VALUE_BYTES) -> None:
        self.max_key_bytes = max_key_bytes
        self.max_value_bytes = max_value_bytes

    @abstractmethod
    def _write(self, command: bytes, timeout: float | None, large_result: bool) -> "Future[bytes]":
        """The future result of a command (see `GroupWriter.write`)."""

    @abstractmethod
    def _read(self, policy: int, min_revision: int, query: bytes, timeout: float | None) -> "Future[bytes]":
        """The future answer to a query (see `BatchReader.read`)."""

    @abstractmethod
    def _manage(self, operation: str, arguments: bytes, timeout: float | None) -> "Future[bytes]":
        """The future document that a rare operation answers with (see `d_engine.format.requests.Manage`)."""

    @abstractmethod
    def _watches(self) -> WatchTransport:
        """The way to the node, for the running loop."""

    @abstractmethod
    def _one_node(self) -> AbstractAsyncContextManager[NodeAsker]:
        """A way to one node, always the same."""

    def _key(self, key: Text) -> bytes:
        data = key.encode() if isinstance(key, str) else key
        check_key(data, self.max_key_bytes)
        return data

    def _value(self, value: Text) -> bytes:
        data = value.encode() if isinstance(value, str) else value
        check_value(data, self.max_value_bytes)
        return data

    def _ask(
        self, query: bytes, consistency: str, min_revision: int | None, timeout: float | None
    ) -> "Future[bytes]":
        policy = _POLICIES.get(consistency)
        if policy is None:
            raise InvalidRequestError(f"the consistency {consistency!r} is none of {', '.join(_POLICIES)}")
        if min_revision is None:
            min_revision = 0
        elif not 1 <= min_revision <= MAX_U63:
            raise InvalidRequestError(f"min_revision must be at least 1, not {min_revision}")
        if timeout is not None:
            check_timeout(timeout)
        return self._read(policy, min_revision, query, timeout)

    @cached_property
    def _translator(self) -> Translator:
        return Translator(self._key, self._value)


def check_timeout(timeout: float) -> None:
    """Raise `InvalidRequestError` unless this is a number of seconds above 0."""
    if not timeout > 0 or math.isinf(timeout):
        raise InvalidRequestError(f"a time-out must be a finite number of seconds above 0, not {timeout!r}")
