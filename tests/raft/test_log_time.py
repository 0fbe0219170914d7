"""From which log time a new leader goes on (architecture, section 7): from that of its own log, and of none else.

Else a key could go early. A leader that is cut off from the others runs on; its successor, who has not heard of that,
starts lower and grants leases by the lower clock; then somebody leads who has those leases in its log, and has heard
the first one's time.
"""

from d_engine.format.entry import Entry, EntryKind
from d_engine.format.ids import Nanoseconds, NodeId, Term
from d_engine.format.messages import AppendRequest, Heartbeat, InstallSnapshot, SnapshotMeta
from tests.raft.lone_node import LoneNode, configuration_of


def timed(index: int, term: Term, log_time: Nanoseconds) -> Entry:
    return Entry.create(EntryKind.COMMANDS, term, index, log_time, [b"x"], 1)


def append(node: LoneNode, leader: NodeId, term: Term, prev_term: Term, *entries: Entry) -> None:
    node.receive(leader, AppendRequest(term, entries[0].index - 1, prev_term, 1, entries))


def test_it_goes_on_from_its_last_entry_or_what_the_leader_said_since() -> None:
    node = LoneNode((1,))
    append(node, 2, 2, 1, timed(2, 2, 500))
    assert node.raft.highest_log_time == 500
    node.receive(2, Heartbeat(2, 1, 1, 800))
    assert node.raft.highest_log_time == 800
    append(node, 2, 2, 2, timed(3, 2, 700))
    assert node.raft.highest_log_time == 800


def test_what_the_leader_of_another_term_said_is_forgotten() -> None:
    node = LoneNode((1,))
    append(node, 2, 2, 1, timed(2, 2, 500))
    node.receive(2, Heartbeat(2, 1, 1, 9000))
    append(node, 3, 3, 2, timed(3, 3, 600))
    assert node.raft.highest_log_time == 600


def test_a_leader_of_whom_the_log_has_nothing_yet_does_not_count() -> None:
    """What this log holds may have been granted by a clock that stood behind this leader's."""
    node = LoneNode((1,))
    append(node, 2, 2, 1, timed(2, 2, 500))
    node.receive(3, Heartbeat(3, 1, 1, 9000))
    assert node.raft.highest_log_time == 500


def test_a_suffix_that_is_cut_off_takes_its_log_time_with_it() -> None:
    node = LoneNode((1,))
    append(node, 2, 2, 1, timed(2, 2, 500), timed(3, 2, 9000))
    append(node, 3, 4, 1, timed(2, 3, 400), timed(3, 4, 600))
    assert node.raft.highest_log_time == 600


def test_so_does_a_log_that_a_snapshot_replaces() -> None:
    node = LoneNode((1,))
    append(node, 2, 2, 1, timed(2, 2, 9000))
    meta = SnapshotMeta(10, 3, configuration_of((1, 2, 3)))
    node.receive(3, InstallSnapshot(3, meta))
    assert node.raft.snapshot_installed(meta, node.now)
    node.raft.set_log_time(700)
    assert node.raft.highest_log_time == 700


def test_what_this_node_counted_when_it_led_is_forgotten_with_the_next_leader() -> None:
    node = LoneNode((1,))
    node.lead()
    node.raft.set_log_time(9000)
    assert node.raft.highest_log_time == 9000
    append(node, 2, 9, 2, timed(3, 9, 300))
    assert node.raft.highest_log_time == 300


def test_log_time_never_falls_along_the_log() -> None:
    node = LoneNode((1,))
    append(node, 2, 2, 1, timed(2, 2, 500))
    node.lead()
    assert node.raft.propose([b"x"], 1, 3, node.now).log_time == 500
