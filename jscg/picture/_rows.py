"""The order of units in columns, so that few arrows cross, and their coordinates."""

from __future__ import annotations

import dataclasses
from typing import Any

from ._shapes import Size

Links = list[tuple["Unit", "Unit"]]
_SWEEPS = 12


@dataclasses.dataclass(eq=False)
class Unit:
    """What is placed as a whole: an item, a box with all that is in it, or an arrow's lane.

    Attributes:
      size: the room that it takes.
      held: what it holds; None for a lane.
      wide: whether it is a box.
      span: how far a lane leads straight on.
      x: of its left edge.
      y: of its anchor.
    """

    size: Size
    held: Any = None
    wide: bool = False
    span: float = 0.0
    x: float = 0.0
    y: float = 0.0

    @property
    def top(self) -> float:
        """Of its upper edge."""
        return self.y - self.size.above

    @property
    def way(self) -> list[tuple[float, float]]:
        """The points that an arrow passes in a lane."""
        ends = (self.x, self.x + self.span) if self.span else (self.x,)
        return [(x, self.y) for x in ends]


def _neighbours(columns: list[list[Unit]], links: Links) -> dict[Unit, list[Unit]]:
    found: dict[Unit, list[Unit]] = {u: [] for column in columns for u in column}
    for a, b in links:
        found[a].append(b)
        found[b].append(a)
    return found


def arrange(columns: list[list[Unit]], links: Links) -> None:
    """Orders every column by where its neighbours are, forwards and back, and keeps the best."""
    near = _neighbours(columns, links)
    column_of = {u: i for i, column in enumerate(columns) for u in column}
    best, fewest = [list(c) for c in columns], _crossings(columns, links)
    for sweep in range(_SWEEPS):
        forwards = sweep % 2 == 0
        indices = range(len(columns)) if forwards else range(len(columns) - 1, -1, -1)
        for i in indices:
            at = {u: k / max(len(c) - 1, 1) for c in columns for k, u in enumerate(c)}
            side = i - 1 if forwards else i + 1

            def where(u: Unit, at=at, side=side) -> float:
                known = [at[v] for v in near[u] if column_of[v] == side]
                return sum(known) / len(known) if known else at[u]

            columns[i].sort(key=where)
        crossings = _crossings(columns, links)
        if crossings < fewest:
            best, fewest = [list(c) for c in columns], crossings
    columns[:] = best


def _crossings(columns: list[list[Unit]], links: Links) -> int:
    place = {u: (i, k) for i, column in enumerate(columns) for k, u in enumerate(column)}
    pairs = sorted((min(place[a], place[b]), max(place[a], place[b])) for a, b in links)
    count = 0
    for n, (a, b) in enumerate(pairs):
        for c, d in pairs[n + 1 :]:
            if c[0] != a[0]:
                break
            count += (a[1] - c[1]) * (b[1] - d[1]) < 0
    return count


def set_columns(columns: list[list[Unit]], gap: float) -> float:
    """Sets the x of all units; returns the width of all columns."""
    x = 0.0
    for column in columns:
        width = max((u.size.width for u in column), default=0.0)
        narrow = max((u.size.width for u in column if not u.wide), default=0.0)
        for u in column:
            u.x = x + max(narrow - u.size.width, 0.0) / 2  # in the middle, next to boxes left
            if u.held is None:
                u.x, u.span = x, width
        # A column of lanes alone needs less room.
        x += width + (gap if any(u.held is not None for u in column) else gap / 3)
    return max(x - gap, 0.0)


def set_rows(columns: list[list[Unit]], links: Links, gap: float) -> float:
    """Sets the y of all units, near the mean of their neighbours'; returns the height of all."""
    near = _neighbours(columns, links)
    for column in columns:
        _stack(column, [0.0] * len(column), gap)
    for sweep in range(2 * _SWEEPS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wanted = [sum(v.y for v in near[u]) / len(near[u]) if near[u] else u.y for u in column]
            _stack(column, wanted, gap)
    units = [u for column in columns for u in column]
    top = min((u.top for u in units), default=0.0)
    for u in units:
        u.y -= top
    return max((u.y + u.size.below for u in units), default=0.0)


def _stack(column: list[Unit], wanted: list[float], gap: float) -> None:
    """Puts units below each other as near as can be to where they are wanted.

    Those that would overlap form a block, which stands at the mean of what its members want.
    """
    blocks: list[tuple[list[Unit], float]] = []  # members, and the y of the first
    for u, y in zip(column, wanted, strict=True):
        members = [u]
        while blocks:
            earlier, first = blocks[-1]
            end = first + _depths(earlier, gap)[-1] + earlier[-1].size.below
            if y - members[0].size.above >= end + gap:
                break
            blocks.pop()
            shift = _depths([*earlier, members[0]], gap)[-1]
            n, m = len(earlier), len(members)
            y = (first * n + (y - shift) * m) / (n + m)
            members = [*earlier, *members]
        blocks.append((members, y))
    for members, start in blocks:
        for u, depth in zip(members, _depths(members, gap), strict=True):
            u.y = start + depth


def _depths(members: list[Unit], gap: float) -> list[float]:
    """How far each anchor is below the first, if they touch but for the gap."""
    depths = [0.0]
    for above, below in zip(members, members[1:], strict=False):
        depths.append(depths[-1] + above.size.below + gap + below.size.above)
    return depths
