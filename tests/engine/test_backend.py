"""What clients may send must not end a node."""

import pytest

from d_engine.engine.backend import NodeBackend
from d_engine.engine.config_sections import LimitsConfig
from d_engine.format.errors import DEngineError, InvalidRequestError
from tests.engine.quiet_node import quiet_replica


@pytest.fixture
def backend() -> NodeBackend:
    return NodeBackend(quiet_replica(), lambda count: 0, LimitsConfig())


def never(document: bytes, error: DEngineError | None) -> None:
    raise AssertionError("an answer to a request that was refused")


@pytest.mark.parametrize(
    "arguments", [b"", b"\xff", b'{"to": "\xff"}', b'{"to": "x"}', b'{"more": 1}', b"[]", b"{"]
)
def test_arguments_that_do_not_fit_are_refused(backend: NodeBackend, arguments: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        backend.manage("transfer", arguments, 1, never)


@pytest.mark.parametrize("operation", ["", "shutdown", "status\x00"])
def test_operations_that_do_not_exist_are_refused(backend: NodeBackend, operation: str) -> None:
    with pytest.raises(InvalidRequestError, match="operation"):
        backend.manage(operation, b"{}", 1, never)


@pytest.mark.parametrize(
    "arguments",
    [
        b"{}",
        b'{"changes": []}',
        b'{"changes": [{"kind": "remove"}]}',
        b'{"changes": [{"kind": "remove", "id": 0}]}',
        b'{"changes": [{"kind": "add_learner", "id": 1, "incarnation": -1}]}',
        b'{"changes": [{"id": 1}]}',
    ],
)
def test_a_member_must_be_named(backend: NodeBackend, arguments: bytes) -> None:
    with pytest.raises(InvalidRequestError, match="do not fit"):
        backend.manage("change", arguments, 1, never)


def test_a_successor_must_be_named(backend: NodeBackend) -> None:
    with pytest.raises(InvalidRequestError, match="to"):
        backend.manage("transfer", b"{}", 1, never)


def test_questions_are_answered_at_once(backend: NodeBackend) -> None:
    documents: list[bytes] = []
    for operation in ("status", "members", "leader"):
        backend.manage(operation, b"{}", 1, lambda document, error: documents.append(document))
    assert len(documents) == 3
    assert documents[2] == b"null"
