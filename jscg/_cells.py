"""Cells: what the axes of a batch, or of samples, number in draws and in terms of the objective."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from ._costs import CostFinder, CostNode
from ._nodes import StochasticNode
from ._program import Literal, Program
from ._relation import Relation


@dataclasses.dataclass(eq=False)
class Term:
    """One term of the objective: a cost node, or what control flow returns.

    Attributes:
      atom: its variable in the outermost program.
      cost: the cost node, if it is one.
      places: for each axis of the cells, the axis of the term.
    """

    atom: Any
    cost: CostNode | None
    places: tuple[int, ...]


def terms_of(finder: CostFinder, program: Program) -> Iterator[tuple[Any, CostNode | None]]:
    """Walks from the output through the linear operations of the outermost program."""
    costs, linear = finder.shadows.costs.get(program, {}), finder.shadows.linear
    producers = finder.producers[program]
    todo, seen = [program.outvars[0]], set()
    while todo:
        atom = todo.pop()
        if isinstance(atom, Literal) or atom in seen:
            continue
        seen.add(atom)
        if atom in costs:
            yield atom, costs[atom]
        elif atom in linear:
            todo += [program.eqns[producers[atom]].invars[i] for i in linear[atom]]
        elif producers.get(atom) in program.subs and finder.influence[atom]:
            yield atom, None


@dataclasses.dataclass(eq=False)
class Found:
    """One term, with what all draws ask of it.

    Attributes:
      atom, cost: as in `Term`.
      aligned: for each draw that influences it, enumerated or not, the axes of the draw along
        which they are aligned, and the axis of the term for each.
      over: the draws over which it is enumerated.
      kind: terms of equal kind are influenced by the same draws.
    """

    atom: Any
    cost: CostNode | None
    aligned: dict[StochasticNode, dict[int, int]]
    over: list[StochasticNode]
    kind: Any


def found_of(finder, weights, term, known) -> Found:
    atom, cost = term
    links: list[Any] = []
    if cost is None:
        nodes = dict(finder.influence[atom])
    else:
        links = weights[cost].enumerations
        nodes = {s.node: s.relation for s in weights[cost].scores}
        nodes |= {e.node: e.relation for e in links}
    shape = atom.aval.shape
    aligned = {}
    for node, relation in nodes.items():
        key = node, relation, shape
        if key not in known:
            known[key] = aligned_axes(*key)
        aligned[node] = known[key]
    return Found(atom, cost, aligned, [e.node for e in links], (frozenset(nodes), bool(links)))


def aligned_axes(
    node: StochasticNode, relation: Relation, shape: tuple[int, ...]
) -> dict[int, int]:
    """Axes of the draw along which a term is aligned with it, and which of its axes they are."""
    out: dict[int, int] = {}
    for axis, b in enumerate(relation[len(node.loops) :]):
        place = place_of_axis(b)
        if place is not None and 2 <= node.shape[axis] == shape[place]:
            if place not in out.values():
                out[axis] = place
    return out


def common_axes(wanted: list[StochasticNode], found: list[Found]):
    """The axes of each draw along which all that it influences is aligned with it."""
    axes = {n: set(range(len(n.shape))) for n in wanted}
    for term in found:
        for node, places in term.aligned.items():
            if node in axes and not axes[node] <= places.keys():
                axes[node].intersection_update(places)
    return {n: tuple(sorted(a)) for n, a in axes.items()}


class Classes:
    """Which axes of draws and terms number the same thing, as far as a term shows it."""

    def __init__(self):
        self.parent: dict[Any, Any] = {}

    def find(self, key: Any) -> Any:
        root = key
        while (above := self.parent.get(root, root)) is not root:
            root = above
        while key is not root:  # the next search is short
            self.parent[key], key = root, self.parent[key]
        return root

    def join(self, a: Any, b: Any) -> None:
        self.parent.setdefault(a, a)
        self.parent.setdefault(b, b)
        self.parent[self.find(a)] = self.find(b)

    def term(self, cells: tuple[Any, ...], found: Found) -> Term | None:
        """A term by the cells, if all of them number one of its axes."""
        theirs = [self.find((found.atom, i)) for i in range(len(found.atom.aval.shape))]
        if not found.aligned or not set(theirs).issuperset(cells):
            return None
        return Term(found.atom, found.cost, tuple(map(theirs.index, cells)))


def place_of_axis(b: Any) -> int | None:
    """The axis of a value with which an axis of a draw is aligned, by its band."""
    return b[0] if b is not None and isinstance(b[0], int) and b[1:] == (0, 0) else None
