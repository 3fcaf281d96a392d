"""Fitted baselines: which draws get one, and from which costs it is predicted.

A program with a batch (or samples) repeats the same computation in many independent *cells*.
There the cost-to-go of a draw can be predicted, cell by cell, from what the draw does not
influence, by linear regression over the *other* cells (Theorem 2 of Schulman et al. 2015;
regression control variates, Owen, "Monte Carlo", section 8.9).  Predictors, all summed over a cell:

* for each cost that is enumerated, sampled minus expected: of mean zero, whatever came before.
  For the draw's own it is no baseline, and its known covariance with the score is added back;
* the expectation of the draw's own enumerated costs;
* costs further up, which the draw does not influence;
* all these, and the cost-to-go itself, averaged over the other samples of the cell.

A bound with an almost exact posterior, whose terms nearly cancel, shows why: the log-prob of a
unit is enumerated, so the others' no longer cancel what they cancelled in the plain sum.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from ._costs import CostFinder, CostNode
from ._nodes import StochasticNode
from ._program import Literal, Program
from ._relation import Relation

LEAST_GROUPS = 16
CELLS_FOR_EACH_PREDICTOR = 5
MOST_DEVIATIONS = MOST_ABOVE = 6


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


@dataclasses.dataclass(eq=False)
class Fitted:
    """The fitted baseline of one draw.

    Attributes:
      node: the draw.
      axes: those of its axes that number the cells; with several, the first counts samples.
      cells: what the axes number: draws with equal `cells` are fitted together.
      to_go: the terms that it influences and that are scored.
      own: the terms that are enumerated over it.
      deviations: for other draws, the terms of `to_go` that are enumerated over them alone.
      above: groups of terms that it does not influence.
      varied: whether what is expected of `own` differs between samples.
    """

    node: StochasticNode
    axes: tuple[int, ...]
    cells: tuple[Any, ...]
    to_go: list[Term]
    own: list[Term]
    deviations: list[list[Term]]
    above: list[list[Term]]
    varied: bool

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and groups of cells; (1, cells) with one axis only."""
        sizes = [self.node.shape[a] for a in self.axes]
        first = [1] if len(sizes) == 1 else sizes[:1]
        return first[0], math.prod(sizes[len(sizes) > 1 :])

    @property
    def terms(self) -> list[Term]:
        """All that it needs."""
        return [*self.to_go, *self.own, *itertools.chain(*self.above)]

    @property
    def predictors(self) -> int:
        """How many there are."""
        own = bool(self.own)
        moving = own + len(self.deviations) + len(self.above)
        repeated = (1 + moving + (own and self.varied)) if self.shape[0] > 1 else 0
        return moving + own + repeated


def find_fitted(finder: CostFinder, weights: Mapping, wanted: list[StochasticNode]):
    """Plans a fitted baseline for each of the wanted draws that can have one."""
    program = next(iter(finder.producers))
    wanted = [n for n in wanted if n.program is program]
    if not wanted:
        return {}
    terms = list(_terms(finder, program))
    relations = [_relations(finder, weights, t) for t in terms]
    aligned = [
        {n: _aligned(n, r, t[0].aval.shape) for n, r in every.items()}
        for t, every in zip(terms, relations, strict=True)
    ]
    classes = _Classes()
    for (atom, _), nodes in zip(terms, aligned, strict=True):
        for node, places in nodes.items():
            for axis, place in places.items():
                classes.join((node, axis), (atom, place))
    out = {}
    for node in wanted:
        found = _fit(node, terms, relations, aligned, weights, classes)
        if found is not None:
            out[node] = found
    return out


def _terms(finder: CostFinder, program: Program) -> Iterator[tuple[Any, CostNode | None]]:
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


def _relations(finder, weights, term) -> dict[StochasticNode, Relation]:
    """The draws that influence a term, whether it is enumerated over them or not."""
    atom, cost = term
    if cost is None:
        return dict(finder.influence[atom])
    weight = weights[cost]
    return {s.node: s.relation for s in weight.scores} | {
        e.node: e.relation for e in weight.enumerations
    }


def _aligned(node: StochasticNode, relation: Relation, shape: tuple[int, ...]) -> dict[int, int]:
    """Axes of the draw along which the term is aligned with it, and which of its axes they are."""
    out: dict[int, int] = {}
    for axis, b in enumerate(relation[len(node.loops) :]):
        if b is None or not isinstance(b[0], int) or b[1:] != (0, 0):
            continue
        if 2 <= node.shape[axis] == shape[b[0]] and b[0] not in out.values():
            out[axis] = b[0]
    return out


class _Classes:
    """Which axes of draws and terms number the same thing, as far as a term shows it."""

    def __init__(self):
        self.parent: dict[Any, Any] = {}

    def find(self, key: Any) -> Any:
        while (above := self.parent.get(key, key)) is not key:
            key = above
        return key

    def join(self, a: Any, b: Any) -> None:
        self.parent.setdefault(a, a)
        self.parent.setdefault(b, b)
        self.parent[self.find(a)] = self.find(b)

    def places(self, node: StochasticNode, axes: tuple[int, ...], atom: Any):
        """For each axis of the draw the axis of the term in the same class, or None."""
        mine = [self.find((node, a)) for a in axes]
        theirs = [self.find((atom, i)) for i in range(len(atom.aval.shape))]
        return tuple(theirs.index(c) if c in theirs else None for c in mine)


def _fit(node, terms, relations, aligned, weights, classes) -> Fitted | None:
    influenced = [i for i, every in enumerate(relations) if node in every]
    axes = set(range(len(node.shape)))
    for i in influenced:
        axes &= set(aligned[i][node])
    if not axes:
        return None
    ordered = tuple(sorted(axes))
    to_go, own, varied = [], [], False
    deviations: dict[Any, list[Term]] = {}
    above: dict[Any, list[Term]] = {}
    for i, (atom, cost) in enumerate(terms):
        over = [e.node for e in weights[cost].enumerations] if cost is not None else []
        if i not in influenced:
            places = classes.places(node, ordered, atom)
            if relations[i] and None not in places:
                kind = (frozenset(relations[i]), bool(over))
                above.setdefault(kind, []).append(Term(atom, cost, places))
            continue
        term = Term(atom, cost, tuple(aligned[i][node][a] for a in ordered))
        if over == [node]:
            own.append(term)
            varied = varied or len(relations[i]) > 1
        elif node not in over:
            to_go.append(term)
            if len(over) == 1:
                deviations.setdefault(over[0], []).append(term)
    if not to_go:
        return None
    cells = tuple(classes.find((node, a)) for a in ordered)
    few = _few(deviations, MOST_DEVIATIONS), _few(above, MOST_ABOVE)
    found = Fitted(node, ordered, cells, to_go, own, *few, varied)
    samples, groups = found.shape
    enough = samples * (groups - 1) * 3 // 4 >= CELLS_FOR_EACH_PREDICTOR * found.predictors
    return found if found.predictors and groups >= LEAST_GROUPS and enough else None


def _few(groups: dict[Any, list[Term]], most: int) -> list[list[Term]]:
    """Merges what is too many; terms are listed from the output, the nearest first."""
    lists = list(groups.values())
    return lists[: most - 1] + [list(itertools.chain(*lists[most - 1 :]))] * (len(lists) >= most)
