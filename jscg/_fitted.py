"""Fitted baselines: which draws get one, and from which costs it is predicted.

A program with a batch (or samples) repeats the same computation in many independent *cells*.
There the cost-to-go of a draw can be predicted, cell by cell, from what the draw does not
influence, by linear regression over the *other* cells (Theorem 2 of Schulman et al. 2015;
regression control variates, Owen, "Monte Carlo", section 8.9).  Predictors, all summed over a cell:

* for each cost that is enumerated, sampled minus expected: of mean zero, whatever came before.
  For the draw's own it is no baseline, and its known covariance with the score is added back;
* the expectation of the draw's own enumerated costs;
* if asked for, costs further up, which the draw does not influence;
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
from ._pairs import Pairs
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
      above: groups of terms that it does not influence, if it is predicted from them.
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
        """Samples and groups of cells."""
        return _shape(self.node, self.axes)

    @property
    def terms(self) -> list[Term]:
        """All that it needs."""
        return [*self.to_go, *self.own, *itertools.chain(*self.above)]

    @property
    def noises(self) -> int:
        """How many of the predictors, the first, have mean zero."""
        return bool(self.own) + len(self.deviations)

    @property
    def predictors(self) -> int:
        """How many there are."""
        own = bool(self.own)
        moving = self.noises + len(self.above)
        repeated = (1 + moving + (own and self.varied)) if self.shape[0] > 1 else 0
        return moving + own + repeated


def find_fitted(finder: CostFinder, pairs: Pairs, weights: Mapping, scored: list[StochasticNode]):
    """Plans a fitted baseline for each of the scored draws that can have one, and wants one."""
    program = next(iter(finder.producers))
    wanted = [n for n in scored if pairs.estimators[n].fits_baselines]
    wanted = _promising(program, pairs, wanted)
    if not wanted:
        return {}
    known: dict[Any, dict[int, int]] = {}
    found = [_found(finder, weights, t, known) for t in _terms(finder, program)]
    axes = _common_axes(wanted, found)
    wanted = [n for n in wanted if _shape(n, axes[n])[1] >= LEAST_GROUPS]
    classes = _Classes()
    for term in found:
        for node in wanted:
            for axis, place in term.aligned.get(node, {}).items():
                classes.join((node, axis), (term.atom, place))
    # Draws with the same cells see the same terms above them.
    seen: dict[Any, list[Term | None]] = {}
    upstream = {n: pairs.estimators[n].uses_upstream for n in wanted}
    fits = {n: _fit(n, axes[n], found, classes, seen, upstream[n]) for n in wanted}
    return {n: f for n, f in fits.items() if f is not None}


def _promising(program: Program, pairs: Pairs, wanted: list[StochasticNode]):
    """Those that may have groups enough, at a look at the distinct relations of all pairs."""
    axes = {n: set(range(len(n.shape))) for n in wanted if n.program is program}
    for node, relation, part in pairs.known:
        if node in axes and part is program:
            own = relation[len(node.loops) :]
            axes[node].intersection_update(i for i, b in enumerate(own) if _place(b) is not None)
    return [n for n, a in axes.items() if math.prod(n.shape[i] for i in a) >= LEAST_GROUPS]


def _place(b: Any) -> int | None:
    """The axis of a value with which an axis of a draw is aligned, by its band."""
    return b[0] if b is not None and isinstance(b[0], int) and b[1:] == (0, 0) else None


def _shape(node: StochasticNode, axes: tuple[int, ...]) -> tuple[int, int]:
    """Samples and groups of cells; (1, cells) with one axis only."""
    sizes = [node.shape[a] for a in axes]
    samples = sizes.pop(0) if len(sizes) > 1 else 1
    return samples, math.prod(sizes)


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


@dataclasses.dataclass(eq=False)
class _Found:
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


def _found(finder, weights, term, known) -> _Found:
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
            known[key] = _aligned(*key)
        aligned[node] = known[key]
    return _Found(atom, cost, aligned, [e.node for e in links], (frozenset(nodes), bool(links)))


def _aligned(node: StochasticNode, relation: Relation, shape: tuple[int, ...]) -> dict[int, int]:
    """Axes of the draw along which a term is aligned with it, and which of its axes they are."""
    out: dict[int, int] = {}
    for axis, b in enumerate(relation[len(node.loops) :]):
        place = _place(b)
        if place is not None and 2 <= node.shape[axis] == shape[place]:
            if place not in out.values():
                out[axis] = place
    return out


def _common_axes(wanted: list[StochasticNode], found: list[_Found]):
    """The axes of each draw along which all that it influences is aligned with it."""
    axes = {n: set(range(len(n.shape))) for n in wanted}
    for term in found:
        for node, places in term.aligned.items():
            if node in axes and not axes[node] <= places.keys():
                axes[node].intersection_update(places)
    return {n: tuple(sorted(a)) for n, a in axes.items()}


class _Classes:
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

    def term(self, cells: tuple[Any, ...], found: _Found) -> Term | None:
        """A term by the cells, if all of them number one of its axes."""
        theirs = [self.find((found.atom, i)) for i in range(len(found.atom.aval.shape))]
        if not found.aligned or not set(theirs).issuperset(cells):
            return None
        return Term(found.atom, found.cost, tuple(map(theirs.index, cells)))


def _fit(node, axes, found: list[_Found], classes: _Classes, seen, upstream) -> Fitted | None:
    cells = tuple(classes.find((node, a)) for a in axes)
    if cells not in seen:
        seen[cells] = [classes.term(cells, each) for each in found]
    to_go, own, varied = [], [], False
    deviations: dict[Any, list[Term]] = {}
    above: dict[Any, list[Term]] = {}
    for each, term in zip(found, seen[cells], strict=True):
        aligned = each.aligned.get(node)
        if aligned is None:
            if upstream and term is not None:
                above.setdefault(each.kind, []).append(term)
            continue
        places = tuple(aligned[a] for a in axes)
        if term is None or term.places != places:
            term = Term(each.atom, each.cost, places)
        if each.over == [node]:
            own.append(term)
            varied = varied or len(each.aligned) > 1
        elif node not in each.over:
            to_go.append(term)
            if len(each.over) == 1:
                deviations.setdefault(each.over[0], []).append(term)
    # Without enumeration nothing was taken away that would have to come back, and a cost that a
    # draw does not influence changes no sample of its gradient.
    if not to_go or not (own or deviations):
        return None
    few = _few(deviations, MOST_DEVIATIONS), _few(above, MOST_ABOVE)
    out = Fitted(node, axes, cells, to_go, own, *few, varied)
    samples, groups = out.shape
    enough = samples * (groups - 1) * 3 // 4 >= CELLS_FOR_EACH_PREDICTOR * out.predictors
    return out if out.predictors and enough else None


def _few(groups: dict[Any, list[Term]], most: int) -> list[list[Term]]:
    """Merges what is too many; terms are listed from the output, the nearest first."""
    lists = list(groups.values())
    return lists[: most - 1] + [list(itertools.chain(*lists[most - 1 :]))] * (len(lists) >= most)
