"""Boxes of a picture: loops, and plates, where elements influence elements of the same index."""

from __future__ import annotations

import math
from typing import Any

from ._dependencies import COST, DRAW, Vertex
from ._influence import InfluenceMap
from ._nodes import StochasticNode
from ._program import Loop, Program
from .picture import Box

_Axis = tuple[Vertex, int]  # of a vertex' array


def boxes_of(vertices: list[Vertex], influence: InfluenceMap) -> dict[Vertex, Box | None]:
    """The innermost box of each vertex.

    Plates that would overlap others without being nested are left out, the smaller first.
    """
    sets: list[tuple[str, Program | None, frozenset[Vertex]]] = []
    for part in dict.fromkeys(p for v in vertices for p in v.program.path):
        if part.loop is not None or part.holder == "while":
            inside = frozenset(v for v in vertices if part in v.program.path)
            sets.append((_caption(part, inside, influence), part, inside))
    for sizes, members in _plates(vertices, influence):
        members = _within_loops(members, [s for _, part, s in sets if part is not None])
        # Inputs and values that no draw influences stay outside.
        if len(members) > 1 and any(v.kind == DRAW for v in members):
            if all(members <= s or s <= members or not members & s for *_, s in sets):
                sets.append((" ".join(f"\u00d7 {n}" for n in sizes), None, members))
    boxes: list[tuple[Box, frozenset[Vertex]]] = []
    for caption, part, members in sorted(sets, key=lambda s: (-len(s[2]), s[1] is None)):
        around = [box for box, outer in boxes if members <= outer]
        boxes.append((Box(caption, around[-1] if around else None, part is not None), members))
    return {v: next((box for box, s in reversed(boxes) if v in s), None) for v in vertices}


def _within_loops(members: frozenset[Vertex], loops: list[frozenset[Vertex]]):
    """The part of a plate that can be drawn: whole loops, or what is in one of them."""
    while True:
        cut = [s for s in loops if s & members and not (s <= members or members <= s)]
        if not cut:
            return members
        members &= max(cut, key=lambda s: len(s & members))


def _plates(vertices, influence: InfluenceMap) -> list[tuple[list[int], frozenset[Vertex]]]:
    """Sets of vertices with aligned axes, and the lengths of these; the largest set first."""
    group: dict[_Axis, set[_Axis]] = {}

    def unite(a: _Axis, b: _Axis) -> None:
        one, other = group.setdefault(a, {a}), group.setdefault(b, {b})
        if one is not other:
            one |= other
            group.update(dict.fromkeys(other, one))

    by_node = {v.held: v for v in vertices if v.kind == DRAW}
    for v in vertices:
        for atom in v.atoms:
            for node, relation in influence[atom].items():
                source = by_node.get(node)
                if source is None or source is v:
                    continue
                for axis, b in enumerate(relation[len(node.loops) :]):
                    if b is not None and isinstance(b[0], int) and b[1:] == (0, 0):
                        unite((source, axis), (v, b[0]))
    found: dict[frozenset[Vertex], list[int]] = {}
    for axes in {id(axes): axes for axes in group.values()}.values():
        vertex, axis = next((v, a) for v, a in axes if v.kind == DRAW)
        size = vertex.held.shape[axis]
        if size > 1:
            found.setdefault(frozenset(v for v, _ in axes), []).append(size)
    return sorted(((n, m) for m, n in found.items()), key=lambda item: -len(item[1]))


def _caption(part: Program, inside: frozenset[Vertex], influence: InfluenceMap) -> str:
    """What is written on a loop: how many steps, and which costs its draws are credited with."""
    loop = part.loop
    if loop is None:
        return "while"
    text = f"{loop.length} steps, backwards" if loop.reverse else f"{loop.length} steps"
    spans = [
        steps_of(loop, relation[node.loops.index(loop)])
        for v in inside
        if v.kind == COST
        for node, relation in v.held.influence.items()
        if isinstance(node, StochasticNode) and loop in node.loops
    ]
    if not spans:
        return text
    first, last = min(a for a, _ in spans), max(b for _, b in spans)
    return f"{text}; draws of step t influence {say_steps(first, last)}"


def steps_of(loop: Loop, band: Any) -> tuple[float, float]:
    """Which later steps a draw of step 0 influences, by the band of a value to it."""
    if band is None:
        return -math.inf, math.inf
    lo, hi = band[1:]
    return (lo, hi) if loop.reverse else (-hi, -lo)


def say_steps(first: float, last: float, t: str = "t") -> str:
    """In words, which steps a draw of step t influences."""

    def step(by: float) -> str:
        return t if by == 0 else f"{t} {'+' if by > 0 else '-'} {abs(by):.0f}"

    if first == last:
        return f"step {step(first)}"
    if first == -math.inf:
        return "all steps" if last == math.inf else f"steps <= {step(last)}"
    if last == math.inf:
        return f"steps >= {step(first)}"
    return f"steps {step(first)} to {step(last)}"
