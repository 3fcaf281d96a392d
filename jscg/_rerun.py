"""Which draws of the default estimator are compared at other values, rather than scored.

Where only the first derivative is wanted, a draw may be estimated by running the program again
(see `_comparisons`).  That pays in two cases: what the draw influences is so small that each of its
elements can have runs of its own, or there is nothing that a score could be compared with.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from ._costs import CostNode
from ._groups import group_axes
from ._influence import InfluenceMap
from ._nodes import StochasticNode
from ._pairs import Reason, Score
from ._particles import Particles
from ._program import Program
from ._work import of_program, of_runs
from .estimators import Coupled, Estimator, MeasureValued

MOST_DRAWS = 8  # every one is another copy of the program to compile
MOST_DRAWS_MOVED = 3
MOST_RUNS = 512
AT_ONCE = 16  # runs that are mapped together
# Scalar operations of all runs together: of a small program; and over those of the program itself,
# as the variance of a score grows with the number of elements whose noise is in a cost.
MOST_WORK = 2**21
MOST_TIMES, TIMES_OF_AN_ELEMENT = 4, 1 / 8
MOVING = 6  # operations for each element of a draw of which one is moved
# In the largest array of the runs that are made at once; or as many as the program makes itself.
MOST_NUMBERS = 2**22
SILENT = {"debug_callback", "debug_print"}  # whose effects are left out when run again


def compare_cheap(
    program: Program,
    weights: dict[CostNode, Any],
    estimators: dict[StochasticNode, Estimator],
    kept: Iterable[StochasticNode],
    influence: InfluenceMap,
    repeats: int,
    particles: Mapping[StochasticNode, Particles],
) -> None:
    """Gives elements of draws runs of their own where all of these cost little.

    Args:
      program: the program.
      weights: of its costs; changed in place.
      estimators: of its draws; changed in place.
      kept: draws that stay as they are.
      influence: of the draws.
      repeats: how often the program is run for one gradient.
      particles: draws of which one particle of several has a baseline.
    """
    pairs = _pairs_of(weights, estimators, kept)
    if not 0 < len(pairs) <= MOST_DRAWS or has_effects(program):
        return
    whole, numbers = of_program(program)
    behind = of_runs(program, pairs, influence, MOVING)
    chosen = MeasureValued()
    for node, scored in pairs.items():
        if chosen.check(node) is not None or node.loops:
            continue
        elements = math.prod(node.shape[axis] for axis in group_axes(node, scored))
        runs = elements * (node.outcomes or 1)
        times = min(MOST_TIMES, elements * TIMES_OF_AN_ELEMENT)
        most, (work, largest) = max(MOST_WORK / repeats, times * whole), behind[node]
        if node in particles and particles[node].elements > 1:
            # With that baseline, what is left of the variance is the noise of the one particle.
            most = particles[node].elements * whole
        fits = min(runs, AT_ONCE) * largest <= max(MOST_NUMBERS, numbers)
        if runs <= MOST_RUNS and runs * work <= most and fits:
            many = f"{runs} run{'s' * (runs > 1)} of some {math.ceil(work)} operations"
            cost = f"{many} cost{'s' * (runs == 1)} little"
            _switch(node, chosen, weights, estimators, cost)


def compare_without_baseline(
    program: Program,
    weights: dict[CostNode, Any],
    estimators: dict[StochasticNode, Estimator],
    kept: Iterable[StochasticNode],
) -> None:
    """Moves one element of a draw whose costs would all be scored without a baseline."""
    pairs = _pairs_of(weights, estimators, kept)
    chosen = Coupled()
    alone = [
        node
        for node, scored in pairs.items()
        if all(score in weights[cost].others for score, cost in scored)
        and chosen.check(node) is None
    ]
    if not 0 < len(alone) <= MOST_DRAWS_MOVED or has_effects(program):
        return
    for node in alone:
        _switch(node, chosen, weights, estimators, "a score would have no baseline")


def has_effects(program: Program) -> bool:
    """Whether running a program once more could be noticed."""
    return any(
        eqn.effects and index not in part.subs and eqn.primitive.name not in SILENT
        for part in program.walk()
        for index, eqn in enumerate(part.eqns)
    )


def _pairs_of(
    weights: dict[CostNode, Any],
    estimators: dict[StochasticNode, Estimator],
    kept: Iterable[StochasticNode],
) -> dict[StochasticNode, list[tuple[Score, CostNode]]]:
    """For each draw that may be compared, the costs that are scored."""
    kept, pairs = set(kept), {}
    for cost, weight in weights.items():
        for score in weight.scores:
            if estimators[score.node].may_compare and score.node not in kept:
                pairs.setdefault(score.node, []).append((score, cost))
    return pairs


def _switch(node, estimator: Estimator, weights, estimators, why: str) -> None:
    estimators[node] = estimator
    for weight in weights.values():
        mine = [s for s in weight.scores if s.node is node]
        if mine:
            weight.compared += mine
            weight.reasons[node] = Reason(type(estimator).__name__, why)
            weight.scores = [s for s in weight.scores if s.node is not node]
            weight.others = tuple(s for s in weight.others if s.node is not node)
