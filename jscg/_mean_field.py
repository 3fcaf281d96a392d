"""Runs at the means: which draws are predicted from the cost as it would be without noise.

What a draw's costs-to-go would be if it, and all that is drawn below it, took its mean depends on
what came before the draw alone, so that it may be a baseline, and with its slope at the mean
predicts what each element of the draw adds.  This is the control variate of MuProp (Gu, Levine,
Sutskever and Mnih, "MuProp: unbiased backpropagation for stochastic neural networks", 2016), but
for two things: the means are those given what was drawn above, and how much of it is taken is
fitted (see `_fitted`).

A run at the means need not be a faithful copy of the program.  Whatever number it gives is no
function of what was drawn, and any such number may be a baseline.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from jax.interpreters import ad

from ._errors import BiasError
from ._influence import InfluenceMap
from ._nodes import SCORED, StochasticNode
from ._primitives import MARKS
from ._program import CHECKPOINTS, CUSTOM, Literal, Program
from ._relaxed import Edge, find_edges
from ._work import of_program, of_runs
from .estimators import Estimator
from .rules import RULES

MOST_RUNS = 8  # every one is another copy of what is below the draw to compile
MOST_OUTCOMES = 16
MOST_TIMES = 4  # operations of all runs together, over those of the program
RELAXING = 2  # operations for each outcome of each element, to give it its mean
_DIFFERENTIATED = RULES.keys() | {"scan", "cond"} | CHECKPOINTS


@dataclasses.dataclass(eq=False)
class MeanRun:
    """What is run again with a draw, and all below it that can be, at their means.

    Attributes:
      node: the draw.
      below: other draws at their means, which it influences.
      edges: where each of them becomes a float, by equation.
      lifted: equations that take floats in the place of integers.
      path: all equations that depend on the draw, as far as they are needed, in order.
    """

    node: StochasticNode
    below: list[StochasticNode]
    edges: dict[int, Edge]
    lifted: set[int]
    path: list[int]

    @property
    def nodes(self) -> list[StochasticNode]:
        """All draws at their means."""
        return [self.node, *self.below]


def find_mean_runs(
    program: Program,
    wanted: Mapping[StochasticNode, Iterable[Any]],
    nodes: Iterable[StochasticNode],
    estimators: Mapping[StochasticNode, Estimator],
    influence: InfluenceMap,
) -> dict[StochasticNode, MeanRun]:
    """Plans runs for those draws for which one is possible and does not cost too much.

    Args:
      program: the outermost program, where the draws stand.
      wanted: for each of the draws, the costs that are asked for.
      nodes: all draws.
      estimators: of these.
      influence: of these.
    """
    asking = [n for n in wanted if estimators[n].uses_mean_field]
    if not 0 < len(asking) <= MOST_RUNS:
        return {}
    edges = _edges(program, [n for n in nodes if _has_mean(program, n)], estimators, influence)
    behind = of_runs(program, asking, influence, RELAXING * MOST_OUTCOMES)
    left, runs = MOST_TIMES * of_program(program)[0], {}
    for node in sorted(asking, key=lambda n: behind[n][0]):
        left -= behind[node][0]
        if node not in edges or left < 0:
            continue
        path = _path(program, node, wanted[node])
        if path is None:
            continue
        below = [n for n in edges if n is not node and n.position in path]
        used = [edge for n in (node, *below) for edge in edges[n]]
        lifted = {i for edge in used for i in edge.lifted}
        runs[node] = MeanRun(node, below, {e.index: e for e in used}, lifted, path)
    return runs


def _has_mean(program: Program, node: StochasticNode) -> bool:
    """Whether a draw may be put at the mean of its outcomes."""
    few = node.outcomes is not None and node.outcomes <= MOST_OUTCOMES
    return node.verdict == SCORED and node.program is program and few


def _edges(
    program: Program,
    nodes: list[StochasticNode],
    estimators: Mapping[StochasticNode, Estimator],
    influence: InfluenceMap,
) -> dict[StochasticNode, list[Edge]]:
    """Where draws become floats; of those only that do so element by element."""
    relaxed, found = {n: estimators[n] for n in nodes}, {}
    for node in nodes:
        try:
            edges = find_edges(program, node, relaxed, influence)
        except BiasError:  # an estimator that relaxes the draw would be refused
            continue
        if edges:
            found[node] = edges
    return found


def _path(program: Program, node: StochasticNode, costs: Iterable[Any]) -> list[int] | None:
    """The equations between a draw and its costs; None where one has no derivative.

    By what they read, not by influence: nothing that depends on what was drawn may be left.
    """
    reached = {node.var}
    for eqn in program.eqns[node.position + 1 :]:
        if not reached.isdisjoint(v for v in eqn.invars if not isinstance(v, Literal)):
            reached.update(eqn.outvars)
    needed, path = set(costs), []
    for index in range(len(program.eqns) - 1, node.position, -1):
        eqn = program.eqns[index]
        if needed.isdisjoint(eqn.outvars) or reached.isdisjoint(eqn.outvars):
            continue
        if not _has_derivative(program, index):
            return None
        path.append(index)
        needed.update(v for v in eqn.invars if not isinstance(v, Literal))
    return path[::-1]


def _has_derivative(program: Program, index: int) -> bool:
    """Whether an equation may be run again, and differentiated, by itself."""
    eqn = program.eqns[index]
    inside = [part for sub in program.subs.get(index, ()) for part in sub.walk()]
    if any(e.primitive.name in MARKS for part in inside for e in part.eqns):
        return False
    name = eqn.primitive.name
    if name in CUSTOM | MARKS:
        return True
    if inside:
        within = [(part, i) for part in inside for i in range(len(part.eqns))]
        return name in _DIFFERENTIATED and all(_has_derivative(*place) for place in within)
    return name in RULES and eqn.primitive in ad.primitive_jvps
