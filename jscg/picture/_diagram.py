"""What a picture shows: items, boxes around them, and arrows."""

from __future__ import annotations

import dataclasses
from typing import Literal, NamedTuple

Kind = Literal["input", "deterministic", "stochastic", "cost"]


@dataclasses.dataclass(eq=False)
class Box:
    """A rectangle around items: a loop, or a plate.

    Attributes:
      caption: written in its corner.
      parent: the box around it, if any.
      loop: whether it is a loop.
    """

    caption: str
    parent: Box | None
    loop: bool

    @property
    def path(self) -> tuple[Box, ...]:
        """The boxes around it, the outermost first, and itself at the end."""
        return (*self.parent.path, self) if self.parent is not None else (self,)


@dataclasses.dataclass(eq=False)
class Item:
    """One node of a graph.

    Attributes:
      kind: see `Kind`; by it the shape is chosen.
      label: written in it.
      notes: lines written below it.
      tip: what a browser shows where the pointer rests.
      style: how its gradient is estimated; by it the colour is chosen.
      scope: the function that holds it, and the line.
      box: the box around it, if any.
    """

    kind: Kind
    label: str
    notes: tuple[str, ...] = ()
    tip: str = ""
    style: str = ""
    scope: tuple[str, str] = ("", "")
    box: Box | None = None

    @property
    def boxes(self) -> tuple[Box, ...]:
        """The boxes around it, the outermost first."""
        return self.box.path if self.box is not None else ()


class Edge(NamedTuple):
    """An arrow.

    Attributes:
      source: where it starts.
      target: where it ends.
      before: whether the value is that of an earlier step of a loop.
    """

    source: Item
    target: Item
    before: bool = False


@dataclasses.dataclass(frozen=True)
class Diagram:
    """All of it.

    Attributes:
      items: in program order.
      edges: between them.
    """

    items: tuple[Item, ...]
    edges: tuple[Edge, ...]
