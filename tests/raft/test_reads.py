"""Leases: a test for each rule of the architecture's section 6; reads are in `test_core` and the scenarios."""

from d_engine.format.messages import (
    HeartbeatResponse,
)
from tests.raft.lone_node import LoneNode, configuration_of


def test_lease_runs_from_the_sending_of_the_round() -> None:
    """Section 6, leases; scenario `lease`."""
    node = LoneNode((1,), configuration=configuration_of((1, 2, 3), lease_reads=True))
    node.now += 10**9
    node.lead()
    node.wait(100)
    sent_at = node.now
    node.now += 80_000_000
    node.receive(2, HeartbeatResponse(2, node.raft._state.leading.rounds.number))  # type: ignore[union-attr]

    assert sent_at + 450_000_000 - 1 < node.raft.lease_deadline
    assert node.raft.lease_deadline <= sent_at + 450_000_000


def test_no_lease_once_a_transfer_was_started() -> None:
    """Section 6, leases; scenario `lease_ends_with_transfer`."""
    node = LoneNode((1,), configuration=configuration_of((1, 2, 3), lease_reads=True))
    node.now += 10**9
    node.lead()
    assert node.now < node.raft.lease_deadline

    node.raft.transfer(2, node.now)

    assert node.raft.lease_deadline <= node.now
