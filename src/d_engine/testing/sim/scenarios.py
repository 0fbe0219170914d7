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
    Scenario(
        1, "all die right after a vote or an acknowledgement", "crashes", "crash: all, right after a promise"
    ),
    Scenario(2, "partial connectivity", "partitions", "fault: chain_of_partial"),
    Scenario(3, "a node that was alone for long returns", "partitions", "fault: disconnect_and_return"),
    Scenario(4, "a transfer whose target dies or lags", "elections", "fault: transfer_and_crash"),
    Scenario(5, "identical timers", "elections", "feature: identical timers"),
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
    Scenario(11, "a follower at a trickle", "overload", "fault: narrow_link"),
    Scenario(13, "two changes at once", "membership", "fault: two_changes"),
    Scenario(14, "a leader that removes itself", "membership", "fault: remove_leader"),
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
    Scenario(20, "spoiled parts of snapshots", "snapshot", "net: part of a snapshot spoiled", RARELY),
    Scenario(22, "state restored from a snapshot", "snapshot", "snapshot: restored"),
    Scenario(23, "torn writes", "crashes", "disk: unsynced writes lost (prefix)"),
    Scenario(23, "writes that a power loss mixes up", "crashes", "disk: unsynced writes lost (sectors)"),
    Scenario(25, "bit rot in a minority", "disk", "node found its damage"),
    Scenario(26, "a sync that fails once", "disk", "disk: sync failed"),
    Scenario(
        28,
        "a leader's disk that hangs",
        "disk",
        "seen: a leader that steps down while its disk hangs",
        RARELY,
    ),
    Scenario(29, "death within recovery", "crashes", "crash: within recovery"),
    Scenario(30, "names lost with the power", "crashes", "disk: names lost", RARELY),
    Scenario(32, "wall clocks that jump and race", "clocks", "fault: wall_jump"),
    Scenario(33, "suspended machines", "clocks", "clock: machine suspended"),
    Scenario(34, "a loop that stalls", "clocks", "fault: stall_long"),
    Scenario(35, "partitions of every shape", "partitions", "fault: bridge"),
    Scenario(35, "loss, doubling, overtaking", "replication", "net: message out of order"),
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
)
"""Scenario 41 (leases) is tried by the profile `lease`."""
