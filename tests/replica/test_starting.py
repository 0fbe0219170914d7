"""Between recovery and `start` a node listens already. What comes in is noted, and nothing is done about it: storage
does not write yet."""

from collections.abc import Callable

import pytest

from d_engine.format.errors import DEngineError
from d_engine.format.group import encode_open_session
from d_engine.format.hello import Channel, Hello
from d_engine.format.requests import LINEARIZABLE
from d_engine.replica.outcome import GroupOutcome
from d_engine.replica.replica import Replica
from d_engine.replica.settings import SECOND
from tests.replica.small_cluster import Cluster


def greet(replica: Replica) -> Callable[[], object]:
    refusal = replica.peer_admit(Hello(Channel.CLIENT, 0, 0, 0))
    return lambda: refusal is None


def read(replica: Replica) -> Callable[[], object]:
    answers: list[DEngineError | None] = []
    replica.read(LINEARIZABLE, 0, 60 * SECOND, 1, answers.append)
    return lambda: answers == [None]


def write(replica: Replica) -> Callable[[], object]:
    outcomes: list[GroupOutcome] = []
    replica.propose(encode_open_session(7), 60 * SECOND, outcomes.append)
    return lambda: outcomes and outcomes[0].error is None


@pytest.mark.parametrize("ask", [greet, read, write])
def test_who_comes_before_the_start_waits_for_it(ask: Callable[[Replica], Callable[[], object]]) -> None:
    """On a busy machine the start may come after an election time-out. A vote that was cast before it would never
    reach the disk, and a node whose disk does not answer never campaigns again."""
    cluster = Cluster(1)
    cluster.elect()
    node = cluster[1]
    node.stop()
    node.open()
    answered = ask(node.replica)
    cluster.time += 2 * SECOND
    cluster.run()
    assert not node.replica.raft.ready
    node.replica.start()
    cluster.elect()
    cluster.run(100)
    assert answered()
