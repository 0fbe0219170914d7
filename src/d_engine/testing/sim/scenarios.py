"""The scenarios that a batch must have seen: which profile reaches each, and the counter that proves it.

docs/design/simulation.md has the same table for people.
"""

from dataclasses import dataclass

OFTEN, RARELY = 50, 400


@dataclass(frozen=True, slots=True)
class Scenario:
    """`number` is that of the project's list of scenarios, `counter` is above 0 when `what` has happened, as it must in
    so many `runs` of the profile."""

    number: int
    what: str
    profile: str
    counter: str
    runs: int = OFTEN


SCENARIOS = (
    Scenario(1, "all die right after a vote", "crashes", "crash: all, right after a vote", RARELY),
    Scenario(
        1, "all die right after an acknowledgement", "crashes", "crash: all, right after an acknowledgement"
    ),
    Scenario(
        2,
        "three nodes that reach each other in part, for long",
        "lasting",
        "seen: 3 nodes that reach each other in part, and one that leads",
        RARELY,
    ),
    Scenario(
        2,
        "five nodes that reach each other in part, for long",
        "lasting",
        "seen: 5 nodes that reach each other in part, and one that leads",
        RARELY,
    ),
    Scenario(
        3,
        "a node that was alone for long returns",
        "lasting",
        "seen: a node that is back after long, and deposes nobody",
        RARELY,
    ),
    Scenario(
        3, "a node that was alone returns while much happens", "partitions", "fault: disconnect_and_return"
    ),
    Scenario(
        4,
        "a transfer whose target is lost, with writes under way",
        "elections",
        "seen: a transfer whose target is lost while writes are under way",
        RARELY,
    ),
    Scenario(
        5,
        "identical timers, an even number of nodes",
        "elections",
        "feature: identical timers, an even number of nodes",
        RARELY,
    ),
    Scenario(
        6,
        "a sole voter dies before its sync",
        "crashes",
        "seen: the death of a sole voter while a write is under way",
        RARELY,
    ),
    Scenario(
        7,
        "a shorter append after a longer one",
        "replication",
        "seen: an append that ends before the log, and agrees with it",
    ),
    Scenario(7, "messages that come twice", "replication", "net: message doubled"),
    Scenario(
        8,
        "entries of earlier terms",
        "replication",
        "seen: entries of earlier terms, committed under one of the leader's own",
    ),
    Scenario(
        8, "figure 8", "replication", "seen: an entry that a majority had, and that is replaced", RARELY
    ),
    Scenario(
        9,
        "a read before the term's first commit",
        "reads",
        "seen: a read at a leader that has committed nothing yet",
    ),
    Scenario(10, "a long suffix that has to go", "replication", "seen: a long suffix that is replaced"),
    Scenario(
        10,
        "ten thousand entries that have to go",
        "lasting",
        "seen: ten thousand entries that are replaced by others",
        RARELY,
    ),
    Scenario(
        10,
        "ten thousand entries behind which the log was cut",
        "lasting",
        "seen: ten thousand entries that are replaced by a snapshot",
        RARELY,
    ),
    Scenario(
        11,
        "a follower at a trickle",
        "overload",
        "seen: a majority that goes on while a follower gets its messages at a trickle",
        RARELY,
    ),
    Scenario(
        12,
        "a change before the term's first commit",
        "membership",
        "seen: a change asked of a leader that has committed nothing yet",
        RARELY,
    ),
    Scenario(13, "two changes at once", "membership", "seen: a change asked while another one is under way"),
    Scenario(
        14,
        "a leader that removes itself",
        "membership",
        "seen: a leader that stops when its removal is committed",
        RARELY,
    ),
    Scenario(
        14,
        "a leader that dies before its removal is committed",
        "membership",
        "seen: the death of a leader before its removal is committed",
        RARELY,
    ),
    Scenario(
        15, "a wiped disk under an old number", "replaced", "node learned that its disk was wiped", RARELY
    ),
    Scenario(
        16,
        "joint configurations, disjoint ones too",
        "membership",
        "seen: a joint configuration of two sets that share nobody",
        RARELY,
    ),
    Scenario(
        16, "a death in the joint state", "membership", "seen: a death in a joint configuration", RARELY
    ),
    Scenario(
        16,
        "a death in a disjoint joint state",
        "membership",
        "seen: a death in a joint configuration of two sets that share nobody",
        RARELY,
    ),
    Scenario(
        16,
        "another leader leaves the joint state",
        "membership",
        "seen: a joint configuration that another leader leaves",
        RARELY,
    ),
    Scenario(17, "a learner that starts again", "membership", "seen: a learner that starts again", RARELY),
    Scenario(
        17,
        "one that does not know that it was promoted votes",
        "membership",
        "seen: a vote of one that does not know that it is a voter",
        RARELY,
    ),
    Scenario(
        18,
        "death while a snapshot is written",
        "snapshot",
        "seen: a death while a snapshot is written",
        RARELY,
    ),
    Scenario(
        18,
        "death while a snapshot is received",
        "snapshot",
        "seen: a death while a snapshot is received",
        RARELY,
    ),
    Scenario(
        19,
        "a snapshot offered too late",
        "snapshot",
        "seen: an offer of a snapshot that comes too late",
        RARELY,
    ),
    Scenario(
        20,
        "parts of snapshots out of place",
        "snapshot",
        "seen: a part of a snapshot that is not the next one",
        RARELY,
    ),
    Scenario(
        20,
        "parts of two snapshots",
        "snapshot",
        "seen: a part of another snapshot than the one that was offered last",
        RARELY,
    ),
    Scenario(20, "spoiled parts of snapshots", "snapshot", "net: part of a snapshot spoiled", RARELY),
    Scenario(22, "state restored from a snapshot", "snapshot", "snapshot: restored"),
    Scenario(23, "torn writes", "crashes", "disk: unsynced writes lost (prefix)"),
    Scenario(23, "writes that a power loss mixes up", "crashes", "disk: unsynced writes lost (sectors)"),
    Scenario(
        23,
        "the power of all goes while they write",
        "crashes",
        "seen: the power of all goes while a majority writes",
        RARELY,
    ),
    Scenario(
        25, "bit rot in the log", "quarantine", "quarantine: the good part of a damaged log is used", RARELY
    ),
    Scenario(25, "bit rot that ends a node", "disk", "node found its damage"),
    Scenario(26, "a sync that fails once", "disk", "node stopped for its disk"),
    Scenario(
        28,
        "a leader's disk that hangs",
        "disk",
        "seen: a leader that steps down while its disk hangs",
        RARELY,
    ),
    Scenario(29, "death within recovery", "crashes", "crash: within recovery"),
    Scenario(30, "names lost with the power", "crashes", "disk: names lost", RARELY),
    Scenario(32, "wall clocks that jump, on all nodes", "clocks", "clock: all walls jump"),
    Scenario(32, "wall clocks that race, on all nodes", "clocks", "clock: all walls run at another rate"),
    Scenario(
        33,
        "a leader with a lease that sleeps while another is elected",
        "clocks",
        "seen: a leader with a lease that slept while another one was elected",
        RARELY,
    ),
    Scenario(
        34,
        "a leader that stalls while another is elected",
        "clocks",
        "seen: a leader that stood still while another one was elected",
    ),
    Scenario(35, "one node is alone", "partitions", "work goes on under: isolate_one"),
    Scenario(35, "two sides, of any size", "partitions", "work goes on under: split"),
    Scenario(35, "the leader is alone", "partitions", "work goes on under: isolate_leader"),
    Scenario(35, "a ring", "partitions", "work goes on under: ring"),
    Scenario(35, "two halves that share one node", "partitions", "work goes on under: bridge"),
    Scenario(35, "links that work one way", "partitions", "work goes on under: cut_one_way"),
    Scenario(35, "a split every 100 ms", "partitions", "work goes on under: flapping"),
    Scenario(35, "latency of 25 to 75 ms and more", "partitions", "work goes on under: slow_network"),
    Scenario(35, "a direction that is clogged", "partitions", "work goes on under: clog"),
    Scenario(35, "lost messages", "replication", "net: message lost"),
    Scenario(35, "messages that overtake each other", "replication", "net: message out of order"),
    Scenario(35, "connections that are reset", "partitions", "net: connection broken"),
    Scenario(
        37,
        "a group sent again to another leader",
        "replication",
        "seen: a group that stands in the log twice, in different terms",
    ),
    Scenario(
        37,
        "a group sent again behind a snapshot",
        "snapshot",
        "seen: a group that stands in the log twice, once behind a snapshot",
        RARELY,
    ),
    Scenario(
        38, "two swaps of one key in one entry", "overload", "seen: two swaps of one key in one entry", RARELY
    ),
    Scenario(40, "watches that go on from a node to another", "watch", "watch: resumed"),
    Scenario(40, "watches whose events are gone", "watch", "watch: compacted"),
    Scenario(40, "watches that are too slow", "watch", "watch: watch_lagged"),
    Scenario(41, "a lock's holder that stood still, and comes too late", "lease", "lock: late use refused"),
)
