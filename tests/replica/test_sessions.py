"""Exactly once (dissertation, section 6.3; architecture, section 4)."""

from collections.abc import Callable

import pytest

from d_engine.format.errors import SnapshotError, UnknownFormatError
from d_engine.replica.session_codec import decode_sessions, encode_sessions
from d_engine.replica.sessions import (
    MAX_GROUPS_PER_SESSION,
    MAX_RESULT_BYTES_PER_SESSION,
    Session,
    SessionTable,
    Stored,
    Verdict,
)


def stored(checksum: int = 1, revision: int = 1, results: tuple[bytes, ...] = (b"r",)) -> Stored:
    return Stored(checksum, revision, list(results), sum(map(len, results)))


def test_a_session_is_named_by_its_place_in_the_log() -> None:
    table = SessionTable(10)
    assert table.open(7, 0) != table.open(7, 1)
    assert table.open(8, 0) > table.open(7, 2)


def test_a_new_number_is_applied_once_and_answered_from_the_table_afterwards() -> None:
    table = SessionTable(10)
    session = table.open(1, 0)
    assert table.judge(session, 1, 0, 5) == (Verdict.NEW, None)
    table.store(session, 1, stored(5))
    verdict, found = table.judge(session, 1, 0, 5)
    assert verdict is Verdict.KNOWN
    assert found == stored(5)


def test_numbers_are_applied_in_any_order() -> None:
    table = SessionTable(10)
    session = table.open(1, 0)
    for number in (3, 1, 2):
        assert table.judge(session, number, 0, number)[0] is Verdict.NEW
        table.store(session, number, stored(number))
    assert table.judge(session, 1, 0, 1)[0] is Verdict.KNOWN


def test_a_known_number_with_other_commands_is_refused() -> None:
    table = SessionTable(10)
    session = table.open(1, 0)
    table.judge(session, 1, 0, 5)
    table.store(session, 1, stored(5))
    assert table.judge(session, 1, 0, 6) == (Verdict.CHANGED, None)


def test_at_or_below_the_floor_nothing_is_ever_applied() -> None:
    table = SessionTable(10)
    session = table.open(1, 0)
    table.judge(session, 1, 0, 5)
    table.store(session, 1, stored(5))
    assert table.judge(session, 4, 2, 7)[0] is Verdict.NEW
    assert table.judge(session, 1, 0, 5) == (Verdict.PASSED, None)
    assert table.judge(session, 2, 0, 9) == (Verdict.PASSED, None)
    assert table.result(session, 1) is None


def test_the_floor_never_falls() -> None:
    table = SessionTable(10)
    session = table.open(1, 0)
    table.judge(session, 9, 5, 1)
    table.judge(session, 10, 0, 1)
    assert table.judge(session, 5, 0, 1)[0] is Verdict.PASSED


def test_a_client_that_acknowledges_nothing_is_stopped_by_count() -> None:
    table = SessionTable(10)
    session = table.open(1, 0)
    for number in range(1, MAX_GROUPS_PER_SESSION + 1):
        assert table.judge(session, number, 0, 1)[0] is Verdict.NEW
        table.store(session, number, stored())
    assert table.judge(session, 100, 0, 1)[0] is Verdict.FULL
    assert table.judge(session, 101, 1, 1)[0] is Verdict.NEW


def test_a_client_that_acknowledges_nothing_is_stopped_by_size() -> None:
    table = SessionTable(10)
    session = table.open(1, 0)
    table.judge(session, 1, 0, 1)
    table.store(session, 1, stored(results=(bytes(MAX_RESULT_BYTES_PER_SESSION),)))
    assert table.judge(session, 2, 0, 1)[0] is Verdict.FULL
    assert table.judge(session, 3, 1, 1)[0] is Verdict.NEW


def test_the_session_least_recently_used_in_the_log_goes_first() -> None:
    table = SessionTable(2)
    first, second = table.open(1, 0), table.open(2, 0)
    table.judge(first, 1, 0, 1)
    third = table.open(3, 0)
    assert len(table) == 2
    assert table.evicted == 1
    assert table.judge(second, 1, 0, 1) == (Verdict.LOST, None)
    assert table.judge(first, 2, 0, 1)[0] is Verdict.NEW
    assert table.judge(third, 1, 0, 1)[0] is Verdict.NEW


def test_an_unknown_session_is_lost() -> None:
    assert SessionTable(2).judge(99, 1, 0, 1) == (Verdict.LOST, None)


def test_the_table_survives_a_snapshot_with_its_order() -> None:
    table = SessionTable(3)
    sessions = [table.open(index, 0) for index in (1, 2, 3)]
    for session in sessions:
        table.judge(session, 2, 1, 4)
        table.store(session, 2, stored(4, 9, (b"a", b"")))
    table.judge(sessions[0], 3, 1, 4)
    pieces = list(encode_sessions(table.freeze()))
    restored = SessionTable(3)
    restored.replace(decode_sessions(iter(pieces)))
    assert restored.freeze() == table.freeze()
    restored.open(9, 0)
    assert restored.judge(sessions[1], 2, 1, 4)[0] is Verdict.LOST
    assert restored.judge(sessions[0], 2, 1, 4) == (Verdict.KNOWN, Stored(4, 9, [b"a", b""], 1))


def test_a_frozen_table_does_not_change_any_more() -> None:
    table = SessionTable(3)
    session = table.open(1, 0)
    frozen = table.freeze()
    before = list(encode_sessions(frozen))
    table.judge(session, 1, 0, 1)
    table.store(session, 1, stored())
    table.open(2, 0)
    assert frozen == [(session, Session())]
    again = table.freeze()
    table.judge(session, 2, 1, 1)
    assert again[0][1].stored == {1: stored()}
    assert list(encode_sessions(frozen)) == before


def test_a_large_table_is_written_in_small_pieces_and_read_in_any() -> None:
    table = SessionTable(100)
    for index in range(1, 40):
        session = table.open(index, 0)
        for number in range(1, 5):
            table.judge(session, number, 0, number)
            table.store(session, number, stored(number, index, (b"r" * (index * 1000), b"")))
    pieces = list(encode_sessions(table.freeze()))
    assert max(map(len, pieces)) == 64 * 1024
    stream = b"".join(pieces)
    for step in (1 << 30, 65536, 777):
        parts = iter([stream[place : place + step] for place in range(0, len(stream), step)])
        assert decode_sessions(parts) == table.freeze()


@pytest.mark.parametrize(
    "damage",
    [
        lambda stream: b"\xc1" * 40,
        lambda stream: stream[:-1],
        lambda stream: stream + b"\0",
        lambda stream: stream[:8] + b"\x09" + stream[9:],
        lambda stream: b"",
    ],
)
def test_a_damaged_table_is_refused(damage: Callable[[bytes], bytes]) -> None:
    table = SessionTable(3)
    table.open(1, 0)
    stream = b"".join(encode_sessions(table.freeze()))
    with pytest.raises(SnapshotError, match="session"):
        decode_sessions(iter([damage(stream)]))


def test_a_table_of_another_version_is_refused_by_name() -> None:
    stream = bytearray(b"".join(encode_sessions([])))
    stream[4] = 2
    with pytest.raises(UnknownFormatError, match="version 2"):
        decode_sessions(iter([bytes(stream)]))
