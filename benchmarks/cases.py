"""What is measured: work, done by a subject with a number of concurrent tasks.

A *subject* is anything that can do work: the embedded engine, the bare pipeline, the machine's disk. It is started once
in each round, when its first case comes, and stopped at the round's end. A *case* is one row and one cell of the table:
the work, the number of tasks, the subject. Cases that are to be compared stand next to each other, so that they run
within seconds of each other in every round.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

KEY_BYTES = 8
VALUE_BYTES = 256
KEY_COUNT = 100_000


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of operation. `operation` is what the subject understands by `put`, `get`, `fdatasync`, `round_trip`;
    `variant` is the kind of keys of a put, the consistency of a get, the size of a synced write."""

    operation: str
    variant: str

    @property
    def title(self) -> str:
        """As shown in tables."""
        return f"{self.operation.replace('_', ' ')}, {self.variant}"


@dataclass(frozen=True, slots=True)
class Case:
    """One measurement that is repeated in every round."""

    subject: str
    work: Work
    tasks: int

    @property
    def name(self) -> str:
        """For the command line and the results file."""
        return f"{self.subject}/{self.work.operation}/{self.work.variant}/{self.tasks}"


@dataclass(frozen=True, slots=True)
class Sample:
    """What one run of a case gave. Percentiles are exact, over all operations of the run."""

    operations: int
    seconds: float
    performed: int
    """All operations, also those of the warm-up."""
    p50_us: float
    p99_us: float
    max_us: float
    cpu_us: dict[str, float]
    """CPU microseconds per operation, by process ("load" is the one that makes the load); may be empty."""
    disturbance: float = 0.0
    """The share of the machine's CPU time that went to others meanwhile, or to nobody because the host took it."""

    @property
    def rate(self) -> float:
        """Operations per second."""
        return self.operations / self.seconds


class Subject(Protocol):
    """Something that can be measured. `directory` is empty, on the disk that is to be measured."""

    def start(self, directory: Path) -> None: ...

    def run(self, work: Work, tasks: int, seconds: float) -> Sample: ...

    def stop(self) -> None: ...


FDATASYNCS = (Work("fdatasync", "4 KiB"), Work("fdatasync", "27 KB"))
ROUND_TRIP = Work("round_trip", "64 B on loopback")
PUTS = (Work("put", "overwrites"), Work("put", "fresh keys"))
GETS = (Work("get", "lease"), Work("get", "eventual"), Work("get", "linearizable"))
LINEARIZABLE = GETS[2]
OTHERS = (
    Work("mixed", "90 % linearizable get, 10 % put"),
    Work("put", "hot keys"),
    Work("put", "4 KiB values"),
    Work("put", "64 KiB values"),
    Work("batch", "100 puts in a write_batch"),
    Work("txn", "compare and put"),
)
CONCURRENCY = (1, 10, 100, 1000)
PEERS = ("etcd 3.4", "etcd 3.5")
PUT_PEERS = (*PEERS, "pysyncobj", "pysyncobj, 1 ms batches", "redis, one node")


def all_cases() -> Sequence[Case]:
    """In the order of running. Fresh keys come last, because they make the store larger for whoever comes after."""
    overwrites, fresh = PUTS
    cases = [Case("machine", work, 1) for work in (*FDATASYNCS, ROUND_TRIP)]
    ours = ("embedded", "bare", "standalone")
    for tasks in CONCURRENCY:
        cases += [Case(subject, overwrites, tasks) for subject in (*ours, *PUT_PEERS)]
    cases += [Case("embedded, from a follower", overwrites, tasks) for tasks in CONCURRENCY]
    for tasks in (1, 100, 1000):
        cases += [Case(subject, work, tasks) for work in GETS[:2] for subject in ours[::2]]
        cases += [Case(subject, LINEARIZABLE, tasks) for subject in ("embedded", "standalone", *PEERS)]
    cases += [Case("embedded", work, 100) for work in OTHERS]
    cases += [Case(subject, fresh, tasks) for tasks in CONCURRENCY for subject in ours]
    return cases
