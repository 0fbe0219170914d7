"""What a batch costs in calls: the figure that no noise hides.

    python -m benchmarks.counts              calls for a batch of one put, of a hundred, and for a linearizable read
    python -m benchmarks.counts --functions  which functions they are

Three whole replicas on one thread, with logs in memory and a clock that stands still. One group of puts is
proposed to the leader, and everything that follows from it is carried out, a turn after each event: both appends, the
three logs' completions, both acknowledgements, the news of the commit index. Counted are the turns, the calls of Python
functions and those of C functions, of the node that leads and of one that follows, without clients, sockets and
threads. `--seconds` also measures the processor's time of the whole.
"""

import argparse
import sys
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType

from d_engine.format.configuration import Configuration, Member
from d_engine.format.errors import DEngineError
from d_engine.format.group import encode_group
from d_engine.format.hello import Channel
from d_engine.format.ids import LogIndex, NodeId
from d_engine.format.messages import PeerMessage
from d_engine.format.requests import LINEARIZABLE
from d_engine.kv.commands import encode_put
from d_engine.kv.machine import KvStateMachine
from d_engine.raft.effects import LeaderState
from d_engine.replica.listener import Health
from d_engine.replica.outcome import GroupOutcome
from d_engine.replica.replica import Replica
from d_engine.replica.settings import MILLISECOND, ReplicaSettings
from d_engine.storage.memory import MemoryDisk
from d_engine.storage.snapshots import SnapshotFiles
from d_engine.storage.wal import WalStorage

_NODES = (1, 2, 3)
_BATCHES = 50
VALUE = b"v" * 256


class Tally:
    """Turns, calls and messages of one node."""

    def __init__(self) -> None:
        self.turns = 0
        self.messages = 0
        self.python: Counter[str] = Counter()
        self.c: Counter[str] = Counter()

    def profile(self, frame: FrameType, event: str, argument: object) -> None:
        """For `sys.setprofile`."""
        if event == "call":
            self.python[f"{frame.f_code.co_filename.rpartition('/')[2]}:{frame.f_code.co_qualname}"] += 1
        elif event == "c_call":
            self.c[getattr(argument, "__qualname__", repr(argument))] += 1

    @contextmanager
    def counting(self) -> Iterator[None]:
        """Count what is called."""
        sys.setprofile(self.profile)
        try:
            yield
        finally:
            sys.setprofile(None)
            self.c["setprofile"] -= 1


class CountedNode:
    """A replica and its ports."""

    def __init__(self, cluster: "CountedCluster", node_id: NodeId, nodes: Sequence[NodeId]) -> None:
        self.cluster = cluster
        self.id = node_id
        self.soon: deque[Callable[[], None]] = deque()
        self.completions: deque[Callable[[], None]] = deque()
        self.tally = Tally()
        members = tuple(Member(each, f"{each}:1", 100 + each) for each in nodes)
        settings = ReplicaSettings(
            node_id=node_id,
            incarnation=100 + node_id,
            bootstrap=Configuration(0, members, tuple(nodes), lease_reads=True),
        )
        disk = MemoryDisk(self.completions.append)
        storage, files = WalStorage(disk, 1), SnapshotFiles(MemoryDisk(self.soon.append))
        self.replica = Replica(settings, self, self, storage, files, KvStateMachine(), self)
        self.replica.start()

    def run_soon(self) -> bool:
        """What was asked to run soon: the turn."""
        ran = bool(self.soon)
        while self.soon:
            self.tally.turns += 1
            self.count(self.soon.popleft())
        return ran

    def count(self, function: Callable[[], None]) -> None:
        """Call, with or without counting."""
        if self.cluster.counts:
            with self.tally.counting():
                function()
        else:
            function()

    # --- ports ---

    def now(self) -> int:
        return self.cluster.now

    def call_soon(self, function: Callable[[], None]) -> None:
        self.soon.append(function)

    def set_timer(self, deadline: int) -> None: ...

    def random_bits(self, count: int) -> int:
        return self.id % (1 << count)

    def send(self, to: NodeId, channel: Channel, message: PeerMessage) -> None:
        self.tally.messages += 1
        self.cluster.messages.append((self.id, to, message))

    def set_peers(self, peers: dict[NodeId, str]) -> None: ...

    def disconnect(self, peer: NodeId) -> None: ...

    def leader_changed(self, state: LeaderState) -> None: ...

    def members_changed(self, index: LogIndex, configuration: Configuration) -> None: ...

    def health_changed(self, health: Health) -> None: ...

    def failed(self, error: DEngineError) -> None:
        raise error


class CountedCluster:
    """Nodes, of which the first leads."""

    def __init__(self, nodes: Sequence[NodeId] = _NODES) -> None:
        self.now = 1_000_000 * MILLISECOND
        self.counts = False
        self.messages: deque[tuple[NodeId, NodeId, PeerMessage]] = deque()
        self.nodes = {node_id: CountedNode(self, node_id, nodes) for node_id in nodes}
        self.leader = self.nodes[nodes[0]]
        for one in self.nodes.values():
            for other in self.nodes.values():
                if other is not one:
                    one.replica.peer_admit(other.replica.peers.hello(Channel.DATA))
                    one.replica.peer_connected(other.id)
        self.settle()
        self.now = self.leader.replica.raft.deadline
        self.leader.replica.wake()
        self.settle()
        self.outcomes: list[GroupOutcome] = []
        self.leader.replica.open_session(1 << 60, self.outcomes.append)
        self.settle()
        self.session, self._number = self.outcomes[0].revision, 0

    def settle(self) -> None:
        """Until nothing is left to do: turns, then what the disks have done, then messages, one by one."""
        nodes = self.nodes
        while True:
            if any(node.run_soon() for node in nodes.values()):
                continue
            busy = next((node for node in nodes.values() if node.completions), None)
            if self.messages:
                sender, to, message = self.messages.popleft()
                nodes[to].count(partial(nodes[to].replica.receive, sender, message))
            elif busy is not None:
                busy.count(busy.completions.popleft())
            else:
                return

    def put(self, commands: int) -> None:
        """One batch of so many puts, with everything that follows."""
        self.put_keys([b"%08d" % number for number in range(commands)])

    def put_keys(self, keys: Sequence[bytes]) -> None:
        """One batch of puts of these keys, with everything that follows."""
        self._number += 1
        puts = [encode_put(key, VALUE) for key in keys]
        group = encode_group(self.session, self._number, self._number - 1, puts)
        replica = self.leader.replica
        self.leader.count(lambda: replica.propose(group, 1 << 60, self.outcomes.append))
        self.settle()

    def read(self) -> None:
        """One batch of linearizable reads."""
        replica = self.leader.replica
        self.leader.count(lambda: replica.read(LINEARIZABLE, 0, 1 << 60, 1, lambda error: None))
        self.settle()

    def measure(self, act: Callable[[], None]) -> dict[str, Tally]:
        """The tallies of the leader and of a follower, over `_BATCHES` batches."""
        for _ in range(_BATCHES):
            act()
        for node in self.nodes.values():
            node.tally = Tally()
        self.counts = True
        for _ in range(_BATCHES):
            act()
        self.counts = False
        return {"leader": self.leader.tally, "follower": self.nodes[2].tally}


def python_calls(act: str = "put", commands: int = 1) -> dict[str, float]:
    """Calls of Python functions for each batch, on the leader and on a follower."""
    cluster = CountedCluster()
    tallies = cluster.measure(cluster.read if act == "read" else lambda: cluster.put(commands))
    return {role: tally.python.total() / _BATCHES for role, tally in tallies.items()}


def main(argv: list[str]) -> None:
    """Print the counts."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--functions", action="store_true", help="which functions are called, most often first"
    )
    parser.add_argument("--seconds", type=float, default=0.0, help="measure processor time for so long each")
    options = parser.parse_args(argv)
    print(f"{'a batch':24}{'node':10}{'turns':>7}{'Python':>9}{'C':>7}{'messages':>10}")
    cluster = CountedCluster()
    acts: dict[str, Callable[[], None]] = {
        "1 put": lambda: cluster.put(1),
        "100 puts": lambda: cluster.put(100),
        "linearizable read": cluster.read,
    }
    for title, act in acts.items():
        for role, tally in cluster.measure(act).items():
            print(
                f"{title:24}{role:10}{tally.turns / _BATCHES:7.1f}{tally.python.total() / _BATCHES:9.1f}"
                f"{tally.c.total() / _BATCHES:7.1f}{tally.messages / _BATCHES:10.1f}"
            )
            if options.functions:
                for counter, least in ((tally.python, 1), (tally.c, 4)):
                    for name, count in counter.most_common():
                        if count >= least * _BATCHES:
                            print(f"    {count / _BATCHES:8.1f}  {name}")
        if options.seconds:
            print(
                f"{title:24}{measure_seconds(act, options.seconds):.1f} µs of processor time on all three nodes"
            )


def measure_seconds(act: Callable[[], None], seconds: float) -> float:
    """Microseconds of processor time a batch."""
    batches, began = 0, time.process_time()
    while time.process_time() - began < seconds:
        for _ in range(_BATCHES):
            act()
        batches += _BATCHES
    return (time.process_time() - began) * 1e6 / batches


if __name__ == "__main__":
    main(sys.argv[1:])
