"""Which elements of a draw may influence which elements of a value.

For a value v and a draw w there is one *band* for each axis of w, or None.

    None             the axis is mixed: any of its elements may influence any element of v;
    (axis, lo, hi)   v at index i of `axis` is influenced by w at indices i+lo .. i+hi only.

So (axis, 0, 0) says that the two axes are aligned, (axis, -inf, 0) that v at i is influenced by
w up to i (a prefix, as for the outputs that a scan stacks).  `axis` is an axis number of v, or a
`Loop` around v, whose index is the step.  A value that w does not influence has no relation.
Axes of w: first the loops around the draw, the outermost first, then the axes of its shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

Band = tuple[Any, float, float] | None
Relation = tuple[Band, ...]
Influence = dict[Any, Relation]  # of one value: node -> relation

INF = math.inf
NOTHING: Influence = {}


def join_bands(a: Band, b: Band) -> Band:
    """The narrowest band that covers both."""
    if a is b:
        return a
    if a is None or b is None or a[0] != b[0]:
        return None
    return band(a[0], min(a[1], b[1]), max(a[2], b[2]))


def band(axis: Any, lo: float, hi: float) -> Band:
    """A band; the one that covers everything is None."""
    return None if lo == -INF and hi == INF else (axis, lo, hi)


def join(a: Influence, b: Influence) -> Influence:
    """What influences a value that is made of two others."""
    if not b or a is b:
        return a
    if not a:
        return b
    if len(b) > len(a):
        a, b = b, a
    out = None  # copied only when something changes
    for node, relation in b.items():
        mine = a.get(node)
        if mine is relation or mine == relation:
            continue
        out = dict(a) if out is None else out
        if mine is None:
            out[node] = relation
        else:
            out[node] = tuple(map(join_bands, mine, relation))
    return a if out is None else out


def map_bands(influence: Influence, change: Callable[[tuple[Any, float, float]], Band]):
    """Changes every band that is not None."""
    if not influence:
        return influence
    changed: dict[Relation, Relation] = {}  # many draws have the same relation
    out = {}
    for node, relation in influence.items():
        new = changed.get(relation)
        if new is None:
            new = tuple(None if b is None else change(b) for b in relation)
            changed[relation] = new
        out[node] = new
    return out


def mix(influence: Influence) -> Influence:
    """Forgets the axes of a value: what an operation that nobody knows does to them."""
    return map_bands(influence, lambda b: None if isinstance(b[0], int) else b)


def widen(old: Influence, new: Influence) -> Influence:
    """Makes every bound that still moves infinite, so that a fixpoint is reached."""

    def widened(a: Band, b: Band) -> Band:
        if a is None or b is None or a == b or a[0] != b[0]:
            return b
        return band(b[0], -INF if b[1] < a[1] else b[1], INF if b[2] > a[2] else b[2])

    return {
        node: tuple(map(widened, old[node], relation)) if node in old else relation
        for node, relation in new.items()
    }
