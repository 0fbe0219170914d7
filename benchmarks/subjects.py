"""Everything that can be measured, by name, and why some of it cannot be on this machine."""

from collections.abc import Callable, Mapping

from benchmarks import etcd, pysyncobj, redis
from benchmarks.bare import Bare
from benchmarks.cases import Subject
from benchmarks.embedded import Embedded
from benchmarks.machine import Machine
from benchmarks.standalone import Standalone

SUBJECTS: Mapping[str, Callable[[], Subject]] = {
    "machine": Machine,
    "embedded": Embedded,
    "embedded, from a follower": lambda: Embedded(from_follower=True),
    "bare": Bare,
    "standalone": Standalone,
    "etcd 3.4": lambda: etcd.Etcd(etcd.program_of("3.4")),
    "etcd 3.5": lambda: etcd.Etcd(etcd.program_of("3.5")),
    "pysyncobj": lambda: pysyncobj.PySyncObj(batches=False),
    "pysyncobj, 1 ms batches": lambda: pysyncobj.PySyncObj(batches=True),
    "redis, one node": redis.Redis,
}
_WHY_NOT: Mapping[str, Callable[[], str]] = {
    "etcd 3.4": lambda: etcd.why_not("3.4"),
    "etcd 3.5": lambda: etcd.why_not("3.5"),
    "pysyncobj": pysyncobj.why_not,
    "pysyncobj, 1 ms batches": pysyncobj.why_not,
    "redis, one node": redis.why_not,
}
NOTES: Mapping[str, str] = {
    "embedded": "in process, no client hop; leases enabled for lease reads",
    "standalone": "through our client, in a process of its own; it goes to the leader",
    "bare": "the limit: same bytes, same log, same sockets, no consensus",
    "etcd 3.4": "h2load, one key",
    "etcd 3.5": "h2load, one key",
    "pysyncobj": "with its journal; it never syncs",
    "pysyncobj, 1 ms batches": "with its journal; it never syncs",
    "redis, one node": "appendfsync always; replicates nothing",
}


def absent() -> dict[str, str]:
    """The subjects that are not installed here, each with what is missing."""
    return {name: reason for name, why_not in _WHY_NOT.items() if (reason := why_not())}
