"""Fitted baselines: which draws get one, and from which costs it is predicted.

A program with a batch (or samples) repeats the same computation in many independent *cells*.
There the cost-to-go of a draw can be predicted, cell by cell, from what the draw does not
influence, by linear regression over the *other* cells (Theorem 2 of Schulman et al. 2015;
regression control variates, Owen, "Monte Carlo", section 8.9).  Predictors, all summed over a cell:

* for each cost that is enumerated, sampled minus expected: of mean zero, whatever came before.
  For the draw's own it is no baseline, and its known covariance with the score is added back;
* the expectation of the draw's own enumerated costs;
* the cost-to-go at the mean of the draw and of what is drawn below it (see `_mean_field`), less the
  baseline of the user if there is one, and for each of these draws its slope there, times sampled
  minus expected;
* if asked for, costs further up, which the draw does not influence;
* those of enumerated costs, and the cost-to-go itself, averaged over the other samples of the cell.

A bound with an almost exact posterior, whose terms nearly cancel, shows why: the log-prob of a
unit is enumerated, so the others' no longer cancel what they cancelled in the plain sum.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections.abc import Mapping
from typing import Any

from ._cells import Classes, Found, Term, common_axes, found_of, place_of_axis, terms_of
from ._costs import CostFinder, CostNode
from ._mean_field import MeanRun, find_mean_runs
from ._nodes import StochasticNode
from ._pairs import Pairs
from ._program import Program

LEAST_GROUPS = 16
CELLS_FOR_EACH_PREDICTOR = 5
MOST_DEVIATIONS = MOST_ABOVE = MOST_SLOPES = 6


@dataclasses.dataclass(eq=False)
class Fitted:
    """The fitted baseline of one draw.

    Attributes:
      node: the draw.
      axes: those of its axes that number the cells; with several, the first counts samples.
      cells: what the axes number: draws with equal `cells` are fitted together.
      to_go: the terms that it influences and that are scored, cell by cell.
      apart: costs of its single elements within a cell, which are scored without this baseline.
      own: the terms that are enumerated over it.
      deviations: for other draws, the terms of `to_go` that are enumerated over them alone.
      above: groups of terms that it does not influence, if it is predicted from them.
      varied: whether what is expected of `own` differs between samples.
      run: at the means, if there is one.
      slopes: other draws of which the slopes at the means are looked at.
    """

    node: StochasticNode
    axes: tuple[int, ...]
    cells: tuple[Any, ...]
    to_go: list[Term]
    apart: set[CostNode]
    own: list[Term]
    deviations: list[list[Term]]
    above: list[list[Term]]
    varied: bool
    run: MeanRun | None = None
    slopes: list[StochasticNode] = dataclasses.field(default_factory=list)

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
        return bool(self.own) + bool(self.run) + len(self.deviations) + len(self.slopes)

    @property
    def predictors(self) -> int:
        """How many there are."""
        own, means = bool(self.own), bool(self.run)
        again = 1 + own + len(self.deviations) + len(self.above) + (own and self.varied)
        every = self.noises + own + means + len(self.above)
        return every + again * (self.shape[0] > 1)

    @property
    def enough(self) -> bool:
        """Whether there are cells enough to fit them."""
        samples, groups = self.shape
        cells = samples * (groups - 1) * 3 // 4
        return cells >= CELLS_FOR_EACH_PREDICTOR * self.predictors


def find_fitted(
    finder: CostFinder,
    pairs: Pairs,
    weights: Mapping,
    scored: list[StochasticNode],
    in_chunks: bool = False,
) -> dict[StochasticNode, Fitted]:
    """Plans a fitted baseline for each of the scored draws that can have one, and wants one.

    Samples that are run in chunks are not all there to be fitted to: nothing is run at the means.
    """
    program = next(iter(finder.producers))
    wanted = [n for n in scored if pairs.estimators[n].fits_baselines]
    wanted = _promising(program, pairs, wanted)
    if not wanted:
        return {}
    known: dict[Any, dict[int, int]] = {}
    found = [found_of(finder, weights, t, known) for t in terms_of(finder, program)]
    axes = common_axes(wanted, found)
    wanted = [n for n in wanted if _shape(n, axes[n])[1] >= LEAST_GROUPS]
    classes = Classes()
    for term in found:
        for node in wanted:
            for axis, place in term.aligned.get(node, {}).items():
                classes.join((node, axis), (term.atom, place))
    # Draws with the same cells see the same terms above them.
    seen: dict[Any, list[Term | None]] = {}
    upstream = {n: pairs.estimators[n].uses_upstream for n in wanted}
    made = (_fit(n, axes[n], found, classes, seen, upstream[n]) for n in wanted)
    fits = {f.node: f for f in made if f.to_go}
    if not in_chunks:
        _add_runs(program, fits, pairs, finder.influence)
    # Without enumeration nothing was taken away that would have to come back, and a cost that a
    # draw does not influence changes no sample of its gradient.
    return {n: f for n, f in fits.items() if f.enough and (f.own or f.deviations or f.run)}


def _add_runs(program, fits: dict[StochasticNode, Fitted], pairs: Pairs, influence) -> None:
    """Adds runs at the means, with as many slopes as there are cells for."""
    estimators = pairs.estimators
    costs = {n: [t.atom for t in f.to_go] for n, f in fits.items()}
    runs = find_mean_runs(program, costs, estimators, estimators, influence)
    for node in sorted(runs, reverse=True):  # what is below comes first
        fitted, run = fits[node], runs[node]
        same = [n for n in run.below if n in fits and fits[n].cells == fitted.cells]
        fitted.run, fitted.slopes = run, [n for n in same if fits[n].run][:MOST_SLOPES]
        while fitted.slopes and not fitted.enough:
            fitted.slopes.pop()
        if not fitted.enough:
            fitted.run = None


def _promising(program: Program, pairs: Pairs, wanted: list[StochasticNode]):
    """Those that may have groups enough, at a look at the distinct relations of all pairs."""
    axes = {n: set(range(len(n.shape))) for n in wanted if n.program is program}
    for node, relation, part in pairs.known:
        if node in axes and part is program:
            own = relation[len(node.loops) :]
            axes[node].intersection_update(
                i for i, b in enumerate(own) if place_of_axis(b) is not None
            )
    return [n for n, a in axes.items() if math.prod(n.shape[i] for i in a) >= LEAST_GROUPS]


def _shape(node: StochasticNode, axes: tuple[int, ...]) -> tuple[int, int]:
    """Samples and groups of cells; (1, cells) with one axis only."""
    sizes = [node.shape[a] for a in axes]
    samples = sizes.pop(0) if len(sizes) > 1 else 1
    return samples, math.prod(sizes)


def _fit(node, axes, found: list[Found], classes: Classes, seen, upstream) -> Fitted:
    cells = tuple(classes.find((node, a)) for a in axes)
    if cells not in seen:
        seen[cells] = [classes.term(cells, each) for each in found]
    to_go, apart, own, varied = [], set(), [], False
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
        elif node not in each.over and aligned.keys() - set(axes):
            apart.add(each.cost)
        elif node not in each.over:
            to_go.append(term)
            if len(each.over) == 1:
                deviations.setdefault(each.over[0], []).append(term)
    few = _few(deviations, MOST_DEVIATIONS), _few(above, MOST_ABOVE)
    return Fitted(node, axes, cells, to_go, apart, own, *few, varied)


def _few(groups: dict[Any, list[Term]], most: int) -> list[list[Term]]:
    """Merges what is too many; terms are listed from the output, the nearest first."""
    lists = list(groups.values())
    return lists[: most - 1] + [list(itertools.chain(*lists[most - 1 :]))] * (len(lists) >= most)
