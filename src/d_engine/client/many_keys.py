"""The part of the `Client` interface that is about many keys at once: transactions, ranges, batches."""

import asyncio
from asyncio import Future
from collections.abc import Sequence

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
from d_engine.client.primitives import Primitives, check_timeout
from d_engine.client.translation import encode, outcome_of, result_of
from d_engine.client.writer import SMALL_RESULT_BYTES
from d_engine.format.errors import DEngineError, InvalidRequestError
from d_engine.format.ids import MAX_U63
from d_engine.kv.queries import Count, decode_count, encode_count_range
from d_engine.kv.results import DeleteRangeResult, decode_delete_range, decode_transaction_done
from d_engine.kv.transactions import result_bound


class ManyKeys(Primitives):
    """Inherited by `Client`, which says what errors every method may raise."""

    # --- reading ------------------------------------------------------------------------------------------------

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
        """The entries whose keys lie from `start` up to but without `end`, or begin with `prefix` (all keys, if nothing
        is said), in pages of at most `limit` entries, and at most 8 MiB.

        By rising key; with `reverse` by falling key, the greatest first. `after` begins behind a key, in the direction
        of reading: the last key of an earlier page. With `keys_only` the values are left out (they are b""). `timeout`
        is for each page.

        What holds across pages: *each page is a moment of its own*, and says which (`revision`). With the consistency
        "linearizable" a page sees all that was acknowledged before it was asked for. Revisions never fall from page to
        page, under no policy. A key that exists all the time is seen exactly once, and none twice; of a key that comes,
        goes or changes meanwhile, a page shows what was so at its revision. If all pages have the same revision,
        together they are one moment. For a small range that has to be one, use `scan_prefix`, or `GetRange` in a
        transaction.

        Example::

            async for page in client.range(prefix="job/", limit=100):
                print(page.revision, [entry.key for entry in page.items])
        """
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
        """How many keys there are in a range (see `range`): `Count.count`, at `Count.revision`. Nearly free, however
        many there are.

        Example::

            jobs = await client.count(prefix="job/")
            print(jobs.count, "jobs at revision", jobs.revision)
        """
        query = encode_count_range(*self._translator.range(start, end, prefix))
        return decode_count(await self._ask(query, consistency, min_revision, timeout))

    # --- writing ------------------------------------------------------------------------------------------------

    async def txn(
        self,
        *,
        when: Sequence[Compare] = (),
        then: Sequence[Operation] = (),
        otherwise: Sequence[Operation] = (),
        timeout: float | None = None,
    ) -> TxnResult:
        """If all conditions hold do `then`, else `otherwise`: at once, with nothing of anybody else in between.

        Everything that it writes gets one and the same revision; a transaction that writes nothing has none. Nobody, on
        any node, ever sees a part of it. Operations are done in order, and a read sees what operations before it wrote.
        Done exactly once or not at all, like every write.

        Raises `InvalidRequestError`, and nothing has happened, if two operations of a branch may write the same key; if
        there are more than 128 conditions, or 128 operations in a branch; or if the reads would return more than 1 MiB.
        (One larger entry is fine. A `GetRange` is cut short instead: `Scan.more`.) Transactions that read travel in
        smaller groups, because their results may be large.

        Example::

            ours = await client.get_entry("balance/anna")
            theirs = await client.get_entry("balance/ben")
            if ours and theirs and int(ours.value) >= 10:
                paid = await client.txn(
                    when=[
                        Compare.mod_revision("balance/anna", "==", ours.mod_revision),
                        Compare.mod_revision("balance/ben", "==", theirs.mod_revision),
                    ],
                    then=[
                        Put("balance/anna", str(int(ours.value) - 10)),
                        Put("balance/ben", str(int(theirs.value) + 10)),
                    ],
                    otherwise=[Get("balance/anna"), Get("balance/ben")],
                )
                print("paid" if paid.succeeded else f"somebody was faster: {paid.results}")
        """
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
        """Remove all keys from `start` up to but without `end` (None: to the last key), all at one revision. `deleted`
        of the result says how many there were. Every node is busy with it for about a second for each million keys.

        Example::

            result = await client.delete_range("log/2024", "log/2025")
            print(result.deleted, "entries removed at revision", result.revision)
        """
        return await self._delete(DeleteRange(start=start, end=end), timeout)

    async def delete_prefix(self, prefix: Text, *, timeout: float | None = None) -> DeleteRangeResult:
        """Remove all keys that begin with `prefix` (b"": all keys), as `delete_range` does.

        Example::

            await client.delete_prefix("session/anna/")
        """
        return await self._delete(DeleteRange(prefix=prefix), timeout)

    async def write_batch(
        self, writes: Sequence[Write], *, timeout: float | None = None
    ) -> list[WriteOutcome | DEngineError]:
        """Many writes in one round, without a task for each. They are independent of each other: each has its own
        revision and its own result or error, at its place in the list. A batch is no transaction.

        They are applied in their order, unless some of them fail. `InvalidRequestError` is raised for a mistake in any
        of them, before anything is sent; every other error takes the place of the result that it prevented. A batch of
        more writes than may be under way at once (`max_pending_writes`, 10,000) ends with `OverloadedError` in the
        places of those beyond.

        Example::

            results = await client.write_batch([Put(f"host/{n}", "up") for n in range(100)])
            failed = [result for result in results if isinstance(result, DEngineError)]
            print(len(results) - len(failed), "written")
        """
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

    async def _delete(self, deletion: DeleteRange, timeout: float | None) -> DeleteRangeResult:
        command = self._translator.write(deletion)
        if timeout is not None:
            check_timeout(timeout)
        return decode_delete_range(await self._write(command, timeout, False))

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
