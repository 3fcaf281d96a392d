"""Fewer items, until a picture can be read.

First deterministic nodes go, those that join the fewest others first; then what is of one line of
source becomes one node, then what is of one function.
"""

from __future__ import annotations

import collections
import dataclasses

from ._diagram import Diagram, Edge, Item


def collapse(diagram: Diagram, max_nodes: int) -> Diagram:
    """A diagram of about `max_nodes` items at most, as far as that can be."""
    while len(diagram.items) > max_nodes:
        squares = [v for v in diagram.items if v.kind == "deterministic"]
        if not squares:
            break
        diagram = _without(diagram, min(squares, key=lambda v: _joined(diagram, v)))
    for level in (1, 0):
        if len(diagram.items) > max_nodes:
            diagram = _merge(diagram, level)
    return diagram


def _joined(diagram: Diagram, item: Item) -> int:
    """How many arrows take its place if it goes, less those that go with it."""
    before = sum(e.target is item for e in diagram.edges)
    after = sum(e.source is item for e in diagram.edges)
    return before * after - before - after


def _without(diagram: Diagram, item: Item) -> Diagram:
    before = [e for e in diagram.edges if e.target is item and e.source is not item]
    after = [e for e in diagram.edges if e.source is item and e.target is not item]
    kept = [e for e in diagram.edges if item not in (e.source, e.target)]
    through = [Edge(a.source, b.target, a.before or b.before) for a in before for b in after]
    items = tuple(v for v in diagram.items if v is not item)
    return Diagram(items, tuple(dict.fromkeys(kept + through)))


def _merge(diagram: Diagram, level: int) -> Diagram:
    """Makes one item of those that are alike; `level` 1: of one line, 0: of one function."""
    groups = collections.defaultdict(list)
    for item in diagram.items:
        scope = item.scope[: level + 1] if item.kind != "input" else ()
        groups[item.kind, item.style, item.box, scope].append(item)
    place: dict[Item, Item] = {}
    for (kind, *_), members in groups.items():
        first = members[0]
        merged = first
        if len(members) > 1:
            label = first.label if level and kind != "input" else ""
            label = label or {"input": "inputs"}.get(kind, first.scope[0])
            tip = "\n\n".join(v.tip for v in members[:12] if v.tip)
            merged = dataclasses.replace(
                first, label=f"{label} \u00d7{len(members)}", tip=tip, notes=first.notes[:1]
            )
        place |= dict.fromkeys(members, merged)
    edges = [Edge(place[e.source], place[e.target], e.before) for e in diagram.edges]
    edges = [e for e in dict.fromkeys(edges) if e.source is not e.target or e.before]
    return Diagram(tuple(dict.fromkeys(place.values())), tuple(edges))
