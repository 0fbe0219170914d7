"""What real time forbids, in O(n log n): the sweep that several checkers share."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from d_engine.testing.checkers.history import Operation

ActionT = TypeVar("ActionT")


def highest_before(
    operations: Sequence[Operation[ActionT]], rank: Callable[[Operation[ActionT]], int | None]
) -> list[tuple[int, Operation[ActionT]] | None]:
    """For each operation the highest `rank` among those that ended before it began, and who has it.

    Operations whose rank is None set no bound but are given theirs. The answer is in the order of `operations`; of
    equal ranks the one that ended first is named.
    """
    ended: list[tuple[int, int, int, Operation[ActionT]]] = []
    for operation in operations:
        if operation.completed is not None:
            ranked = rank(operation)
            if ranked is not None:
                ended.append((operation.completed, operation.index, ranked, operation))
    ended.sort(key=lambda entry: entry[:2])

    bounds: list[tuple[int, Operation[ActionT]] | None] = [None] * len(operations)
    highest: tuple[int, Operation[ActionT]] | None = None
    position = 0
    for place in sorted(range(len(operations)), key=lambda place: operations[place].invoked):
        while position < len(ended) and ended[position][0] < operations[place].invoked:
            _, _, ranked, operation = ended[position]
            if highest is None or ranked > highest[0]:
                highest = (ranked, operation)
            position += 1
        bounds[place] = highest
    return bounds
