"""The default state machine: commands in, results out, and a store between them.

It is a pure function of the log: the same commands give the same results and the same digest on every replica, under
every hash seed. A command that cannot be read has no effect and gets a result that says why.
"""

import hashlib
from collections.abc import Callable, Generator, Iterator, Sequence

from d_engine.format.errors import (
    InvalidRequestError,
    InvariantViolation,
    LeaseLimitError,
    LeaseNotFoundError,
    MalformedError,
)
from d_engine.format.ids import Nanoseconds
from d_engine.format.state_machine import ApplyContext, Replacement, at_once, no_log_time
from d_engine.kv import results as result_codec
from d_engine.kv.commands import HEAD, PUT, Command, Delete, DeleteRange, Put, decode_command
from d_engine.kv.history import History
from d_engine.kv.key_value import KeyValue
from d_engine.kv.lease_commands import LeaseCommand, encode_expire
from d_engine.kv.leasing import change_leases, put_held
from d_engine.kv.queries import answer_query
from d_engine.kv.results import RESULT, UNCHANGED, WRITTEN
from d_engine.kv.snapshot import SnapshotReader, write_pieces
from d_engine.kv.store import Store, StoreView
from d_engine.kv.successor import Successor
from d_engine.kv.transacting import transact
from d_engine.kv.transactions import Transaction

_DIGEST_BYTES = 16


class KvStateMachine:
    """A `d_engine.format.state_machine.StateMachine`. `store` is there to be read: see its module for what any thread
    may do."""

    def __init__(self) -> None:
        self.store = Store()
        self.clock: Callable[[], Nanoseconds] = no_log_time

    @property
    def revision(self) -> int:
        """Of the last command that wrote."""
        return self.store.revision

    @property
    def history(self) -> History:
        """Its last writes, for watchers."""
        return self.store.history

    def apply(self, commands: Sequence[bytes], context: ApplyContext) -> list[bytes]:
        """Carry the commands out, in order; one result for each."""
        store = self.store
        put, unpack_head, pack_result, head_size = store.put, HEAD.unpack_from, RESULT.pack, HEAD.size
        results: list[bytes] = []
        append = results.append
        for command in commands:
            size = len(command)
            if size >= head_size:
                # The plain put is read here, everything else by the codec: most commands are plain puts, and making
                # an object of each would cost a third of the rest again.
                kind, flags, key_length = unpack_head(command)
                value_at = head_size + key_length
                if kind == PUT and not flags and value_at <= size:
                    put(command[head_size:value_at], command[value_at:])
                    append(pack_result(WRITTEN, store.revision))
                    continue
            append(self._apply_other(command, context.log_time))
        store.history.seal(store.revision, context.log_time, sum(map(len, commands)))
        return results

    @property
    def deadline(self) -> Nanoseconds | None:
        """When the first lease ends (`d_engine.format.state_machine.TimedStateMachine`)."""
        return self.store.leases.deadline

    def due(self, log_time: Nanoseconds) -> list[bytes]:
        """The ends of leases whose time has come."""
        return [encode_expire(lease.id, lease.deadline) for lease in self.store.leases.due(log_time)]

    def query(self, request: bytes) -> bytes:
        """Answer an encoded query (see `d_engine.kv.queries`)."""
        return answer_query(self.store, request, self.clock)

    def view(self) -> StoreView:
        """The state as it is now, for ever."""
        return self.store.view()

    def chunks(self, view: object) -> Iterator[bytes]:
        """The view's bytes, in pieces of at most 64 KiB, each made when it is asked for. Safe on any thread."""
        if not isinstance(view, StoreView):
            raise InvariantViolation(f"a {type(view).__name__} is no view of this state machine")
        return write_pieces(view)

    def restore(self, source: Iterator[bytes]) -> None:
        """Become the state that was written. After a `SnapshotError` or `UnknownFormatError` nothing has changed."""
        at_once(self.restoring(source))()

    def restoring(self, source: Iterator[bytes]) -> Generator[None, None, Replacement]:
        """The same in steps (see `d_engine.format.state_machine.GradualStateMachine`)."""
        reader, successor = SnapshotReader(), Successor()
        for piece in source:
            reader.feed(piece)
            successor.load(reader.take())
            yield
        revision, leases = reader.finish()
        return lambda: self.store.become(revision, successor, leases)

    def recovered(self, revisions: int, log_time: Nanoseconds) -> None:
        """The state goes on in a new cluster (see `d_engine.format.state_machine.RecoverableState`)."""
        store = self.store
        leases = store.leases.anew(revisions, log_time)
        store.become(store.revision + revisions, Successor(tuple(store.scan())), leases)

    def digest(self) -> bytes:
        """A hash of the whole state. Reads all of it: not for every second."""
        digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
        for piece in write_pieces(self.store):
            digest.update(piece)
        return digest.digest()

    def _apply_other(self, data: bytes, log_time: Nanoseconds) -> bytes:
        try:
            return self._carry_out(decode_command(data), log_time)
        except (MalformedError, InvalidRequestError) as error:
            return result_codec.encode_invalid(str(error))
        except (LeaseNotFoundError, LeaseLimitError) as error:
            return result_codec.encode_refused(error)

    def _carry_out(self, command: Command, log_time: Nanoseconds) -> bytes:
        store = self.store
        if isinstance(command, Transaction):
            return result_codec.encode_transaction_done(transact(store, command, log_time))
        if isinstance(command, LeaseCommand):
            return change_leases(store, command, log_time)
        if isinstance(command, Put):
            previous = put_held(store, command, log_time)
            return self._written(previous if command.want_previous else None)
        if isinstance(command, Delete):
            previous = store.delete(command.key)
            if previous is None:
                return RESULT.pack(UNCHANGED, store.revision)
            return self._written(previous if command.want_previous else None)
        if isinstance(command, DeleteRange):
            count = store.delete_range(command.start, command.end)
            return result_codec.encode_range_deleted(store.revision, count)
        if not store.holds(command.key, command.expected):
            return RESULT.pack(UNCHANGED, store.revision)
        put_held(store, command, log_time)
        return self._written(None)

    def _written(self, previous: KeyValue | None) -> bytes:
        """The result of the write that was just made."""
        if previous is None:
            return RESULT.pack(WRITTEN, self.store.revision)
        return result_codec.encode_with_previous(self.store.revision, previous)
