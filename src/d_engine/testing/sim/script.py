"""A run as data: everything that a seed decides, so that parts of it can be taken away.

A `Script` is drawn from a seed and a profile. Running it gives the same events every time. The shrinker makes smaller
scripts of a failing one; a script is kept as JSON and replayed by tests.
"""

from dataclasses import dataclass, field, replace
from random import Random

import msgspec

from d_engine.format.ids import Nanoseconds
from d_engine.format.limits import BATCH_BYTES, MAX_IN_FLIGHT_BYTES
from d_engine.replica.settings import SnapshotSettings, WatchSettings
from d_engine.testing.sim.events import MICROSECOND, MILLISECOND, SECOND
from d_engine.testing.sim.profiles import PROFILES, Profile
from d_engine.testing.sim.rng import between, split
from d_engine.testing.sim.work.workload import USUAL_WEIGHTS, Workload

DEFAULT_STEPS = 12_000
_HORIZON: Nanoseconds = 600 * SECOND


@dataclass(frozen=True, slots=True)
class PlannedFault:
    """A fault at a time, for a time. `seed` decides its details."""

    at: Nanoseconds
    name: str
    duration: Nanoseconds
    seed: int


@dataclass(frozen=True, slots=True)
class Features:
    """How this run's world is made. Times in nanoseconds."""

    stream: bool = True
    encoded: float = 0.1
    latency: Nanoseconds = 200 * MICROSECOND
    jitter: Nanoseconds = 50 * MICROSECOND
    sync: Nanoseconds = 200 * MICROSECOND
    turn_delay: Nanoseconds = 0
    segment_bytes: int = 64 * 1024
    cache_bytes: int = 1024 * 1024
    append_bytes: int = BATCH_BYTES
    in_flight_bytes: int = MAX_IN_FLIGHT_BYTES
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    lease_reads: bool = False
    same_timers: bool = False
    drift: int = 0
    max_sessions: int = 10_000
    max_pending: int = 10_000
    heartbeat: Nanoseconds = 100 * MILLISECOND
    election_min: Nanoseconds = 500 * MILLISECOND
    election_max: Nanoseconds = 1000 * MILLISECOND
    snapshots: SnapshotSettings = field(default_factory=SnapshotSettings)
    watches: WatchSettings = field(default_factory=WatchSettings)
    marker: Nanoseconds = 60 * SECOND
    auto_promote: bool = True


@dataclass(frozen=True, slots=True)
class Script:
    """One run. `operations` bounds what each client does, `steps` the events before the faults are healed."""

    seed: int
    profile: str
    nodes: int
    spares: int = 0
    """Machines that are no members at first."""
    steps: int = DEFAULT_STEPS
    embedded: int = 2
    remote: int = 2
    operations: int = 1_000_000
    features: Features = Features()
    workload: Workload = field(default_factory=Workload)
    faults: tuple[PlannedFault, ...] = ()

    def to_json(self) -> bytes:
        """For keeping."""
        return msgspec.json.format(msgspec.json.encode(self), indent=1)


def script_from_json(data: bytes) -> Script:
    """A script that was kept."""
    return msgspec.json.decode(data, type=Script)


def draw_script(
    seed: int,
    profile: str = "general",
    nodes: int | None = None,
    steps: int = DEFAULT_STEPS,
    faults: tuple[str, ...] | None = None,
) -> Script:
    """What the seed stands for. `nodes` and `faults` (names) override what would be drawn."""
    known = PROFILES[profile]
    rng = split(seed, profile, "script")
    size = rng.choice(known.sizes)
    size = nodes if nodes is not None else size
    features = _features(split(seed, profile, "features"), known)
    script = Script(
        seed=seed,
        profile=profile,
        nodes=size,
        spares=rng.choice((0, 1, 2, 3, 3, 3)) if known.members else 0,
        steps=steps,
        embedded=rng.choice(known.embedded),
        remote=rng.choice((0, 1, 2, 3)),
        features=features,
        workload=_workload(split(seed, profile, "workload"), known, features),
    )
    names = faults if faults is not None else _swarm(split(seed, profile, "swarm"), known)
    return replace(script, faults=_plan(split(seed, profile, "plan"), known, names))


def _features(rng: Random, profile: Profile) -> Features:
    wide = rng.random() < 0.2
    latency = between(rng, 50 * MICROSECOND, 5 * MILLISECOND)
    lease = rng.random() < profile.lease
    drift = rng.choice((0, 0, 20_000, 50_000 if lease else 100_000))
    append = rng.choice((BATCH_BYTES, 1, 500))
    rough = 1.0 if rng.random() < profile.rough else 0.0
    return Features(
        stream=not rough and rng.random() < 0.6,
        encoded=rng.choice((0.02, 0.1, 0.3)),
        latency=25 * MILLISECOND if wide else latency,
        jitter=5 * MILLISECOND if wide else between(rng, 1, latency),
        sync=between(rng, 50 * MICROSECOND, 20 * MILLISECOND),
        turn_delay=rng.choice((0, 100 * MICROSECOND, 2 * MILLISECOND)),
        segment_bytes=rng.choice((16, 64, 256)) * 1024,
        cache_bytes=rng.choice((0, 4 * 1024, 1024 * 1024)),
        lease_reads=lease,
        same_timers=rng.random() < 0.15,
        append_bytes=append,
        in_flight_bytes=append * rng.choice((1, 4, 100)),
        loss=rough * rng.choice((0.0, 0.01, 0.1)),
        duplicate=rough * rng.choice((0.0, 0.05, 0.5)),
        reorder=rough * rng.choice((0.0, 0.05, 0.5)),
        drift=drift,
        max_sessions=rng.choice((10_000, 10_000, 12, 3)),
        max_pending=rng.choice((profile.usual_pending, profile.usual_pending, profile.max_pending)),
        snapshots=_snapshots(rng) if profile.snapshots else SnapshotSettings(),
        marker=rng.choice((SECOND, 3 * SECOND, 10 * SECOND)),
        auto_promote=not profile.members or rng.random() < 0.5,
        watches=_watches(rng) if "watch" in profile.weights else WatchSettings(),
    )


def _snapshots(rng: Random) -> SnapshotSettings:
    """Small in everything."""
    return SnapshotSettings(
        log_bytes=rng.choice((500, 2000, 10_000)),
        keep_log_ns=rng.choice((6, 200 * MILLISECOND, 3 * SECOND)),
        keep_log_bytes=rng.choice((1, 4000, 1_000_000)),
        slice_bytes=rng.choice((1, 1000, 64 * 1024)),
        pause_ns=rng.choice((0, MILLISECOND)),
        part_bytes=rng.choice((4000, 20_000, 512 * 1024)),
        receive_bytes_per_second=rng.choice((0, 0, 200_000)),
    )


def _watches(rng: Random) -> WatchSettings:
    """Histories so short that watches lag, windows and turns smaller than a transaction."""
    window = rng.choice((1, 300, 256 * 1024))
    return WatchSettings(
        history_bytes=rng.choice((1, 3000, 20_000, 64 * 1024 * 1024)),
        window_bytes=window,
        owner_bytes=window * rng.choice((1, 256)),
        progress_ns=rng.choice((200 * MILLISECOND, SECOND, 3 * SECOND)),
        slice_writes=rng.choice((1, 3, 4096)),
    )


def _workload(rng: Random, profile: Profile, features: Features) -> Workload:
    # More than eight operations at a time on a key would make their order too dear to find.
    return Workload(
        keys=rng.choice((2, 4, 8)),
        lines=rng.choice((1, 2)),
        pause_ms=rng.choice(profile.pauses_ms),
        value_bytes=rng.choice((8, 8, 100, 2000)),
        timeout_ms=rng.choice((500, 2000, 5000)),
        lease_share=rng.choice((0.0, 0.5)) if features.lease_reads else 0.1,
        eventual_share=rng.choice((0.0, 0.3)),
        weights=USUAL_WEIGHTS | profile.weights,
    )


def _swarm(rng: Random, profile: Profile) -> tuple[str, ...]:
    """Some of the profile's faults: a run that lacks a fault sees what that fault would have hidden."""
    share = rng.choice((0.15, 0.4, 0.8))
    names = tuple(name for name in profile.faults if rng.random() < share)
    return names or (rng.choice(profile.faults),)


def _plan(rng: Random, profile: Profile, names: tuple[str, ...]) -> tuple[PlannedFault, ...]:
    if not names:
        return ()
    gap = rng.choice((0.1, 0.4, 1.2)) * SECOND
    planned: list[PlannedFault] = []
    at = 0
    while at < _HORIZON and len(planned) < 1000:
        at += int(rng.expovariate(1.0) * gap)
        name = rng.choice(names)
        duration = between(rng, 10 * MILLISECOND, 10 * SECOND)
        planned.append(PlannedFault(at, name, duration, rng.getrandbits(48)))
    return tuple(planned)
