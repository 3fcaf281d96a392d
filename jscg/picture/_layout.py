"""Where everything goes: columns from left to right, each box laid out first and then moved whole.

The method of Sugiyama et al. (1981) within each box.  An arrow that passes a column, or that
leaves or enters a box, is given a place of its own there, so that it meets no node on its way.
Written here because no library that can be had without a binary lays out nested boxes.
"""

from __future__ import annotations

import dataclasses
import itertools

from ._diagram import Box, Diagram, Edge, Item
from ._rows import Unit, arrange, set_columns, set_rows
from ._shapes import SMALL_LETTER, Size, size_of

COLUMN_GAP, ROW_GAP, PADDING, CAPTION = 38.0, 16.0, 14.0, 16.0
BACK = 26.0  # room above a loop's items for arrows to the next step
_LANE = Size(0.0, 5.0, 5.0, 0.0)  # the place of an arrow


@dataclasses.dataclass
class Placed:
    """A laid out diagram: where everything is.

    Attributes:
      at: the centre of each item's shape.
      boxes: left, top, width and height of each box.
      routes: the points that each arrow passes between its ends.
      width: of the picture.
      height: of the picture.
    """

    at: dict[Item, tuple[float, float]]
    boxes: dict[Box, tuple[float, float, float, float]]
    routes: dict[Edge, list[tuple[float, float]]]
    width: float
    height: float


def lay_out(diagram: Diagram) -> Placed:
    """Finds the places of a diagram's items."""
    boxes: dict[Box | None, None] = {None: None}
    for item in diagram.items:
        boxes |= dict.fromkeys(item.boxes)
    levels: dict[Box | None, _Level] = {}
    for box in sorted(boxes, key=lambda b: -len(b.path) if b is not None else 0):
        levels[box] = _Level(diagram, box, levels)
    placed = Placed({}, {}, {}, 0.0, 0.0)
    _place(levels[None], PADDING, PADDING, levels, placed)
    placed.width = levels[None].size.width + 2 * PADDING
    placed.height = levels[None].size.above + levels[None].size.below + 2 * PADDING
    for edge in diagram.edges:
        placed.routes[edge] = [] if edge.before else _route(edge, levels)
    return placed


def _place(level: _Level, x: float, y: float, levels: dict, placed: Placed) -> None:
    """Moves all units of a level, and of those within, to where its contents start."""
    for unit in level.units:
        unit.x, unit.y = unit.x + x, unit.y + y
        if isinstance(unit.held, Item):
            placed.at[unit.held] = (unit.x + unit.size.centre, unit.y)
        elif isinstance(unit.held, Box):
            height = unit.size.above + unit.size.below
            placed.boxes[unit.held] = (unit.x, unit.top, unit.size.width, height)
            inner = levels[unit.held]
            _place(inner, unit.x + PADDING, unit.top + inner.header, levels, placed)


def _route(edge: Edge, levels: dict) -> list[tuple[float, float]]:
    """The points of an arrow, from the box of its start outwards and then inwards to its end."""
    out, into = edge.source.boxes, edge.target.boxes
    shared = sum(1 for a, b in zip(out, into, strict=False) if a is b)
    around = out[shared - 1] if shared else None
    path = [*reversed(out[shared:]), around, *into[shared:]]
    lanes = [unit for box in path for unit in levels[box].lanes.get(edge, [])]
    return [point for lane in lanes for point in lane.way]


class _Level:
    """What is directly in one box, or in none, and where.

    Attributes:
      units: all that has a place.
      lanes: for each arrow, the lanes that it takes here, in order.
      header: from the upper edge of the box to its contents.
      size: of the box.
    """

    def __init__(self, diagram: Diagram, box: Box | None, levels: dict[Box | None, _Level]):
        self.box = box
        self.lanes: dict[Edge, list[Unit]] = {}
        here = self._units(diagram, levels)
        arrows, ports = self._arrows(diagram, here)
        between = [(a, b) for a, b, _ in arrows if a not in ports and b not in ports]
        ranks = _ranks(list(dict.fromkeys(here.values())), between)
        last = max(ranks.values(), default=0) + 1
        ranks |= {port: -1 if incoming else last for port, incoming in ports.items()}
        columns, links = self._with_lanes(arrows, ranks)
        arrange(columns, links)
        width = set_columns(columns, COLUMN_GAP)
        height = set_rows(columns, links, ROW_GAP)
        self.units = [unit for column in columns for unit in column]
        back = any(_is_above(e, here) for e in diagram.edges if e.before)
        pad = PADDING if box is not None else 0.0
        self.header = pad + (CAPTION if box is not None else 0.0) + (BACK if back else 0.0)
        above = self.header + height / 2
        wide = max(width + 2 * pad, SMALL_LETTER * len(box.caption) + pad if box is not None else 0)
        self.size = Size(wide, above, height / 2 + pad, wide / 2)

    def _units(self, diagram: Diagram, levels: dict[Box | None, _Level]) -> dict[Item, Unit]:
        """What stands for each item in here: itself, or the box that holds it."""
        found: dict[Item, Unit] = {}
        of_box: dict[Box, Unit] = {}
        for item in diagram.items:
            path = (None, *item.boxes)
            if self.box not in path:
                continue
            depth = path.index(self.box) + 1
            if depth == len(path):
                found[item] = Unit(size_of(item), item)
                continue
            inner = path[depth]
            assert inner is not None
            if inner not in of_box:
                of_box[inner] = Unit(levels[inner].size, inner, wide=True)
            found[item] = of_box[inner]
        return found

    def _arrows(self, diagram: Diagram, here: dict[Item, Unit]):
        """Arrows between units; those that cross the border end at a port there.

        One port for all arrows of an item, one way; of each port, whether they come in.
        """
        ports: dict[Unit, bool] = {}
        known: dict[tuple[Item, bool], Unit] = {}

        def port(edge: Edge, incoming: bool) -> Unit:
            found = known.setdefault((edge.source, incoming), Unit(_LANE))
            ports[found] = incoming
            return found

        arrows = []
        for edge in diagram.edges:
            a, b = here.get(edge.source), here.get(edge.target)
            if edge.before or (a is None and b is None) or a is b:
                continue
            a = port(edge, True) if a is None else a
            b = port(edge, False) if b is None else b
            arrows.append((a, b, edge))
        return arrows, ports

    def _with_lanes(self, arrows: list, ranks: dict[Unit, int]):
        """The columns, with a lane for each item in those that its arrows pass, and the links."""
        low = min(ranks.values(), default=0)
        columns: list[list[Unit]] = [[] for _ in range(max(ranks.values(), default=0) - low + 1)]
        for unit, rank in ranks.items():
            columns[rank - low].append(unit)
        lanes: dict[tuple[Item, int], Unit] = {}
        links: dict[tuple[Unit, Unit], None] = {}
        for a, b, edge in arrows:
            way = [a]
            step = 1 if ranks[b] > ranks[a] else -1
            for rank in range(ranks[a] + step, ranks[b], step):
                if (edge.source, rank) not in lanes:
                    lanes[edge.source, rank] = Unit(_LANE)
                    columns[rank - low].append(lanes[edge.source, rank])
                way.append(lanes[edge.source, rank])
            way.append(b)
            links |= dict.fromkeys(itertools.pairwise(way))
            self.lanes[edge] = [unit for unit in way if unit.held is None]
        return columns, list(links)


def _is_above(edge: Edge, here: dict[Item, Unit]) -> bool:
    """Whether an arrow to an earlier item needs room above the units."""
    a, b = here.get(edge.source), here.get(edge.target)
    return a is not None and b is not None and (a is not b or not a.wide)


def _ranks(units: list[Unit], links: list[tuple[Unit, Unit]]) -> dict[Unit, int]:
    """The column of each unit: behind all that come before it, close to what comes after."""
    after: dict[Unit, list[Unit]] = {u: [] for u in units}
    for a, b in dict.fromkeys(links):
        after[a].append(b)
    order = _topological(units, after)
    place = {u: i for i, u in enumerate(order)}
    ranks = dict.fromkeys(units, 0)
    for u in order:
        for v in after[u]:
            if place[v] > place[u]:  # boxes may stand before each other
                ranks[v] = max(ranks[v], ranks[u] + 1)
    for u in reversed(order):
        ahead = [ranks[v] for v in after[u] if place[v] > place[u]]
        if ahead:
            ranks[u] = min(ahead) - 1
    return ranks


def _topological(units: list[Unit], after: dict[Unit, list[Unit]]) -> list[Unit]:
    """Units in an order in which most arrows point forwards."""
    waiting = dict.fromkeys(units, 0)
    for many in after.values():
        for v in many:
            waiting[v] += 1
    order = []
    while waiting:
        u = next((u for u, n in waiting.items() if n == 0), None)
        u = next(iter(waiting)) if u is None else u  # boxes stand before each other: the first
        del waiting[u]
        order.append(u)
        for v in after[u]:
            if v in waiting:
                waiting[v] -= 1
    return order
