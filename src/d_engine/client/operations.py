"""What goes into transactions and batches, and what comes out: plain values, which clients translate into commands.

The result of an operation is what the client's method of the same name returns.
"""

from typing import Literal, TypeAlias

from msgspec import Struct

from d_engine.client.lease import Lease
from d_engine.kv.key_value import KeyValue
from d_engine.kv.queries import Scan
from d_engine.kv.results import DeleteRangeResult, DeleteResult

Consistency: TypeAlias = Literal["linearizable", "lease", "eventual"]
Text: TypeAlias = bytes | str
"""A key or a value: bytes, or text that is stored as UTF-8. What comes back is always bytes."""
Relation: TypeAlias = Literal["==", "!=", "<", ">"]


class WriteResult(Struct, frozen=True, gc=False):
    """`revision` is that of the write; `previous` the entry that it replaced, if that was asked for and existed.

    Example::

        written = await client.put("greeting", "hello", previous=True)
        print(written.revision, "nothing" if written.previous is None else written.previous.value)
    """

    revision: int
    previous: KeyValue | None = None


class Compare(Struct, frozen=True):
    """A condition of a transaction, about one key. Made by the methods below.

    Of a key that does not exist, version, revisions and lease are 0, and the value is not equal ("!=") to anything and
    neither less nor greater. Values are ordered as bytes; leases are equal or not.

    Example::

        await client.txn(
            when=[Compare.version("seat/12", "==", 0), Compare.value("sale", "!=", "closed")],
            then=[Put("seat/12", "taken")],
        )
    """

    key: Text
    target: Literal["value", "version", "create_revision", "mod_revision", "lease"]
    relation: Relation
    operand: Text | int

    @classmethod
    def value(cls, key: Text, relation: Relation, operand: Text) -> "Compare":
        """Its value."""
        return cls(key, "value", relation, operand)

    @classmethod
    def version(cls, key: Text, relation: Relation, operand: int) -> "Compare":
        """How often it was written since its creation; 0: it does not exist."""
        return cls(key, "version", relation, operand)

    @classmethod
    def create_revision(cls, key: Text, relation: Relation, operand: int) -> "Compare":
        """The revision at which it was created."""
        return cls(key, "create_revision", relation, operand)

    @classmethod
    def mod_revision(cls, key: Text, relation: Relation, operand: int) -> "Compare":
        """The revision that wrote it last. Equal to that of an entry read before: nobody has written it since."""
        return cls(key, "mod_revision", relation, operand)

    @classmethod
    def lease(cls, key: Text, relation: Literal["==", "!="], operand: int) -> "Compare":
        """The lease that it hangs on; 0: none."""
        return cls(key, "lease", relation, operand)

    @classmethod
    def exists(cls, key: Text) -> "Compare":
        """It exists."""
        return cls(key, "version", ">", 0)

    @classmethod
    def absent(cls, key: Text) -> "Compare":
        """It does not exist."""
        return cls(key, "version", "==", 0)


class Put(Struct, frozen=True):
    """Set the key to the value; `lease`, `ttl` and `keep_lease` as of `Client.put`. Result: `WriteResult`.

    Example::

        done = await client.txn(then=[Put("greeting", "hello"), Put("session/anna/2", "token", ttl=2.5)])
        assert [written.revision for written in done.results] == [done.revision, done.revision]
    """

    key: Text
    value: Text
    lease: Lease | int | None = None
    ttl: float | None = None
    keep_lease: bool = False


class Delete(Struct, frozen=True, gc=False):
    """Remove the key, if it exists. Result: `DeleteResult`.

    Example::

        done = await client.txn(then=[Delete("job/1"), Put("done/1", "sweep")])
        assert done.results[0].deleted
    """

    key: Text


class DeleteRange(Struct, frozen=True, kw_only=True, gc=False):
    """Remove all keys from `start` up to but without `end` (None: to the last key), or all that begin with `prefix`.
    Result: `DeleteRangeResult`.

    Example::

        done = await client.txn(
            when=[Compare.exists("job/1")],
            then=[DeleteRange(prefix="session/anna/"), DeleteRange(start="log/2024", end="log/2025")],
        )
        print(done.results[0].deleted, "sessions ended")
    """

    start: Text | None = None
    end: Text | None = None
    prefix: Text | None = None


class Get(Struct, frozen=True, gc=False):
    """Read the key. Result: its `KeyValue`, None if it does not exist.

    Example::

        done = await client.txn(then=[Put("greeting", "hello"), Get("greeting"), Get("nobody wrote this")])
        assert done.results[1].value == b"hello" and done.results[2] is None
    """

    key: Text


class GetRange(Struct, frozen=True, kw_only=True, gc=False):
    """Read the first entries, at most `limit` (1 to 1000), from `start` up to but without `end`, or of those that begin
    with `prefix`. Result: `Scan`.

    Example::

        done = await client.txn(then=[GetRange(prefix="balance/"), Get("job/1")])
        balances = done.results[0]
        print([(entry.key, entry.value) for entry in balances.items], "and more" if balances.more else "")
    """

    start: Text | None = None
    end: Text | None = None
    prefix: Text | None = None
    limit: int = 100


Write: TypeAlias = Put | Delete | DeleteRange
Operation: TypeAlias = Write | Get | GetRange
WriteOutcome: TypeAlias = WriteResult | DeleteResult | DeleteRangeResult
OperationResult: TypeAlias = WriteOutcome | KeyValue | Scan | None


class TxnResult(Struct, frozen=True):
    """What became of a transaction.

    `succeeded`: all conditions held, and the operations of `then` were done; else those of `otherwise`. `results` has
    one result for each of them, in their order. `revision` is the one at which everything was written; if nothing was,
    it is the store's.

    Example::

        taken = await client.txn(
            when=[Compare.absent("seat/12")], then=[Put("seat/12", "anna")], otherwise=[Get("seat/12")]
        )
        print("hers" if taken.succeeded else f"taken by {taken.results[0].value}", taken.revision)
    """

    succeeded: bool
    revision: int
    results: tuple[OperationResult, ...]
