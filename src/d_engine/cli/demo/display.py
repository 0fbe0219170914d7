"""What the demonstration shows: a live line on a terminal, plain lines elsewhere, a table in the end."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from rich.console import Console
from rich.table import Table


class Display:
    """Steps with their durations."""

    def __init__(self) -> None:
        self.console = Console(file=sys.stdout, highlight=False)
        self._started = perf_counter()

    @contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Show that this goes on, and how long it took."""
        started = perf_counter()
        if self.console.is_terminal:
            with self.console.status(text):
                yield
        else:
            yield
        self.console.print(
            f"[{perf_counter() - self._started:5.1f} s] {text} ({perf_counter() - started:.1f} s)",
            markup=False,
        )

    def say(self, text: str) -> None:
        """One line."""
        self.console.print(f"          {text}", markup=False, soft_wrap=True)

    def table(self, title: str, rows: list[tuple[str, str]]) -> None:
        """The summary."""
        table = Table(title=title, show_header=False, title_justify="left")
        table.add_column("what")
        table.add_column("figure", justify="right")
        for name, figure in rows:
            table.add_row(name, figure)
        self.console.print(table)
