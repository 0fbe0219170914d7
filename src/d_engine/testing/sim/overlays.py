"""Values that several faults change at a time.

Faults overlap: a link that loses one message in ten is made to lose three, and whichever of the two is over first, the
other still holds. So what a fault changes for a time is put over what was there, and taken away by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(slots=True)
class _Layers:
    """What lies over one attribute. `target` is kept so that nobody else gets its id."""

    target: object
    usual: object
    values: dict[int, object] = field(default_factory=dict)


class Overlays:
    """All that is changed for a time. The newest value that is still in force holds; if there is none, the usual."""

    def __init__(self) -> None:
        self._layers: dict[tuple[int, str], _Layers] = {}
        self._number = 0

    def put(self, target: object, **values: object) -> Callable[[], None]:
        """Set attributes of the target, until what is returned is called.

        >>> class Link: loss = 0.0
        >>> overlays, link = Overlays(), Link()
        >>> undo_first, undo_second = overlays.put(link, loss=0.1), overlays.put(link, loss=0.3)
        >>> undo_first(); link.loss
        0.3
        >>> undo_second(); link.loss
        0.0
        """
        self._number += 1
        number = self._number
        for name, value in values.items():
            layers = self._layers.setdefault((id(target), name), _Layers(target, getattr(target, name)))
            layers.values[number] = value
            setattr(target, name, value)

        def undo() -> None:
            for name in values:
                self._take_away(target, name, number)

        return undo

    def _take_away(self, target: object, name: str, number: int) -> None:
        layers = self._layers[id(target), name]
        del layers.values[number]
        newest = max(layers.values, default=None)
        setattr(target, name, layers.usual if newest is None else layers.values[newest])
        if newest is None:
            del self._layers[id(target), name]
