"""Transactions, ranges and batches in terms of the primitives of `d_engine.client.base`."""

import asyncio
from abc import abstractmethod
from asyncio import Future
from collections.abc import Sequence
from functools import cached_property

from d_engine.client.cluster import ClusterClient, check_timeout
from d_engine.client.operations import (
    Compare,
    Consistency,
    DeleteRange,
    Operation,
    Text,
    TxnResult,
    Write,
    WriteOutcome,
)
from d_engine.client.pager import RangePager
from d_engine.client.translation import Translator, encode, outcome_of, result_of
from d_engine.client.writer import SMALL_RESULT_BYTES
from d_engine.format.errors import DEngineError, InvalidRequestError
from d_engine.format.ids import MAX_U63
from d_engine.kv.queries import Count, decode_count, encode_count_range
from d_engine.kv.results import DeleteRangeResult, decode_delete_range, decode_transaction_done
from d_engine.kv.transactions import result_bound


class ManyKeysClient(ClusterClient):
    """Implements this part of `Client`."""

    @abstractmethod
    def _key(self, key: Text) -> bytes:
        """The key as bytes, checked."""

    @abstractmethod
    def _value(self, value: Text) -> bytes:
        """The value as bytes, checked."""

    @abstractmethod
    def _write(self, command: bytes, timeout: float | None, large_result: bool) -> "Future[bytes]":
        """The future result of a command (see `GroupWriter.write`)."""

    @abstractmethod
    def _ask(
        self, query: bytes, consistency: str, min_revision: int | None, timeout: float | None
    ) -> "Future[bytes]":
        """The future answer to a query."""

    @cached_property
    def _translator(self) -> Translator:
        return Translator(self._key, self._value)

    def range(
        self,
        *,
        start: Text | None = None,
        end: Text | None = None,
        prefix: Text | None = None,
        after: Text | None = None,
        limit: int = 1000,
        reverse: bool = False,
        keys_only: bool = False,
        consistency: Consistency = "linearizable",
        min_revision: int | None = None,
        timeout: float | None = None,
    ) -> RangePager:
        if not 1 <= limit <= MAX_U63:
            raise InvalidRequestError(f"a page's limit must be at least 1, not {limit}")

        def ask(query: bytes, seen: int | None) -> "Future[bytes]":
            # Nodes may be asked in turn: without this, an eventual read could step back between two pages.
            behind = seen is not None and consistency == "eventual"
            return self._ask(query, consistency, seen if behind else min_revision, timeout)

        first, last = self._translator.range(start, end, prefix)
        pager = RangePager(ask, first, last, limit, reverse, keys_only)
        if after is not None:
            pager.skip_to(self._key(after))
        return pager

    async def count(
        self,
        *,
        start: Text | None = None,
        end: Text | None = None,
        prefix: Text | None = None,
        consistency: Consistency = "linearizable",
        min_revision: int | None = None,
        timeout: float | None = None,
    ) -> Count:
        query = encode_count_range(*self._translator.range(start, end, prefix))
        return decode_count(await self._ask(query, consistency, min_revision, timeout))

    async def txn(
        self,
        *,
        when: Sequence[Compare] = (),
        then: Sequence[Operation] = (),
        otherwise: Sequence[Operation] = (),
        timeout: float | None = None,
    ) -> TxnResult:
        transaction = self._translator.transaction(when, then, otherwise)
        command = encode(transaction)
        if timeout is not None:
            check_timeout(timeout)
        bound = result_bound(transaction)
        large = bound is None or bound > SMALL_RESULT_BYTES
        return result_of(decode_transaction_done(await self._write(command, timeout, large), transaction))

    async def delete_range(
        self, start: Text, end: Text | None, *, timeout: float | None = None
    ) -> DeleteRangeResult:
        return await self._delete(DeleteRange(start=start, end=end), timeout)

    async def delete_prefix(self, prefix: Text, *, timeout: float | None = None) -> DeleteRangeResult:
        return await self._delete(DeleteRange(prefix=prefix), timeout)

    async def _delete(self, deletion: DeleteRange, timeout: float | None) -> DeleteRangeResult:
        command = self._translator.write(deletion)
        if timeout is not None:
            check_timeout(timeout)
        return decode_delete_range(await self._write(command, timeout, False))

    async def write_batch(
        self, writes: Sequence[Write], *, timeout: float | None = None
    ) -> list[WriteOutcome | DEngineError]:
        commands = list(map(self._translator.write, writes))
        if timeout is not None:
            check_timeout(timeout)
        pending = [self._begin(command, timeout) for command in commands]
        futures = [future for future in pending if isinstance(future, Future)]
        try:
            if futures:
                await asyncio.wait(futures)
        except asyncio.CancelledError:
            for future in futures:
                if not future.cancel():
                    future.exception()  # so that nobody complains that it was never looked at
            raise
        return [_outcome(write, result) for write, result in zip(writes, pending, strict=True)]

    def _begin(self, command: bytes, timeout: float | None) -> "Future[bytes] | DEngineError":
        try:
            return self._write(command, timeout, False)
        except DEngineError as error:
            return error


def _outcome(write: Write, result: "Future[bytes] | DEngineError") -> WriteOutcome | DEngineError:
    try:
        return result if isinstance(result, DEngineError) else outcome_of(write, result.result())
    except DEngineError as error:
        return error
