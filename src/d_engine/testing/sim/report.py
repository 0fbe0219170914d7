"""A run in words: what was broken, how to see it again, and what happened around it, with a lane for each node."""

from collections.abc import Iterable, Iterator

from d_engine.format.messages import (
    AppendRequest,
    AppendResponse,
    Forward,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    ReadRequest,
    ReadResponse,
    TimeoutNow,
    VoteRequest,
    VoteResponse,
)
from d_engine.testing.sim.run import Report
from d_engine.testing.sim.trace import TraceEvent

SHOWN_EVENTS = 50
_WIDTH = 110


def describe_message(message: object) -> str:
    """A message between members, in a few words."""
    match message:
        case AppendRequest(term, prev, prev_term, commit, entries):
            what = (
                "nothing new"
                if not entries
                else f"entries {entries[0].index}..{entries[-1].index}@{entries[-1].term}"
            )
            return f"append in term {term}: {what} behind {prev}@{prev_term}, commit {commit}"
        case AppendResponse(term, match, 0):
            return f"acknowledges up to {match} in term {term}"
        case AppendResponse(term, _, rejected, hint, hint_term):
            return f"has no match at {rejected} in term {term}, perhaps at {hint}@{hint_term}"
        case VoteRequest(term, last, last_term, pre, transfer):
            kind = "would anybody vote" if pre else "wants votes"
            return f"{kind} for term {term}, log ends at {last}@{last_term}{', asked to lead' if transfer else ''}"
        case VoteResponse(term, granted, pre):
            return f"{'would ' if pre else ''}{'vote' if granted else 'refuse'}, term {term}"
        case Heartbeat(term, number, commit, _):
            return f"heartbeat {number} in term {term}, commit {commit}"
        case HeartbeatResponse(term, number):
            return f"echoes heartbeat {number} in term {term}"
        case ReadRequest(term, batch):
            return f"asks for a read index in term {term}, batch {batch}"
        case ReadResponse(term, batch, index):
            return f"read index {index} in term {term}, batch {batch}"
        case TimeoutNow(term):
            return f"is told to lead after term {term}"
        case InstallSnapshot(term, snapshot):
            return f"is offered the snapshot of {snapshot.index}@{snapshot.term} in term {term}"
        case Forward(groups):
            return f"is forwarded {len(groups)} groups"
        case _:
            return str(message)


def describe_event(event: TraceEvent) -> str:
    """What happened, without when and where."""
    if event.kind in ("node", "role", "fault", "undo", "heal"):
        return str(event.detail).strip()
    return f"<- {event.number}: {describe_message(event.detail)}"


def lanes(events: Iterable[TraceEvent], nodes: int) -> Iterator[str]:
    """A line for each event: the time, a column for the world and one for each node, and the words."""
    for event in events:
        columns = " ".join("*" if lane == event.lane else "." for lane in range(nodes + 1))
        text = describe_event(event)
        lane = "world" if not event.lane else f"node {event.lane}"
        yield f"{event.time / 1e9:12.6f}  {columns}  {lane} {text}"[: _WIDTH + 2 * nodes]


def describe_failure(report: Report, commit: str) -> str:
    """Everything that somebody needs who was not there."""
    script = report.script
    head = [
        f"{report.invariant} is broken: {report.text}",
        "",
        f"seed {script.seed}, profile {script.profile}, {script.nodes} nodes, {len(script.faults)} faults planned, "
        f"commit {commit}",
        f"after {report.events} events, {report.virtual:.3f} virtual seconds; again with:",
        f"    d-engine sim --seed {script.seed} --profile {script.profile} --nodes {script.nodes}"
        f" --steps {script.steps}",
        "",
        "the last events (a column for the world and one for each node):",
    ]
    return "\n".join((*head, *lanes(report.last_events[-SHOWN_EVENTS:], script.nodes)))


def describe_success(report: Report) -> str:
    """One line."""
    script = report.script
    return (
        f"seed {script.seed} ({script.profile}, {script.nodes} nodes): {report.events} events, {report.operations} "
        f"operations, {report.virtual:.1f} virtual seconds in {report.seconds:.2f} s; trace {report.trace_hash}"
    )
