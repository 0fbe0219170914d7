"""A whole cluster of cores under random faults, checked at every step against rules that know nothing of the code.

One seed is one run: messages are delayed, reordered, lost and duplicated, links are cut, nodes crash and lose what was
not durable, disks stall, clocks drift, members come and go, leadership moves, snapshots overtake logs. Then the faults
end, and the cluster must recover. What is checked:

* election safety: one leader a term;
* log matching: an `(index, term)` is one entry with one predecessor's term, wherever it is written;
* leader completeness: whoever becomes leader holds everything that was ever committed;
* state machine safety: one entry per index, whoever applies it;
* persist before promise: what each message promises is durable at its sender when it leaves;
* reads and leases: they never miss what had been applied anywhere when they began;
* liveness: after the faults a leader is found, a write commits, everybody has the same log.

`python -m tests.raft.random_cluster FROM TO` runs many seeds; `FROM` alone runs one and prints what happens.
"""

import heapq
import sys
from collections.abc import Callable
from functools import partial
from random import Random

from d_engine.format.configuration import Configuration, Member
from d_engine.format.entry import Entry
from d_engine.format.errors import MembershipError
from d_engine.format.ids import LogIndex, NodeId, Term
from d_engine.format.messages import (
    AppendRequest,
    AppendResponse,
    Heartbeat,
    RaftMessage,
    ReadResponse,
    SnapshotMeta,
    VoteRequest,
    VoteResponse,
)
from d_engine.raft.core import Raft
from d_engine.raft.effects import Effects, Role
from d_engine.raft.errors import NotLeader
from d_engine.raft.membership import AddLearner, Change, Demote, Promote, Remove
from d_engine.raft.settings import RaftSettings
from tests.raft.model_disk import ModelDisk

MS = 1_000_000
FAULTY_MS, HEALED_MS = 8_000, 8_000


class RuleBrokenError(AssertionError):
    """A rule was broken."""


class Node:
    """One node: its disk, its core while it runs, what it has applied."""

    def __init__(self, cluster: "Cluster", node_id: NodeId, bootstrap: Configuration | None) -> None:
        self.cluster = cluster
        self.id = node_id
        self.bootstrap = bootstrap
        self.disk = ModelDisk()
        self.raft: Raft | None = None
        self.applied = 0
        self.rate = 1.0
        self.stalled = False
        self.completing = False
        self.reads: dict[int, LogIndex] = {}
        self.life = 0

    def now(self) -> int:
        return int(self.cluster.now * self.rate) + self.id * 1_000_000_007

    def start(self) -> None:
        self.life += 1
        random = self.cluster.random
        recovered = self.disk.recover(random.choice((0, 1, 1000)))
        settings = RaftSettings(
            self.id, 1000 + self.id, max_append_bytes=300, max_in_flight_bytes=900, cache_bytes=500
        )
        bits = random.getrandbits
        self.raft = Raft(settings, recovered, self.bootstrap, self.disk.read, bits, self.now())
        self.applied = self.raft.commit_index
        for peer in self.cluster.nodes:
            if peer != self.id:
                self.raft.peer_incarnation(peer, 1000 + peer, self.now())
        self.work()

    def crash(self) -> None:
        self.raft = None
        self.reads = {}
        self.completing = False
        self.disk.crash(self.cluster.random.randint(0, 2))
        for node in self.cluster.nodes.values():
            if node.raft is not None and self.cluster.random.random() < 0.7:
                node.raft.peer_unreachable(self.id, node.now())

    def work(self) -> None:
        """Take and carry out effects until there are none."""
        while self.raft is not None:
            effects = self.raft.effects(self.now())
            if not effects:
                break
            self._perform(self.raft, effects)
        self.cluster.schedule_tick(self)

    def _perform(self, raft: Raft, effects: Effects) -> None:
        rules = self.cluster.rules
        if effects.leader_state is not None and effects.leader_state.role is Role.LEADER:
            rules.leads(self, effects.leader_state.term)
        if effects.persist is not None:
            rules.written(effects.persist.entries, self.disk)
            self.disk.append(effects.persist)
            self._complete_later()
        for to, message in effects.sends:
            rules.sent(self, message)
            self.cluster.deliver(self.id, to, message)
        if effects.install is not None:
            self.cluster.fetch(self, effects.install.sender, effects.install.snapshot)
        if effects.read_ready is not None:
            for batch in [batch for batch in self.reads if batch <= effects.read_ready.batch]:
                rules.read(self, effects.read_ready.read_index, self.reads.pop(batch))
        limit = self.cluster.random.choice((100, 10_000))
        entries = raft.entries(self.applied + 1, limit)
        for entry in entries:
            rules.applied(entry)
            self.applied = entry.index
        raft.applied(self.applied, self.now())
        if entries:
            self.cluster.check_leases()
            self.cluster.later(0, self.work)

    def _complete_later(self) -> None:
        if not self.completing and not self.stalled and self.disk.pending:
            self.completing = True
            life = self.life
            self.cluster.later(self.cluster.random.randint(0, 15), lambda: self._complete(life))

    def _complete(self, life: int) -> None:
        if self.raft is None or life != self.life:
            return
        self.completing = False
        if self.stalled:
            return
        seq = self.disk.complete_next()
        if seq is not None:
            self.raft.persisted(seq, self.now())
        self._complete_later()
        self.work()

    def stall(self, stalled: bool) -> None:
        self.stalled = stalled
        self._complete_later()

    def snapshot(self) -> None:
        """Take one of what is applied, and compact behind it."""
        if self.raft is None or self.applied == 0:
            return
        meta = self.raft.snapshot_meta(self.applied)
        if meta is not None:
            self.disk.save_snapshot(meta)
            self.raft.snapshot_taken(meta)
            index = max(0, self.applied - self.cluster.random.randint(0, 20))
            self.disk.compact(index)
            self.raft.compacted(index)

    def installed(self, meta: SnapshotMeta, life: int) -> None:
        if self.raft is None or life != self.life:
            return
        if self.raft.snapshot_installed(meta, self.now()):
            self.disk.reset(meta)
            self.applied = meta.index
        self.work()


class Rules:
    """Everything that was ever true in the cluster, and what must never be."""

    def __init__(self) -> None:
        self.leaders: dict[Term, NodeId] = {}
        self.entries: dict[tuple[LogIndex, Term], tuple[int, Term | None]] = {}
        self.decided: dict[LogIndex, tuple[Term, int]] = {}
        self.newest = 0
        self.counts = {"leaders": 0, "reads": 0, "leases": 0, "snapshots": 0, "changes": 0, "transfers": 0}

    def leads(self, node: Node, term: Term) -> None:
        if self.leaders.setdefault(term, node.id) != node.id:
            raise RuleBrokenError(f"{self.leaders[term]} and {node.id} lead in term {term}")
        self.counts["leaders"] += 1
        assert node.raft is not None
        log = node.raft._state.log
        for index in range(max(1, log.first_index), self.newest + 1):
            if log.term_at(index) != self.decided[index][0]:
                raise RuleBrokenError(
                    f"leader {node.id} of term {term} lacks {index}@{self.decided[index][0]}"
                )

    def written(self, entries: tuple[Entry, ...], disk: ModelDisk) -> None:
        before = disk.handed.term_at(entries[0].index - 1) if entries else None
        for entry in entries:
            known = self.entries.setdefault((entry.index, entry.term), (entry.checksum, before))
            if known[0] != entry.checksum or (None not in (known[1], before) and known[1] != before):
                raise RuleBrokenError(f"two different entries {entry.index}@{entry.term}")
            before = entry.term

    def applied(self, entry: Entry) -> None:
        if self.decided.setdefault(entry.index, (entry.term, entry.checksum)) != (entry.term, entry.checksum):
            raise RuleBrokenError(f"two entries were applied at index {entry.index}")
        self.newest = max(self.newest, entry.index)

    def sent(self, node: Node, message: RaftMessage) -> None:
        durable, raft = node.disk.durable, node.raft
        assert raft is not None
        pre_vote = isinstance(message, VoteRequest | VoteResponse) and message.pre
        if message.term > durable.hard_state.term and not pre_vote:
            raise RuleBrokenError(f"{node.id} sent {message} with {durable.hard_state} on disk")
        if isinstance(message, VoteRequest) and not message.pre and durable.hard_state.vote != node.id:
            raise RuleBrokenError(f"{node.id} sent {message} without its own vote on disk")
        if isinstance(message, VoteResponse) and message.granted and not message.pre:
            if durable.hard_state != raft._state.hard_state:
                raise RuleBrokenError(f"{node.id} granted a vote that is not on disk")
        if isinstance(message, AppendResponse) and not message.rejected_index:
            self._acknowledged(node, message)
        if isinstance(message, AppendRequest | Heartbeat) and message.commit_index > node.applied:
            raise RuleBrokenError(
                f"{node.id} told commit index {message.commit_index}, applied {node.applied}"
            )
        if isinstance(message, ReadResponse) and message.read_index > node.applied:
            raise RuleBrokenError(f"{node.id} told read index {message.read_index}, applied {node.applied}")

    def _acknowledged(self, node: Node, message: AppendResponse) -> None:
        durable, raft = node.disk.durable, node.raft
        assert raft is not None
        last = max(durable.last_index, 0 if durable.snapshot is None else durable.snapshot.index)
        if message.match_index > last:
            raise RuleBrokenError(f"{node.id} acknowledged {message.match_index}, durable is {last}")
        term = raft._state.log.term_at(message.match_index)
        on_disk = durable.term_at(message.match_index)
        if term is not None and on_disk is not None and term != on_disk:
            raise RuleBrokenError(
                f"{node.id} acknowledged {message.match_index}@{term}, on disk is term {on_disk}"
            )

    def read(self, node: Node, read_index: LogIndex, floor: LogIndex) -> None:
        if read_index < floor:
            raise RuleBrokenError(
                f"{node.id} reads at {read_index}; {floor} had been applied before the read began"
            )
        self.counts["reads"] += 1


class Cluster:
    """The world of one seed: nodes, clocks, a network."""

    def __init__(self, seed: int, verbose: bool = False) -> None:
        self.random = Random(seed)
        self.verbose = verbose
        self.now = 0
        self.events: list[tuple[int, int, Callable[[], None]]] = []
        self.order = 0
        self.ticks: dict[NodeId, int] = {}
        self.rules = Rules()
        self.loss, self.copies, self.slow = 0.0, 0.0, 0
        self.cut: dict[tuple[NodeId, NodeId], bool] = {}
        voters = tuple(range(1, self.random.choice((1, 2, 3, 3, 3, 4, 5)) + 1))
        leases = self.random.random() < 0.5
        self.drifting = self.random.random() < 0.5
        self.reshaping = self.random.random() < 0.6
        bootstrap = Configuration(0, tuple(Member(i) for i in voters), voters, lease_reads=leases)
        total = max(len(voters), 5) if self.reshaping else len(voters)
        self.nodes: dict[NodeId, Node] = {}
        for node_id in range(1, total + 1):
            self.nodes[node_id] = Node(self, node_id, bootstrap if node_id in voters else None)
            if self.drifting:
                self.nodes[node_id].rate = self.random.uniform(0.97, 1.03)
        for node in self.nodes.values():
            node.start()

    # --- events ------------------------------------------------------------------------------------------------------

    def later(self, delay_ms: float, action: Callable[[], None]) -> None:
        self.order += 1
        heapq.heappush(self.events, (self.now + int(delay_ms * MS), self.order, action))

    def schedule_tick(self, node: Node) -> None:
        if node.raft is None:
            return
        due = max(self.now, int((node.raft.deadline - node.id * 1_000_000_007) / node.rate) + 1)
        if self.ticks.get(node.id, -1) <= self.now or due < self.ticks[node.id]:
            self.ticks[node.id] = due
            self.order += 1
            heapq.heappush(self.events, (due, self.order, lambda: self._tick(node, due)))

    def _tick(self, node: Node, due: int) -> None:
        if node.raft is None or self.ticks.get(node.id) != due:
            return
        self.ticks[node.id] = -1
        if node.raft.deadline <= node.now():
            node.raft.tick(node.now())
        node.work()

    def deliver(self, sender: NodeId, to: NodeId, message: RaftMessage) -> None:
        if self.verbose:
            print(f"{self.now / MS:9.2f} {sender} -> {to} {message}")
        if self.cut.get((sender, to)) or self.random.random() < self.loss:
            return
        for _ in range(2 if self.random.random() < self.copies else 1):
            delay = (
                self.random.uniform(0.1, 3)
                if self.random.random() > 0.05
                else self.random.uniform(0, self.slow + 3)
            )
            self.later(delay, lambda: self._arrive(sender, to, message))

    def _arrive(self, sender: NodeId, to: NodeId, message: RaftMessage) -> None:
        node = self.nodes[to]
        if node.raft is not None:
            node.raft.step(sender, message, node.now())
            node.work()

    def check_leases(self) -> None:
        """Something was applied somewhere: whoever may answer on its own has it too."""
        for node in self.nodes.values():
            if (
                node.applied < self.rules.newest
                and node.raft is not None
                and node.now() < node.raft.lease_deadline
            ):
                raise RuleBrokenError(f"{node.id} has a lease and lacks {self.rules.newest}")

    def fetch(self, node: Node, source: NodeId, meta: SnapshotMeta) -> None:
        stored = self.nodes[source].disk.durable.snapshot
        if stored is None or stored.index < meta.index:
            raise RuleBrokenError(f"{source} offered snapshot {meta.index}, which it does not have")
        self.rules.counts["snapshots"] += 1
        life = node.life
        self.later(self.random.randint(1, 200), lambda: node.installed(meta, life))

    def run_until(self, end_ms: int) -> None:
        while self.events and self.events[0][0] <= end_ms * MS:
            self.now, _, action = heapq.heappop(self.events)
            action()
        self.now = end_ms * MS


class RandomRun(Cluster):
    """What happens to the cluster of one seed."""

    def every(self, low_ms: int, high_ms: int, until_ms: int, action: Callable[[], None]) -> None:
        def again() -> None:
            if self.now < until_ms * MS:
                action()
                self.later(self.random.randint(low_ms, high_ms), again)

        self.later(self.random.randint(low_ms, high_ms), again)

    def run(self) -> None:
        random = self.random
        if random.random() < 0.7:
            self.loss, self.copies, self.slow = (
                random.uniform(0, 0.2),
                random.uniform(0, 0.2),
                random.choice((5, 400)),
            )
        self.every(1, 40, FAULTY_MS + HEALED_MS // 4, self._propose)
        self.every(1, 60, FAULTY_MS, self._read)
        faults: tuple[tuple[int, Callable[[], None]], ...] = (
            (1500, self._crash),
            (1200, self._partition),
            (2500, self._stall),
            (400, self._snapshot),
            (1500, self._transfer),
            (500 if self.reshaping else 10**6, self._change),
        )
        for mean, fault in faults:
            if random.random() < 0.75:
                self.every(1, 2 * mean, FAULTY_MS, fault)
        self.run_until(FAULTY_MS)
        self._heal()
        self.run_until(FAULTY_MS + HEALED_MS)
        self._check_recovered()

    def _leaders(self) -> list[Node]:
        return [
            node for node in self.nodes.values() if node.raft is not None and node.raft.role is Role.LEADER
        ]

    def _propose(self) -> None:
        for node in self._leaders():
            assert node.raft is not None
            try:
                node.raft.propose([self.random.randbytes(self.random.choice((1, 50, 400)))], 1, 0, node.now())
            except NotLeader:
                continue
            node.work()

    def _read(self) -> None:
        node = self.random.choice(list(self.nodes.values()))
        if node.raft is None:
            return
        if node.now() < node.raft.lease_deadline:
            self.rules.counts["leases"] += 1
        node.reads.setdefault(node.raft.read(node.now()), 0)
        batch = max(node.reads)
        node.reads[batch] = max(node.reads[batch], self.rules.newest)
        if self.random.random() < 0.8:
            node.work()

    def _crash(self) -> None:
        several = self.random.random() < 0.2
        for node in list(self.nodes.values()):
            if node.raft is not None and (several or self.random.random() < 0.3):
                node.crash()
                self.later(self.random.randint(1, 1500), partial(self._restart, node))

    def _restart(self, node: Node) -> None:
        if node.raft is None:
            node.start()

    def _partition(self) -> None:
        self.cut = {}
        kind = self.random.choice(("none", "halves", "alone", "one way", "ring"))
        ids = list(self.nodes)
        lonely = self.random.choice(ids)
        side = {i: i == lonely if kind == "alone" else self.random.random() < 0.5 for i in ids}
        for a in ids:
            for b in ids:
                if (kind in ("halves", "alone") and side[a] != side[b]) or (
                    kind == "one way" and side[a] and not side[b]
                ):
                    self.cut[a, b] = True
                if kind == "ring" and abs(a - b) not in (1, len(ids) - 1):
                    self.cut[a, b] = True

    def _stall(self) -> None:
        node = self.random.choice(list(self.nodes.values()))
        node.stall(True)
        self.later(self.random.randint(1, 2500), lambda: node.stall(False))

    def _snapshot(self) -> None:
        self.random.choice(list(self.nodes.values())).snapshot()

    def _transfer(self) -> None:
        for node in self._leaders():
            assert node.raft is not None
            try:
                node.raft.transfer(self.random.choice(list(self.nodes)), node.now())
            except MembershipError:
                continue
            self.rules.counts["transfers"] += 1
            node.work()

    def _change(self) -> None:
        for node in self._leaders():
            assert node.raft is not None
            try:
                node.raft.propose_change(self._draw_changes(node.raft.configuration), 0, node.now())
            except (MembershipError, NotLeader):
                continue
            self.rules.counts["changes"] += 1
            node.work()

    def _draw_changes(self, configuration: Configuration) -> list[Change]:
        changes: list[Change] = []
        for node_id in self.nodes:
            if self.random.random() < 0.4:
                continue
            if configuration.member(node_id) is None:
                incarnation = self.random.choice((0, 1000 + node_id))
                changes.append(AddLearner(Member(node_id, incarnation=incarnation)))
                if self.random.random() < 0.5:
                    changes.append(Promote(node_id))
            elif node_id in configuration.learners:
                changes.append(Promote(node_id))
            elif self.random.random() < 0.4:
                changes.append(self.random.choice((Remove(node_id), Demote(node_id))))
        return changes

    # --- the end -----------------------------------------------------------------------------------------------------

    def _heal(self) -> None:
        self.loss, self.copies, self.slow, self.cut = 0.0, 0.0, 0, {}
        for node in self.nodes.values():
            node.stall(False)
            if node.raft is None:
                node.start()
            node.work()

    def _check_recovered(self) -> None:
        leaders = self._leaders()
        newest = max((node.raft.term, node) for node in leaders if node.raft)[1] if leaders else None
        if newest is None or newest.raft is None or not newest.raft.ready:
            states = [
                (n.id, n.raft.role, n.raft.term, n.raft.configuration) for n in self.nodes.values() if n.raft
            ]
            raise RuleBrokenError(f"no leader after the faults: {states}")
        raft = newest.raft
        if raft.commit_index != raft.last_index or raft.configuration.joint:
            raise RuleBrokenError(
                f"the leader has committed {raft.commit_index} of {raft.last_index} {raft.configuration}"
            )
        for member in raft.configuration.members:
            other = self.nodes[member.id].raft
            if other is None or other.applied_index != raft.applied_index:
                raise RuleBrokenError(
                    f"member {member.id} is behind: {other and other.status()} leader {raft.status()}"
                )
            if self.nodes[member.id].reads:
                raise RuleBrokenError(
                    f"reads of {member.id} were not answered: {self.nodes[member.id].reads}"
                )


def main() -> None:
    first = int(sys.argv[1])
    last = int(sys.argv[2]) if len(sys.argv) > 2 else first
    total: dict[str, int] = {}
    for seed in range(first, last + 1):
        cluster = RandomRun(seed, verbose=first == last)
        try:
            cluster.run()
        except Exception:
            print(f"seed {seed} at {cluster.now / MS} ms")
            raise
        for name, count in cluster.rules.counts.items():
            total[name] = total.get(name, 0) + count
    print(total)


if __name__ == "__main__":
    main()
