"""The zoo's page in the documentation: a text written by hand, and a table made from the animals."""

from tests.zoo.animals import ROOT, Animal, load_animals

PAGE = ROOT / "docs" / "design" / "zoo.md"
_BEGIN, _END = "<!-- table: made by `make zoo-full` -->", "<!-- end of the table -->"


def table() -> str:
    """The animals and what caught them."""
    lines = ["| bug | where it lived | caught by | run | runs needed |", "| --- | --- | --- | --- | --- |"]
    lines += map(_row, load_animals())
    return "\n".join(lines)


def _row(animal: Animal) -> str:
    caught = animal.caught
    what = f"**{animal.title}.** {_line(animal.story)}"
    found = (
        "not yet | |"
        if caught is None
        else f"{caught.invariant} | {caught.profile} {caught.seed} | {caught.runs}"
    )
    return f"| {what} | {_line(animal.seen)} | {found} |"


def _line(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def page() -> str:
    """The page as it should be."""
    before, _, rest = PAGE.read_text().partition(_BEGIN)
    after = rest.partition(_END)[2]
    return f"{before}{_BEGIN}\n{table()}\n{_END}{after}"


def write_page() -> None:
    """Bring the page up to date."""
    PAGE.write_text(page())
