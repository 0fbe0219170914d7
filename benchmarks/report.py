"""From samples to tables: medians over the rounds, ratios within a round.

The machine is shared and its speed drifts, so that two figures of different minutes cannot be compared. A ratio is
therefore the median of the ratios that the rounds give, each between neighbours in time.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks.cases import PEERS, Case, Sample, Work

Results = Mapping[Case, Sequence[Sample]]
Extras = Mapping[str, Sequence[Sequence[str]]]
"""Further tables, by title. The first row is the head."""

LIMIT = "bare"
OURS = ("embedded", "embedded, from a follower", "standalone")


def markdown(
    results: Results,
    machine: Mapping[str, str],
    notes: Mapping[str, str],
    absent: Mapping[str, str],
    extras: Extras,
) -> str:
    """The whole report."""
    rounds = max(map(len, results.values()), default=0)
    parts = [
        f"{machine['cpu']}, {machine['memory']}; Linux {machine['kernel']}; {machine['python']}; "
        f"{machine['filesystem']}; commit {machine['commit']}; load before the run {machine['load']}. "
        f"Medians of {rounds} round{'s' if rounds != 1 else ''}: operations a second (latency p50 / p99). "
        f"{disturbance(results)}"
    ]
    subjects = dict.fromkeys(case.subject for case in results)
    lines = [f"- {name}: {notes[name]}" for name in subjects if name in notes]
    lines += [f"- {name}: left out, {reason}" for name, reason in absent.items()]
    if lines:
        parts.append("\n".join(lines))
    machine_rows = [
        [case.work.title, rate(samples), latency(samples)]
        for case, samples in results.items()
        if case.subject == "machine"
    ]
    if machine_rows:
        parts.append(table([["the machine, one caller", "a second", "latency"], *machine_rows]))
    for work in dict.fromkeys(case.work for case in results if case.subject != "machine"):
        parts += [f"### {work.title}", _table_of(results, work)]
        parts += [each for each in (_ratios_of(results, work), _processor_of(results, work)) if each]
    for title, rows in extras.items():
        parts += [f"### {title}", table(rows)]
    return "\n\n".join(parts) + "\n"


def _cases_of(results: Results, work: Work) -> tuple[list[str], list[int]]:
    cases = [case for case in results if case.work == work]
    return list(dict.fromkeys(case.subject for case in cases)), sorted({case.tasks for case in cases})


def _table_of(results: Results, work: Work) -> str:
    subjects, tasks = _cases_of(results, work)
    rows = [["tasks", *map(str, tasks)]]
    for subject in subjects:
        row = [subject]
        for count in tasks:
            samples = results.get(Case(subject, work, count), ())
            row.append(f"{rate(samples)} ({latency(samples)})" if samples else "–")
        rows.append(row)
    return table(rows)


def _ratios_of(results: Results, work: Work) -> str:
    """Ours to the limit, and to the faster of the peers."""
    subjects, tasks = _cases_of(results, work)
    rows = [["ratio within a round", *map(str, tasks)]]
    for subject in (each for each in OURS if each in subjects):
        for other in (each for each in (LIMIT, *PEERS) if each in subjects):
            row = [f"{subject} / {other}"]
            for count in tasks:
                own = results.get(Case(subject, work, count), ())
                row.append(ratio(own, results.get(Case(other, work, count), ())))
            rows.append(row)
    return table(rows) if len(rows) > 1 else ""


def _processor_of(results: Results, work: Work) -> str:
    """Processor time, which the noise does not hide."""
    subjects, tasks = _cases_of(results, work)
    rows = [["CPU seconds per 10,000: load + nodes", *map(str, tasks)]]
    for subject in subjects:
        cells = [processor(results.get(Case(subject, work, count), ())) for count in tasks]
        if any(cell != "–" for cell in cells):
            rows.append([subject, *cells])
    return table(rows) if len(rows) > 1 else ""


def rate(samples: Sequence[Sample]) -> str:
    """Median operations per second."""
    return f"{median(sample.rate for sample in samples):,.0f}" if samples else "–"


def latency(samples: Sequence[Sample]) -> str:
    """Median p50 and p99, in the unit that suits them."""
    if not samples:
        return "–"
    p50 = median(sample.p50_us for sample in samples)
    p99 = median(sample.p99_us for sample in samples)
    if p50 < 100:
        return f"{p50:.1f} / {p99:.1f} µs"
    return f"{p50 / 1000:.2f} / {p99 / 1000:.2f} ms"


def ratio(samples: Sequence[Sample], others: Sequence[Sample]) -> str:
    """Median of the rounds' ratios."""
    pairs = list(zip(samples, others, strict=False))
    if not pairs:
        return "–"
    value = median(one.rate / other.rate for one, other in pairs)
    return f"{value:.0%}" if value < 2 else f"{value:.1f} ×"


def disturbance(results: Results) -> str:
    """How much others were in the way."""
    shares = [sample.disturbance for samples in results.values() for sample in samples]
    if not shares:
        return ""
    return (
        f"Others used {median(shares):.0%} of the processors' time during the median run,"
        f" {max(shares):.0%} during the worst."
    )


def processor(samples: Sequence[Sample]) -> str:
    """Median CPU seconds per 10,000 operations of each process, the loaded one first."""
    if not samples or not samples[0].cpu_us:
        return "–"
    return " + ".join(
        f"{median(sample.cpu_us[name] for sample in samples) / 100:.3f}"
        for name in samples[0].cpu_us
        if all(name in sample.cpu_us for sample in samples)
    )


def table(rows: Sequence[Sequence[str]]) -> str:
    """As Markdown. The first row is the head."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return f"| {' | '.join(cells)} |"

    rule = "| " + " | ".join(
        "-" * width if column == 0 else "-" * (width - 1) + ":" for column, width in enumerate(widths)
    )
    return "\n".join([line(rows[0]), f"{rule} |", *map(line, rows[1:])])


def save(
    results: Results, machine: Mapping[str, str], settings: Mapping[str, object], extras: Extras, path: Path
) -> None:
    """`path` with `.json`: every sample."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": dict(machine),
        "settings": dict(settings),
        "cases": {case.name: [asdict(sample) for sample in samples] for case, samples in results.items()},
        "tables": {title: [list(row) for row in rows] for title, rows in extras.items()},
    }
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
