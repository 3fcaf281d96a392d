"""Which elements of a draw reach the same costs, and so are moved one at a time."""

from __future__ import annotations

import dataclasses
import math

from ._costs import CostNode
from ._errors import refuse
from ._influence import InfluenceMap
from ._nodes import StochasticNode
from ._pairs import Score
from ._program import Program
from .estimators import Estimator


@dataclasses.dataclass(frozen=True)
class Groups:
    """The elements of a draw, by the costs that they reach.

    Attributes:
      moves: which elements the estimator moves in one run: "all", "one" of each group, or "each".
      mixed: the axes of the draw (loops first) along which elements reach the same costs; along
        the others every element has its own.
      single: whether all elements are one such group, so that a difference between two runs is a
        difference between their costs-to-go.
    """

    moves: str
    mixed: tuple[int, ...]
    single: bool


def find_groups(
    program: Program,
    pairs: list[tuple[Score, CostNode]],
    estimators: dict[StochasticNode, Estimator],
    influence: InfluenceMap,
) -> dict[StochasticNode, Groups]:
    """Groups for every draw whose estimator compares values.

    Raises:
      BiasError: where the estimator cannot be used in a loop.
    """
    parts = program.walk()
    # What the user has taken out of costs-to-go differs between runs all the same.
    denied = any(eqn.primitive.name == "stop_influence" for part in parts for eqn in part.eqns)
    by_node: dict[StochasticNode, list[tuple[Score, CostNode]]] = {}
    for score, cost in pairs:
        by_node.setdefault(score.node, []).append((score, cost))
    found = {}
    for node, scored in by_node.items():
        mixed = group_axes(node, scored)
        sizes = [*(loop.length for loop in node.loops), *node.shape]
        single = not denied and all(n == 1 for a, n in enumerate(sizes) if a not in mixed)
        found[node] = Groups(estimators[node].moves, mixed, single)
        if found[node].moves == "all":
            _refuse_chains(node, estimators[node], influence)
        if found[node].moves == "each":
            _refuse_many(node, estimators[node], mixed)
    return found


def group_axes(node: StochasticNode, scored: list[tuple[Score, CostNode]]) -> tuple[int, ...]:
    """The axes of a draw (loops first) along which elements reach the same costs."""
    own = set.intersection(*(_own_axes(score, cost) for score, cost in scored))
    return tuple(a for a in range(len(node.loops) + len(node.shape)) if a not in own)


def _own_axes(score: Score, cost: CostNode) -> set[int]:
    """Axes of a draw along which every element reaches its own element of a cost, or step."""
    node, shape, taken = score.node, getattr(cost.atom, "aval", cost.atom).shape, set()
    sizes = [*(loop.length for loop in node.loops), *node.shape]
    found = set()
    for axis, (b, size) in enumerate(zip(score.relation, sizes, strict=True)):
        if size == 1:
            found.add(axis)
        if b is None or b[1:] != (0, 0) or b[0] in taken:
            continue
        taken.add(b[0])
        if size == (shape[b[0]] if isinstance(b[0], int) else b[0].length):
            found.add(axis)
    return found


def _refuse_many(node: StochasticNode, estimator: Estimator, mixed: tuple[int, ...]) -> None:
    sizes = [*(loop.length for loop in node.loops), *node.shape]
    runs = math.prod(sizes[axis] for axis in mixed)
    if runs > estimator.budget:
        raise refuse(
            node.what,
            node.eqn,
            f"{type(estimator).__name__} moves every element that reaches the same cost in runs of "
            f"their own: {runs} of them, and the budget is {estimator.budget}.",
            "use jscg.estimators.Coupled(), which moves one of them, or ScoreFunction()",
            f"raise {type(estimator).__name__}(budget=...)",
        )


def _refuse_chains(node: StochasticNode, estimator: Estimator, influence: InfluenceMap) -> None:
    own = [v for v in node.operands().values() if hasattr(v, "aval") and not hasattr(v, "val")]
    if any(node in influence[v] for v in own):
        raise refuse(
            node.what,
            node.eqn,
            f"{type(estimator).__name__} draws all of its elements anew, but its parameters "
            "depend on what it drew at earlier steps of a loop, so that a second run has other "
            "probabilities than the first.",
            "use jscg.estimators.Coupled(), which moves one element, or ScoreFunction()",
        )
