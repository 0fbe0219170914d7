"""Pictures of the results, from the samples that a run has saved.

    python -m benchmarks.plots benchmarks/results/<time>.json

`<time>-writes.png`: durable writes a second over tasks under way, ours as a service and etcd, with the embedded engine
as a series of its own because it has no client hop. `<time>-reads.png`: linearizable reads. `<time>-ratio.png`: the
embedded engine beside the bare pipeline. Points are medians, bars go from the lowest round to the highest.
"""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

_STYLES = {
    "standalone": ("#0a5fb4", "o", "-", "d-engine, through its client"),
    "embedded": ("#55a5e8", "s", "--", "d-engine embedded (in process, no client hop)"),
    "bare": ("#888888", "^", ":", "bare pipeline (no consensus, in process)"),
    "etcd 3.4": ("#d1495b", "D", "-", "etcd 3.4"),
    "etcd 3.5": ("#8a2846", "v", "-", "etcd 3.5"),
}


def series_of(document: dict[str, Any], subject: str, work: str) -> list[tuple[int, list[float]]]:
    """Rates by number of tasks."""
    found = []
    for name, samples in document["cases"].items():
        parts = name.split("/")
        if parts[0] == subject and "/".join(parts[1:-1]) == work:
            found.append((int(parts[-1]), [each["operations"] / each["seconds"] for each in samples]))
    return sorted(found)


def draw(document: dict[str, Any], work: str, subjects: Sequence[str], title: str, path: Path) -> None:
    """One picture."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 4.8), dpi=120)
    for subject in subjects:
        series = series_of(document, subject, work)
        if not series:
            continue
        color, marker, line, label = _STYLES[subject]
        tasks = [count for count, _ in series]
        middle = [median(rates) for _, rates in series]
        below = [value - min(rates) for value, (_, rates) in zip(middle, series, strict=True)]
        above = [max(rates) - value for value, (_, rates) in zip(middle, series, strict=True)]
        axes.errorbar(
            tasks,
            middle,
            yerr=(below, above),
            color=color,
            marker=marker,
            linestyle=line,
            label=label,
            capsize=3,
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([1, 10, 100, 1000], ["1", "10", "100", "1,000"])
    axes.set_xlabel("operations under way")
    axes.set_ylabel("operations a second (log scale)")
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
    axes.grid(visible=True, which="major", alpha=0.35)
    axes.legend(fontsize=8)
    axes.set_title(title, fontsize=10)
    machine = document["machine"]
    figure.text(
        0.01,
        0.01,
        f"{machine['cpu']}, {machine['memory']}, Linux {machine['kernel']}, {machine['python']}, "
        f"{machine['filesystem']}, commit {machine['commit']}; three nodes and the load on this machine",
        fontsize=6,
        color="#555555",
    )
    figure.tight_layout(rect=(0, 0.03, 1, 1))
    figure.savefig(path)
    pyplot.close(figure)


def draw_all(source: Path) -> list[Path]:
    """All pictures of one run."""
    document = json.loads(source.read_text())
    writes = "Durable writes, 8-byte keys, 256-byte values, three nodes, synced before acknowledged"
    reads = "Linearizable reads, three nodes"
    wanted = {
        "writes": ("put/overwrites", ("standalone", "etcd 3.4", "etcd 3.5", "embedded"), writes),
        "reads": ("get/linearizable", ("standalone", "etcd 3.4", "etcd 3.5", "embedded"), reads),
        "ratio": ("put/overwrites", ("embedded", "bare"), writes + ": what consensus costs"),
    }
    paths = []
    for name, (work, subjects, title) in wanted.items():
        if any(series_of(document, subject, work) for subject in subjects):
            path = source.with_name(f"{source.stem}-{name}.png")
            draw(document, work, subjects, title, path)
            paths.append(path)
    return paths


if __name__ == "__main__":
    for path in draw_all(Path(sys.argv[1])):
        print(path)
