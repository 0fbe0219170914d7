"""One run, from its script to its report."""

import gc
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field

from d_engine.testing.checkers.actions import Action, CompareAndSwap, Delete, Get, Put, Transaction
from d_engine.testing.checkers.append import check_append
from d_engine.testing.checkers.bank import check_bank
from d_engine.testing.checkers.linearizability import check_linearizability
from d_engine.testing.checkers.locks import check_locks
from d_engine.testing.checkers.revisions import check_revisions
from d_engine.testing.checkers.sets import check_set
from d_engine.testing.checkers.violation import Violation
from d_engine.testing.sim.application import Trial
from d_engine.testing.sim.events import SECOND
from d_engine.testing.sim.fleet import Fleet
from d_engine.testing.sim.liveness import demand_recovery
from d_engine.testing.sim.script import DEFAULT_STEPS, Script, draw_script
from d_engine.testing.sim.trace import Trace, TraceEvent
from d_engine.testing.sim.violations import InvariantBroken
from d_engine.testing.sim.work.bank import FIRST_BALANCES
from d_engine.testing.sim.work.leases import LEASED
from d_engine.testing.sim.world import World

_HORIZON = 10_000 * SECOND


@dataclass(frozen=True, slots=True)
class Report:
    """What a run showed. `invariant` is "" if nothing was broken; `seconds` are the processor's, `virtual` the
    world's."""

    script: Script
    invariant: str
    text: str
    events: int
    operations: int
    virtual: float
    seconds: float
    trace_hash: str
    counters: dict[str, int]
    last_events: tuple[TraceEvent, ...] = field(default=(), repr=False)

    @property
    def failed(self) -> bool:
        """Some invariant was broken."""
        return bool(self.invariant)


def run_seed(
    seed: int,
    profile: str = "general",
    *,
    nodes: int | None = None,
    steps: int = DEFAULT_STEPS,
    faults: tuple[str, ...] | None = None,
) -> Report:
    """Run what a seed stands for. `nodes` and `faults` override what it would draw."""
    return run_script(draw_script(seed, profile, nodes, steps, faults))


def run_script(
    script: Script, sink: Callable[[TraceEvent], None] | None = None, trial: Trial | None = None
) -> Report:
    """Run a script. `sink` gets every event of the trace; `trial` brings another application than the key-value
    store."""
    trace = Trace(sink)
    began = time.process_time()
    collecting = gc.isenabled()
    gc.disable()
    try:
        world = World(script, trace, trial)
        with world.fleet.loop.running():
            invariant, text = _run(world)
    finally:
        if collecting:
            gc.enable()
    return Report(
        script=script,
        invariant=invariant,
        text=text,
        events=world.events.count,
        operations=len(world.fleet.histories.store),
        virtual=world.events.now / SECOND,
        seconds=time.process_time() - began,
        trace_hash=trace.hash,
        counters=dict(trace.counters),
        last_events=tuple(trace.last()) if invariant else (),
    )


def _run(world: World) -> tuple[str, str]:
    try:
        world.begin()
        world.events.run(_HORIZON, world.script.steps)
        world.heal()
        demand_recovery(world)
    except InvariantBroken as broken:
        return broken.invariant, broken.text
    except Exception:
        # The engine's own exceptions never get here: this is a bug of the simulator, to be reported with its seed.
        return "simulator", traceback.format_exc()
    found = check_histories(world.fleet)
    if found:
        return found[0].invariant, "\n".join(map(str, found))
    return "", ""


def check_histories(fleet: Fleet) -> tuple[Violation, ...]:
    """What the clients saw, judged by every checker."""
    histories = fleet.histories
    for watch in histories.watches:
        watch.finish()
    store = tuple(histories.store.operations())
    # Transactions have keys of their own, which they tie together: too many operations at a time to find their order.
    # The revisions tell it. So they do of keys that go by themselves, at most of them by nobody's request.
    single = [operation for operation in store if not _has_others(operation.action)]
    return (
        *check_revisions(store),
        *check_linearizability(single).violations,
        *check_set(histories.elements.operations()),
        *check_append(histories.lists.operations()),
        *check_bank(histories.bank.operations(), FIRST_BALANCES),
        *check_locks(histories.locks.operations()),
        *(found for record in histories.watch_records for found in histories.chronicle.check(record)),
    )


def _has_others(action: Action) -> bool:
    return isinstance(action, Transaction) or (
        isinstance(action, Put | Get | Delete | CompareAndSwap) and action.key.startswith(LEASED)
    )
