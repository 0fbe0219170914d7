"""Whatever a group holds - transactions, batches, leases, deletions of ranges - and whatever happens to those who have
it: asked for again it is applied once, with one answer (architecture, section 4; docs/design/writes.md)."""

import random
from collections.abc import Callable

import pytest

from d_engine.format.group import encode_group
from d_engine.format.state_machine import ApplyContext
from d_engine.kv import transactions as kv
from d_engine.kv.commands import (
    encode_compare_and_swap,
    encode_delete,
    encode_delete_range,
    encode_held_put,
    encode_put,
    encode_transaction,
)
from d_engine.kv.holding import ON_LEASE, WITH_TTL
from d_engine.kv.lease_commands import encode_grant, encode_keep_alive, encode_revoke
from d_engine.kv.machine import KvStateMachine
from d_engine.kv.ranges import prefix_end
from d_engine.replica.outcome import GroupOutcome
from tests.replica.small_cluster import OFTEN, Cluster, Node

HOUR = 3600 * 10**9
PREFIX = b"k/"
KEYS = [PREFIX + b"%d" % number for number in range(6)]


class Client:
    """One that never gives up, and a state machine to which everything that it asks for happens once."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.cluster = Cluster(3, OFTEN)
        self.cluster.elect()
        self.model = KvStateMachine()
        self.sessions = [self.cluster.open_session(), self.cluster.open_session()]
        self.numbers = [0, 0]
        self.written = 0
        self.pending = b""

    # --- what is asked for ---

    def commands(self) -> list[bytes]:
        """A group that shows in its results and in the state if it happened twice."""
        make = self.rng.choice((self.transaction, self.batch, self.leases, self.ranges))
        return make()

    def transaction(self) -> list[bytes]:
        one, two, three = self.rng.sample(KEYS, 3)
        steps = (kv.PutStep(one, self.value()), kv.DeleteStep(two), kv.GetStep(three), kv.GetStep(one))
        held = kv.Condition(three, kv.VERSION, kv.EQUAL, 0)
        otherwise = (kv.PutStep(three, self.value()), kv.DeleteRangeStep(one, one + b"\x00"))
        return [encode_transaction(kv.Transaction((held,), steps, otherwise))]

    def batch(self) -> list[bytes]:
        puts = [encode_put(self.rng.choice(KEYS), self.value(), True) for _ in range(5)]
        return [*puts, encode_delete(self.rng.choice(KEYS)), encode_compare_and_swap(KEYS[0], None, b"0")]

    def leases(self) -> list[bytes]:
        granted = self.model.store.leases.granted
        lease = granted + 1
        kept = [encode_keep_alive([lease, max(1, granted)]), encode_revoke(max(1, granted))]
        on_it = encode_held_put(self.rng.choice(KEYS), self.value(), False, ON_LEASE, lease)
        with_ttl = encode_held_put(self.rng.choice(KEYS), self.value(), False, WITH_TTL, HOUR)
        return [encode_grant(HOUR), on_it, *kept, with_ttl]

    def ranges(self) -> list[bytes]:
        start, end = sorted(self.rng.sample(KEYS, 2))
        ranged = encode_delete_range(start, end)
        return [ranged, encode_put(start, self.value()), encode_delete_range(PREFIX, prefix_end(PREFIX))]

    def value(self) -> bytes:
        self.written += 1
        return b"%d" % self.written * 20

    # --- how it is asked for ---

    def group(self, session: int, commands: list[bytes]) -> bytes:
        self.numbers[session] += 1
        number = self.numbers[session]
        return encode_group(self.sessions[session], number, number - 1, commands)

    def expected(self, commands: list[bytes]) -> list[bytes]:
        context = ApplyContext(1, 1, self.leader.replica.raft.highest_log_time)
        return self.model.apply(commands, context)

    def ask(self, node: Node, group: bytes) -> list[GroupOutcome]:
        outcomes: list[GroupOutcome] = []
        node.replica.propose(group, 60 * 10**9, outcomes.append)
        return outcomes

    def until_answered(self, node: Node, group: bytes) -> GroupOutcome:
        for _ in range(20):
            outcomes = self.ask(node, group)
            self.cluster.run(400)
            if outcomes and outcomes[0].error is None:
                return outcomes[0]
        raise AssertionError("there is no answer")

    def do(self, calamity: Callable[["Client"], None]) -> None:
        """Ask, be struck at any moment, and ask again, somewhere."""
        commands = self.commands()
        expected = self.expected(commands)
        group = self.pending = self.group(0, commands)
        first = self.ask(self.rng.choice(self.alive), group)
        for _ in range(self.rng.choice((0, 3, 10, 30, 100, 1000))):
            self.cluster.step()
        calamity(self)
        second = self.until_answered(self.rng.choice(self.alive), group)
        assert list(second.results) == expected
        assert not first or first[0].error is not None or list(first[0].results) == expected
        third = self.until_answered(self.rng.choice(self.alive), group)
        assert (list(third.results), third.revision) == (expected, second.revision)

    def fill(self, count: int) -> None:
        """Others write, when the group has been applied, so that the order is known."""
        self.until_answered(self.leader, self.pending)
        for _ in range(count):
            commands = [encode_put(b"other/%d" % self.rng.randrange(9), self.value())]
            expected, group = self.expected(commands), self.group(1, commands)
            assert list(self.until_answered(self.leader, group).results) == expected

    def check(self) -> None:
        """All are as the model is."""
        self.heal()
        for node in self.alive:
            store, model = node.machine.store, self.model.store
            assert [*store.scan()] == [*model.scan()]
            assert (store.revision, store.leases.granted) == (model.revision, model.leases.granted)
            assert len(store.leases) == len(model.leases)

    # --- what happens to it ---

    @property
    def alive(self) -> list[Node]:
        return [
            node
            for node in self.cluster.nodes.values()
            if not node.stopped and node.id not in self.cluster.cut
        ]

    @property
    def leader(self) -> Node:
        for _ in range(20):
            ready = [node for node in self.alive if node.replica.raft.ready]
            if ready:
                return ready[-1]
            self.cluster.run(400)
        raise AssertionError("nobody leads")

    def heal(self) -> None:
        self.cluster.cut = []
        for node in self.cluster.nodes.values():
            if node.stopped:
                assert node.failure is None
                node.start()
        self.cluster.run(3000)


def nothing(client: Client) -> None:
    """The answer was lost, no more."""


def leader_dies(client: Client) -> None:
    client.leader.stop()
    client.cluster.run(2500)


def leader_is_cut_off(client: Client) -> None:
    client.cluster.cut = [client.leader.id]
    client.cluster.run(2500)


def all_die(client: Client) -> None:
    for node in client.alive:
        node.stop()
    client.heal()


def all_take_snapshots_and_die(client: Client) -> None:
    client.fill(2)
    for node in client.alive:
        client.cluster.snapshot(node.id)
    all_die(client)


def one_is_left_behind_and_gets_a_snapshot(client: Client) -> None:
    """Then it is the one that knows: the others die one after the other."""
    leader = client.leader
    behind = next(node for node in client.alive if node is not leader)
    client.cluster.cut = [behind.id]
    client.fill(12)
    client.cluster.snapshot(leader.id)
    client.fill(12)
    client.cluster.snapshot(leader.id)
    client.cluster.cut = []
    client.cluster.run(2500)
    client.leader.stop()
    client.cluster.run(2500)


CALAMITIES = (
    nothing,
    leader_dies,
    leader_is_cut_off,
    all_die,
    all_take_snapshots_and_die,
    one_is_left_behind_and_gets_a_snapshot,
)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("calamity", CALAMITIES, ids=lambda calamity: calamity.__name__)
def test_a_group_that_is_asked_for_again_is_applied_once(
    calamity: Callable[[Client], None], seed: int
) -> None:
    client = Client(seed)
    for _ in range(4):
        client.do(calamity)
        client.check()
