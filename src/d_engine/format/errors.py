"""The error tree. Every error of the engine is a `DEngineError` with a stable `code`.

Two families matter most to a caller that wants to try again:

* *not applied* (`NotAppliedError`): the command was in no node's log and in no message. Trying again is safe.
* *outcome unknown* (`OutcomeUnknownError`): the command left the caller's hands and no answer came. It may have been
  applied, or may yet be.

Time-outs are also `TimeoutError`, lost connections also `ConnectionError`, so that code which knows nothing of this
library treats them as it treats its own.
"""


class DEngineError(Exception):
    """Anything that the engine reports. `code` is stable over versions; the text is for people.

    Example::

        try:
            await client.put("k" * 5000, "too long a key")
        except DEngineError as error:
            assert error.code == "invalid_request"
    """

    code = "error"


class InvariantViolation(DEngineError):  # noqa: N818 - the name by which checkers and operators search for it
    """The engine found itself in a state that must not exist. It stops rather than go on. Please report it."""

    code = "invariant_violation"


def check(condition: object, message: str) -> None:
    """Raise `InvariantViolation` unless the condition holds. Unlike `assert` it cannot be switched off."""
    if not condition:
        raise InvariantViolation(message)


# --- what the caller asked for -----------------------------------------------------------------------------------


class NotAppliedError(DEngineError):
    """The command had no effect and never will. It is safe to try again."""

    code = "not_applied"


class InvalidRequestError(NotAppliedError, ValueError):
    """The request can never succeed: a key too long, a limit out of range, a bad argument."""

    code = "invalid_request"


class OverloadedError(NotAppliedError):
    """Too much is waiting. Nothing was appended; try again after a pause."""

    code = "overloaded"


class NoLeaderError(NotAppliedError, TimeoutError):
    """No leader was known within the time-out. The text names the peers that could be reached."""

    code = "no_leader"


class NotAppliedTimeoutError(NotAppliedError, TimeoutError):
    """The time-out passed before the request left this process, or before a read was answered."""

    code = "timeout"


class UnavailableError(NotAppliedError, ConnectionError):
    """No endpoint could be reached, or the node that was asked cannot serve now. Nothing was applied."""

    code = "unavailable"


class DiskFullError(NotAppliedError):
    """The disk has no room for the log. The command was not applied; reads go on; writes do when space returns."""

    code = "disk_full"


class LeaseNotFoundError(NotAppliedError):
    """The lease does not exist (any more): it expired, was revoked, or never was. Grant a new one."""

    code = "lease_not_found"


class LeaseLimitError(NotAppliedError):
    """There are too many leases, or too many keys hang on this one. The text names the limit."""

    code = "lease_limit"


class ViewLimitError(NotAppliedError):
    """The node keeps as many pinned views as it may. Close one, or try later."""

    code = "view_limit"


class ViewExpiredError(NotAppliedError):
    """The node does not keep the pinned view any more: its time is over, or the node was restarted. Open a new one."""

    code = "view_expired"


class OutcomeUnknownError(DEngineError):
    """The command was sent and its result cannot be learned. It may or may not have been applied."""

    code = "outcome_unknown"


class OutcomeUnknownTimeoutError(OutcomeUnknownError, TimeoutError):
    """The command was sent and no result came within the time-out. It may have been applied, or may yet be."""

    code = "outcome_unknown_timeout"


class SessionLostError(OutcomeUnknownError):
    """The client's session is gone, so whether the command was applied can no longer be learned. A new session is
    opened for what comes next; nothing is sent again under it."""

    code = "session_lost"


# --- watches -----------------------------------------------------------------------------------------------------


class WatchLimitError(OverloadedError):
    """There are as many watches as this node, or this client, may have. The text says which limit."""

    code = "watch_limit"


class CompactedError(DEngineError):
    """The events that were asked for are not kept any more. `oldest` is the lowest revision that a watch may go on
    from; 0 if it is not known. Read the state, and watch from its revision."""

    code = "compacted"

    def __init__(self, message: str, oldest: int = 0) -> None:
        super().__init__(message)
        self.oldest = oldest


class WatchLaggedError(DEngineError):
    """The watcher took its events too slowly: those behind `last_revision` were dropped before it came to them. All
    events up to there were delivered. Read the state, and watch from its revision."""

    code = "watch_lagged"

    def __init__(self, message: str, last_revision: int = 0) -> None:
        super().__init__(message)
        self.last_revision = last_revision


# --- configuration and membership --------------------------------------------------------------------------------


class ConfigError(DEngineError, ValueError):
    """The configuration cannot be used. The text names the key, the value and what is allowed."""

    code = "config"


class MembershipError(NotAppliedError):
    """The change of members was refused: the text says why and what is pending."""

    code = "membership"


class ChangePendingError(MembershipError):
    """Another change of members is under way. Wait for it, then try again."""

    code = "change_pending"


class IdentityError(DEngineError):
    """This node is not who the cluster thinks it is, or belongs to another cluster. It stops."""

    code = "identity"


class ClusterIdMismatchError(IdentityError):
    """The two sides belong to different clusters."""

    code = "cluster_id_mismatch"


class IncarnationMismatchError(IdentityError):
    """The member is known under another data directory: its disk was wiped or replaced."""

    code = "incarnation_mismatch"


class NotMemberError(IdentityError):
    """The node is not a member of the cluster: it was removed, or never added."""

    code = "not_member"


# --- storage -----------------------------------------------------------------------------------------------------


class StorageError(DEngineError):
    """The data directory or the disk under it failed."""

    code = "storage"


class DiskError(StorageError):
    """A write or a sync failed. A sync is never tried again: the node stops, and is safe to restart."""

    code = "disk"


class CorruptionError(StorageError):
    """Data that had been synced does not read back as written. Nothing was cut off or repaired."""

    code = "corruption"


class UnknownFormatError(StorageError):
    """A file has a format version that this release does not know."""

    code = "unknown_format"


class DataDirectoryError(StorageError):
    """The directory cannot be used: it is not ours, not writable, or belongs to another node."""

    code = "data_directory"


class DataDirectoryLockedError(DataDirectoryError):
    """Another process uses the directory."""

    code = "data_directory_locked"


class SnapshotError(StorageError):
    """A snapshot cannot be read, written or installed. The text names the file and the section."""

    code = "snapshot"


# --- wires -------------------------------------------------------------------------------------------------------


class ProtocolError(DEngineError, ConnectionError):
    """The other side sent something that this protocol does not contain. The connection is closed."""

    code = "protocol"


class MalformedError(ProtocolError):
    """Bytes that do not decode: bad magic, length out of bounds, bad checksum, value out of range."""

    code = "malformed"


class UnsupportedVersionError(ProtocolError):
    """The other side speaks a version of the protocol that this release does not."""

    code = "unsupported_version"


class AddressInUseError(DEngineError, OSError):
    """The listen address is taken. The text names it."""

    code = "address_in_use"


class ListenError(DEngineError, OSError):
    """The listen address cannot be used: it does not resolve, is not ours, or is not allowed."""

    code = "listen"


# --- life cycle --------------------------------------------------------------------------------------------------


class EngineStoppedError(NotAppliedError):
    """The engine is stopped, or stopped while the call waited. `cause` tells why when it did not stop by request."""

    code = "engine_stopped"

    def __init__(self, message: str = "the engine is stopped", cause: BaseException | None = None) -> None:
        super().__init__(message if cause is None else f"{message}: {cause}")
        self.cause = cause


class ForkedError(DEngineError):
    """The process was forked: the child's copy of the engine has no threads and no sockets. Start one of its own."""

    code = "forked"


def _by_code(error: type[DEngineError]) -> dict[str, type[DEngineError]]:
    found = {error.code: error}
    for child in error.__subclasses__():
        found.update(_by_code(child))
    return found


ERRORS_BY_CODE: dict[str, type[DEngineError]] = _by_code(DEngineError)


def error_from_code(code: str, text: str) -> DEngineError:
    """The error that another node named by its code. A code of a later release becomes a plain `DEngineError`."""
    return ERRORS_BY_CODE.get(code, DEngineError)(text)
