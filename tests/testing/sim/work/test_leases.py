"""I11 in the simulator: the profile does what it is for, it holds, and what is planted shows (scenarios 32, 33, 41)."""

from collections import Counter
from collections.abc import Callable
from typing import TypeAlias

import pytest

from d_engine.format.ids import Nanoseconds, Term
from d_engine.format.state_machine import StateMachine
from d_engine.kv import leasing, machine
from d_engine.kv.lease_commands import Expire, LeaseCommand, Revoke
from d_engine.kv.leases import Lease, LeaseTable
from d_engine.kv.store import Store
from d_engine.raft.core import Raft
from d_engine.raft.effects import LeaderState, Role
from d_engine.replica.executor import Executor
from d_engine.replica.log_clock import LogClock
from d_engine.replica.timekeeper import Timekeeper
from d_engine.storage.api import LogStorage
from d_engine.testing.sim.ports import SimHost
from d_engine.testing.sim.run import run_seed
from d_engine.testing.sim.script import draw_script
from d_engine.testing.sim.trace import Trace
from d_engine.testing.sim.world import World

STEPS = 6000

Plant: TypeAlias = Callable[[pytest.MonkeyPatch], None]


def test_a_run_does_what_it_is_for() -> None:
    counters: Counter[str] = Counter()
    for seed in range(10):
        trace = Trace()
        world = World(draw_script(seed, "lease", 3, STEPS, ()), trace)
        with world.fleet.loop.running():
            world.begin()
            world.events.run(10**15, STEPS)
        counters.update(trace.counters)
    for what in (
        "lease: granted",
        "lease: expired",
        "lease: revoked",
        "lease: lost",
        "lease: an end that came too late",
        "lock: acquired",
        "lock: use accepted",
        "lock: late use refused",
    ):
        assert counters[what], (what, counters)


@pytest.mark.parametrize("seed", range(4))
def test_the_profile_holds(seed: int) -> None:
    report = run_seed(seed, "lease", steps=STEPS)
    assert not report.failed, report.text


@pytest.mark.parametrize("seed", [220, 230])
def test_leadership_lost_and_won_between_two_turns(seed: int) -> None:
    """The log clock ran on through the time of another leader, and its leases ended early."""
    report = run_seed(seed, "lease", steps=STEPS)
    assert not report.failed, report.text


@pytest.mark.parametrize("seed", [12, 1084])
def test_a_process_that_is_held_up_writes_nothing_before_it_goes_on(seed: int) -> None:
    """The simulator's own mistake: what was stamped with a later time was on the disk when the power failed before."""
    report = run_seed(seed, "lease", steps=STEPS)
    assert not report.failed, report.text


def log_time_from_the_wall_clock(patch: pytest.MonkeyPatch) -> None:
    walls: dict[LogClock, Callable[[], int]] = {}
    init, start = Timekeeper.__init__, LogClock.start

    def with_wall(
        self: Timekeeper,
        raft: Raft,
        storage: LogStorage,
        log_clock: LogClock,
        state_machine: StateMachine,
        clock: Callable[[], Nanoseconds],
    ) -> None:
        host = clock.__self__  # type: ignore[attr-defined]
        assert isinstance(host, SimHost)
        node = host._node
        walls[log_clock] = lambda: node.clocks.wall(node.shared.events.now)
        init(self, raft, storage, log_clock, state_machine, clock)

    def started(self: LogClock, term: Term, reached: Nanoseconds, now: Nanoseconds) -> None:
        start(self, term, reached, walls[self]() if self in walls else now)

    def read(self: LogClock, now: Nanoseconds) -> Nanoseconds:
        if self._since is None:
            return self._base
        return self._base + max(0, (walls[self]() if self in walls else now) - self._since)

    patch.setattr(Timekeeper, "__init__", with_wall)
    patch.setattr(LogClock, "start", started)
    patch.setattr(LogClock, "read", read)


def expiry_without_looking_at_the_deadline(patch: pytest.MonkeyPatch) -> None:
    change = leasing.change_leases

    def careless(store: Store, command: LeaseCommand, log_time: Nanoseconds) -> bytes:
        if isinstance(command, Expire) and store.leases.get(command.lease) is not None:
            return change(store, Revoke(command.lease), log_time)
        return change(store, command, log_time)

    patch.setattr(machine, "change_leases", careless)


def a_new_leader_begins_at_0(patch: pytest.MonkeyPatch) -> None:
    start = LogClock.start

    def anew(self: LogClock, term: Term, reached: Nanoseconds, now: Nanoseconds) -> None:
        start(self, term, 0, now)

    patch.setattr(LogClock, "start", anew)


def a_leader_goes_on_from_what_it_counted_before(patch: pytest.MonkeyPatch) -> None:
    start = LogClock.start

    def on(self: LogClock, term: Term, reached: Nanoseconds, now: Nanoseconds) -> None:
        start(self, term, max(self._base, reached), now)

    patch.setattr(LogClock, "start", on)


def the_clock_runs_on_between_two_terms(patch: pytest.MonkeyPatch) -> None:
    """It was started and stopped only when a turn had shown that the role had changed."""
    keep, changed = Executor.keep_time, Executor._leader_changed

    def nothing(self: Executor, now: Nanoseconds) -> None: ...

    def leader_changed(self: Executor, state: LeaderState, now: Nanoseconds) -> None:
        if (state.role is Role.LEADER) is not self._log_clock.running:
            keep(self, now)
        changed(self, state, now)

    patch.setattr(Executor, "keep_time", nothing)
    patch.setattr(Executor, "_leader_changed", leader_changed)


def keeping_alive_changes_nothing(patch: pytest.MonkeyPatch) -> None:
    def keep_alive(self: LeaseTable, lease_id: int, log_time: Nanoseconds) -> Lease | None:
        return self._leases.get(lease_id)

    patch.setattr(LeaseTable, "keep_alive", keep_alive)


def a_snapshot_without_deadlines(patch: pytest.MonkeyPatch) -> None:
    init = LeaseTable.__init__

    def forgetful(self: LeaseTable, granted: int = 0, leases: list[Lease] = []) -> None:  # noqa: B006
        init(self, granted, [Lease(lease.id, lease.ttl, lease.ttl, lease.single) for lease in leases])

    patch.setattr(LeaseTable, "__init__", forgetful)


@pytest.mark.parametrize(
    ("plant", "seeds"),
    [
        (log_time_from_the_wall_clock, (2, 3)),
        (expiry_without_looking_at_the_deadline, (1, 6)),
        (a_new_leader_begins_at_0, (4, 10)),
        (a_leader_goes_on_from_what_it_counted_before, (111, 220)),
        (the_clock_runs_on_between_two_terms, (50, 111)),
        (keeping_alive_changes_nothing, (9, 16)),
        (a_snapshot_without_deadlines, (0, 3)),
    ],
)
def test_what_is_planted_shows(plant: Plant, seeds: tuple[int, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    plant(monkeypatch)
    assert any(run_seed(seed, "lease", steps=STEPS).invariant in ("I11", "I4") for seed in seeds)
