"""Particles: draws along an axis that meets in a cost only after much was made of each of them.

The bound log(mean_k w_k) of K particles is one cost of all of them, so that none is the baseline
of another.  Yet what it would be without what particle k has drawn is cheap to say: the last
values that are still of one particle each (here log w_k) are the *cut*, and the few equations
behind it are run once more for every k, with the mean of the other particles in its place.  No
element of particle k influences that, so that it may be its baseline (Theorem 2 of Schulman et al.
2015).  It is a good one where particles are alike, which is looked at, too.

Of this bound it is VIMCO's (Mnih and Rezende, "Variational inference for Monte Carlo objectives",
2016, equations 7 to 10); nothing here knows of bounds, though.

What is left of the cost is not predicted by a fit, as in `_fitted`.  Near the posterior it cancels
the derivative of the particle's own log q; a fit, which does not see that, takes away what was to
cancel.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Container, Iterable, Mapping
from typing import Any

from ._alike import alike
from ._cells import aligned_axes, place_of_axis, terms_of
from ._costs import CostFinder, CostNode
from ._influence import InfluenceMap
from ._nodes import StochasticNode
from ._primitives import MARKS
from ._program import CHECKPOINTS, CUSTOM, Literal, Program
from ._relation import Relation
from ._stacked import is_float
from ._work import of_equations, of_program
from .estimators import Estimator
from .rules import RULES

MOST = 64  # particles: all runs are made at once
MOST_DRAWS = 32  # for each of which the program is searched
MOST_TIMES = 0.5  # operations of all runs together, over those of the program
MOST_NUMBERS = 2**22  # in the largest array of these; or as many as the program makes itself
_SILENT = MARKS - {"draw", "expectation"}  # identities
# No callback, that is asked once; no `while`, that ends at outcomes, and may not at their means.
_KNOWN = RULES.keys() - {"draw"} | {"scan", "cond"} | CHECKPOINTS | CUSTOM | _SILENT


@dataclasses.dataclass(eq=False)
class Particles:
    """One draw of several particles.

    Attributes:
      node: the draw.
      axis: the one of its axes that numbers particles.
      relations: of the costs in which particles meet, to the draw.
      cut: variables of one particle each, and which of their axes numbers these.
      tail: the equations between these and the costs, in order.
      work: operations of the tail for all particles, each in the place of one.
      elements: how many elements of draws with this cut have one particle and one cost in common.
    """

    node: StochasticNode
    axis: int
    relations: dict[CostNode, Relation]
    cut: dict[Any, int]
    tail: list[int]
    work: float
    elements: int

    @property
    def count(self) -> int:
        """Of particles."""
        return self.node.shape[self.axis]

    @property
    def runs(self) -> Any:
        """Equal for draws whose baselines are made in the same runs."""
        return self.count, tuple(self.cut.items()), tuple(self.tail)


def find_particles(
    finder: CostFinder,
    program: Program,
    weights: Mapping[CostNode, Any],
    estimators: Mapping[StochasticNode, Estimator],
    kept: Container[StochasticNode],
    influence: InfluenceMap,
) -> dict[StochasticNode, Particles]:
    """Lists the draws of particles.

    Args:
      finder: of the costs.
      program: the outermost program, where they stand.
      weights: of its costs.
      estimators: of the draws.
      kept: draws with another baseline.
      influence: of the draws.
    """
    scored: dict[StochasticNode, dict[CostNode, Relation]] = {}
    for _, cost in terms_of(finder, program):
        if cost is None:
            continue
        for score in weights[cost].scores:
            node = score.node
            if node.program is program and node not in kept and estimators[node].uses_particles:
                scored.setdefault(node, {})[cost] = score.relation
        if len(scored) > MOST_DRAWS:  # a long chain has a great many pairs
            return {}
    if not scored:
        return {}
    whole, numbers = of_program(program)
    search = _Search(program, influence, max(MOST_NUMBERS, numbers))
    every = [
        search.along(node, axis, relations)
        for node, relations in scored.items()
        for axis, size in enumerate(node.shape)
        if 2 <= size <= MOST
    ]
    left, runs, found = MOST_TIMES * whole, {}, {}
    for particles in sorted(filter(None, every), key=lambda p: p.work):
        if particles.node in found:
            continue
        if particles.runs not in runs:
            left -= particles.work
            if left < 0:
                break
        runs[particles.runs] = runs.get(particles.runs, 0) + particles.elements
        found[particles.node] = particles
    for particles in found.values():
        particles.elements = runs[particles.runs]
    return found


class _Search:
    """For particles, in one program.

    Args:
      program: where draws stand.
      influence: of these.
      most: numbers in the largest array of the runs, all together.
    """

    def __init__(self, program: Program, influence: InfluenceMap, most: int):
        self.program, self.influence, self.most = program, influence, most
        self.alike: dict[frozenset[tuple[Any, int]], bool] = {}
        self.names = [_names(program, index) for index in range(len(program.eqns))]
        self.denies = any("stop_influence" in names for names in self.names)

    def along(
        self, node: StochasticNode, axis: int, relations: Mapping[CostNode, Relation]
    ) -> Particles | None:
        """The draw with one of its axes taken for that of the particles, if that can be."""
        program, count = self.program, node.shape[axis]
        met = {c: r for c, r in relations.items() if _place(node, axis, r, c.atom) is None}
        if not met or not all(_as_a_whole(node, r, c.atom) for c, r in met.items()):
            return None
        needed, cut, tail = {c.atom for c in met}, {}, []
        # What is left out of a cost-to-go would be left in its baseline.
        if self.denies and self._denied(node, needed):
            return None
        for index in range(len(program.eqns) - 1, node.position, -1):
            eqn = program.eqns[index]
            if needed.isdisjoint(eqn.outvars):
                continue
            if not self._may_run_again(index):
                return None
            tail.append(index)
            for v in _read(eqn):
                relation = self.influence[v].get(node)
                if relation is None:
                    continue
                place = _place(node, axis, relation, v)
                if place is None:
                    needed.add(v)
                elif is_float(v):
                    cut[v] = place
                else:
                    return None
        made = [v for i in tail for v in program.eqns[i].outvars]
        if count * max(math.prod(v.aval.shape) for v in [*cut, *made]) > self.most:
            return None
        places = frozenset(cut.items())
        if places not in self.alike:  # draws of many layers have one cut
            self.alike[places] = alike(program, cut)
        if not self.alike[places]:
            return None
        tail.reverse()
        cost, relation = next(iter(met.items()))
        own = {axis, *aligned_axes(node, relation, cost.atom.aval.shape)}
        elements = math.prod(n for a, n in enumerate(node.shape) if a not in own)
        work = count * of_equations(program, tail)
        return Particles(node, axis, met, cut, tail, work, elements)

    def _denied(self, node: StochasticNode, costs: Iterable[Any]) -> bool:
        """Whether a `stop_influence` stands between a draw and some costs."""
        program, reached, needed = self.program, {node.var}, set(costs)
        for eqn in program.eqns[node.position + 1 :]:
            if not reached.isdisjoint(_read(eqn)):
                reached.update(eqn.outvars)
        for index in range(len(program.eqns) - 1, node.position, -1):
            eqn = program.eqns[index]
            if needed.isdisjoint(eqn.outvars) or reached.isdisjoint(eqn.outvars):
                continue
            if "stop_influence" in self.names[index]:
                return True
            needed.update(_read(eqn))
        return False

    def _may_run_again(self, index: int) -> bool:
        """Whether an equation can be run by itself, many times at once, and draws nothing."""
        held, names = index in self.program.subs, self.names[index]
        known = names <= _KNOWN and not (held and names & MARKS)
        return known and not self.program.eqns[index].effects


def _as_a_whole(node: StochasticNode, relation: Relation, cost: Any) -> bool:
    """Whether a cost is influenced by all elements of a draw along every axis, or by their own.

    A draw that influences some of a cost would have all of it in its baseline.
    """
    aligned = aligned_axes(node, relation, cost.aval.shape)
    pairs = enumerate(zip(relation, node.shape, strict=True))
    return all(b is None or size == 1 or axis in aligned for axis, (b, size) in pairs)


def _read(eqn: Any) -> list[Any]:
    """The variables that the value of an equation is made of, a baseline of the user's not."""
    args = eqn.invars[:1] if eqn.primitive.name in _SILENT else eqn.invars
    return [v for v in args if not isinstance(v, Literal)]


def _names(program: Program, index: int) -> set[str]:
    """The primitives of an equation, and of all that it holds."""
    inside = [e for sub in program.subs.get(index, ()) for part in sub.walk() for e in part.eqns]
    return {e.primitive.name for e in [program.eqns[index], *inside]}


def _place(node: StochasticNode, axis: int, relation: Relation, atom: Any) -> int | None:
    """The axis of a value with one index for each particle, if it has one."""
    place = place_of_axis(relation[axis])
    return place if place is not None and atom.aval.shape[place] == node.shape[axis] else None
