"""How large things are: the widths of letters are guessed, because no font is at hand."""

from __future__ import annotations

from typing import NamedTuple

from ._diagram import Item

LETTER, SMALL_LETTER = 7.4, 5.7  # widths; the fonts are 13 and 10 units high
LINE = 13.0  # from one small line to the next
RADIUS = 17.0
DIAMOND = 15.0


class Size(NamedTuple):
    """The room that something takes, around its anchor.

    Attributes:
      width: of it.
      above: from its upper edge to its anchor.
      below: from its anchor to its lower edge.
      centre: from its left edge to the middle of its shape.
    """

    width: float
    above: float
    below: float
    centre: float


def half_widths(item: Item) -> tuple[float, float]:
    """Half the width and half the height of an item's shape."""
    text = LETTER * len(item.label) / 2
    if item.kind == "stochastic":
        return max(RADIUS, text + 7), RADIUS
    if item.kind == "cost":
        return max(DIAMOND, text + 9), DIAMOND
    if item.kind == "deterministic":
        return max(13.0, text + 6), 13.0
    return text + 4, 10.0


def size_of(item: Item) -> Size:
    """The room that an item takes with what is written below it."""
    half, height = half_widths(item)
    notes = SMALL_LETTER * max((len(n) for n in item.notes), default=0)
    width = max(2 * half, notes)
    return Size(width, height, height + LINE * len(item.notes), width / 2)
