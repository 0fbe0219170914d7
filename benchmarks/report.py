"""From samples to tables: medians over the rounds, ratios within a round.

The machine is shared and its speed drifts, so that two figures of different minutes cannot be compared. A ratio is
therefore the median of the ratios that the rounds give, each between neighbours in time.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median

from benchmarks.cases import Case, Sample, Work

Results = Mapping[Case, Sequence[Sample]]

LIMIT = "bare"


def markdown(results: Results, machine: Mapping[str, str]) -> str:
    """The whole report."""
    rounds = max(map(len, results.values()))
    parts = [
        f"{machine['cpu']}, {machine['memory']}; Linux {machine['kernel']}; {machine['python']}; "
        f"{machine['filesystem']}; commit {machine['commit']}; load before the run {machine['load']}. "
        f"Medians of {rounds} round{'s' if rounds > 1 else ''}. Latencies p50 / p99. {disturbance(results)}",
    ]
    subjects = list(dict.fromkeys(case.subject for case in results if case.subject != "machine"))
    if subjects:
        parts.append(_table(_rows_of_subjects(results, subjects)))
    machine_rows = [
        [case.work.title, rate(samples), latency(samples)]
        for case, samples in results.items()
        if case.subject == "machine"
    ]
    if machine_rows:
        parts.append(_table([["the machine, one caller", "a second", "latency"], *machine_rows]))
    return "\n\n".join(parts) + "\n"


def _rows_of_subjects(results: Results, subjects: Sequence[str]) -> list[list[str]]:
    compared = [subject for subject in subjects if subject != LIMIT] if LIMIT in subjects else []
    head = ["case", "tasks"]
    for subject in subjects:
        head += [f"{subject}, a second", "latency"]
    head += [f"{subject} / {LIMIT}" for subject in compared]
    head += [f"CPU µs an operation, {subject}" for subject in subjects]
    rows = [head]
    works: dict[tuple[Work, int], None] = {
        (case.work, case.tasks): None for case in results if case.subject in subjects
    }
    for work, tasks in works:
        cells = {subject: results.get(Case(subject, work, tasks), ()) for subject in subjects}
        row = [work.title, str(tasks)]
        for samples in cells.values():
            row += [rate(samples), latency(samples)]
        row += [ratio(cells[subject], cells[LIMIT]) for subject in compared]
        row += [processor(samples) for samples in cells.values()]
        rows.append(row)
    return rows


def rate(samples: Sequence[Sample]) -> str:
    """Median operations per second."""
    if not samples:
        return "–"
    value = median(sample.rate for sample in samples)
    return f"{value:,.0f}"


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
    return f"{median(one.rate / other.rate for one, other in pairs):.0%}"


def disturbance(results: Results) -> str:
    """How much others were in the way."""
    shares = [sample.disturbance for samples in results.values() for sample in samples]
    return (
        f"Others used {median(shares):.0%} of the processors' time during the median run,"
        f" {max(shares):.0%} during the worst."
    )


def processor(samples: Sequence[Sample]) -> str:
    """Median CPU time per operation of each process, the loaded one first."""
    if not samples or not samples[0].cpu_us:
        return "–"
    return " + ".join(
        f"{median(sample.cpu_us[name] for sample in samples):.1f}" for name in samples[0].cpu_us
    )


def _table(rows: Sequence[Sequence[str]]) -> str:
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


def save(results: Results, machine: Mapping[str, str], settings: Mapping[str, object], path: Path) -> None:
    """`path` with `.json` (every sample) and with `.md` (the tables)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    document = {
        "machine": dict(machine),
        "settings": dict(settings),
        "cases": {case.name: [asdict(sample) for sample in samples] for case, samples in results.items()},
    }
    path.with_suffix(".json").write_text(json.dumps(document, indent=1) + "\n")
    path.with_suffix(".md").write_text(markdown(results, machine))
