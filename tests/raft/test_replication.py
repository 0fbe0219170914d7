"""Replication and snapshots: a test for each rule of the architecture's section 3; figure 2 has a file of its own."""

import pytest

from d_engine.format.errors import InvariantViolation
from d_engine.format.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    SnapshotMeta,
)
from d_engine.raft.settings import RaftSettings
from tests.raft.lone_node import LoneNode, command, commands, configuration_of


def test_appends_are_pipelined_within_limits() -> None:
    """Section 3, pipelined replication with flow control: by messages, and by bytes."""
    entry_bytes = command(1, 1).size
    for limits in ({"max_in_flight_messages": 2}, {"max_in_flight_bytes": 2 * entry_bytes}):
        node = LoneNode((1,), settings=RaftSettings(1, 101, max_append_bytes=1, **limits))
        node.lead()
        node.accept(2)
        for _ in range(5):
            node.raft.propose([b"x"], 1, 0, node.now)

        sends = [message for to, message in node.turn() if to == 2 and isinstance(message, AppendRequest)]
        assert [request.prev_index for request in sends] == [2, 3], limits
        more = [
            message for to, message in node.accept(2, 3) if to == 2 and isinstance(message, AppendRequest)
        ]
        assert [request.prev_index for request in more] == [4], limits


def test_lost_append_is_noticed_by_an_echo() -> None:
    """Section 3, flow control; scenarios `lost_append`, `lost_probe`."""
    node = LoneNode((1,))
    node.lead()
    node.raft.propose([b"x"], 1, 0, node.now)
    node.turn()
    node.wait(100)

    asked = node.receive(2, HeartbeatResponse(2, 1))
    assert [m.prev_index for _, m in asked if isinstance(m, AppendRequest)] == [3]
    again = node.receive(2, AppendResponse(2, 0, 3, 2, 2))
    assert [(m.prev_index, len(m.entries)) for _, m in again if isinstance(m, AppendRequest)] == [(2, 1)]


def test_full_window_of_lost_appends_behind_a_compaction_ends_in_a_snapshot() -> None:
    """Section 3, flow control. The window lets nothing through, so only the echo can find out."""
    settings = RaftSettings(1, 101, max_append_bytes=1, max_in_flight_messages=1)
    node = LoneNode((1,), settings=settings)
    node.lead()
    node.accept(2)
    node.accept(3)
    for _ in range(3):
        node.raft.propose([b"x"], 1, 0, node.now)
        node.turn()
        node.accept(3)
    node.raft.applied(node.raft.commit_index, node.now)
    meta = node.raft.snapshot_meta(node.raft.commit_index)
    assert meta is not None
    node.raft.snapshot_taken(meta)
    node.raft.compacted(meta.index)
    node.wait(100)

    asked = node.receive(2, HeartbeatResponse(2, 1))
    assert [to for to, message in asked if isinstance(message, InstallSnapshot)] == [2]


def test_nothing_committed_is_ever_cut_off() -> None:
    """Section 3: the core stops rather than cut off a committed entry (I8, I13)."""
    node = LoneNode((1, 1, 1))
    node.receive(2, AppendRequest(1, 3, 1, 3))

    node.receive(3, AppendRequest(5, 1, 1, 0, commands(2, (5, 5))))
    assert node.terms == [1, 1, 1]
    with pytest.raises(InvariantViolation):
        node.raft._state.log.truncate(3)


def test_two_leaders_in_a_term_stop_the_node() -> None:
    """Section 3; I1: at most one leader per term, for all time."""
    node = LoneNode((1,))
    node.follow(leader=2)

    with pytest.raises(InvariantViolation):
        node.receive(3, Heartbeat(1, 1, 0, 0))


def test_append_before_the_snapshot_is_no_conflict() -> None:
    """Section 3, snapshot install; scenario `prev_compacted`."""
    node = LoneNode((1, 1, 1, 1))
    node.follow()
    node.receive(2, AppendRequest(1, 4, 1, 4))
    meta = node.raft.snapshot_meta(4)
    assert meta is not None
    node.raft.snapshot_taken(meta)
    node.raft.compacted(4)

    sends = node.receive(2, AppendRequest(1, 1, 1, 4, commands(2, (1, 1, 1, 1))))

    assert sends == [(2, AppendResponse(1, 5))]


def test_snapshot_is_acknowledged_when_the_new_log_is_durable() -> None:
    """Section 3, snapshot install; scenario `install_snapshot`."""
    node = LoneNode((1,))
    meta = SnapshotMeta(9, 3, configuration_of((1, 2, 3)))
    node.receive(2, InstallSnapshot(4, meta))
    assert node.gathered.install is not None
    node.auto_persist = False

    assert node.raft.snapshot_installed(meta, node.now)
    node.disk.reset(meta)
    assert node.turn() == []
    assert node.persist() == [(2, AppendResponse(4, 9))]
    assert (node.raft.commit_index, node.raft.applied_index, node.raft.last_index) == (9, 9, 9)


def test_late_snapshot_is_ignored() -> None:
    """Section 3, snapshot install; scenarios `late_snapshot`, `snapshot_overtaken`."""
    node = LoneNode((1, 1, 1))
    node.receive(2, AppendRequest(1, 3, 1, 3))

    assert not node.raft.snapshot_installed(SnapshotMeta(2, 1, configuration_of((1, 2))), node.now)
    assert node.raft.configuration.voters == (1, 2, 3)
