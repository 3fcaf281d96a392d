"""Which costs are replaced by their exact expectation over a draw."""

from __future__ import annotations

import dataclasses
import heapq
import math
from typing import Any

from ._costs import CostNode
from ._influence import InfluenceMap
from ._nodes import StochasticNode
from ._program import CUSTOM, Literal, Program
from ._relation import Relation
from .estimators import Estimator
from .rules import RULES

LONGEST_CHEAP_PATH = 256
FEW = 16  # outcomes, with which every cheap path may be walked
# With more of them: outcomes times equations, and the largest array over all outcomes.  To draw
# one of k classes takes k random numbers, each of which takes a hundred operations or two.
MOST_STEPS, MOST_ELEMENTS = 2**15, 2**20


@dataclasses.dataclass(eq=False)
class Enumeration:
    """A cost that is recomputed for every outcome of a draw.

    Attributes:
      node: the draw.
      path: indices of the equations from the draw to the cost, in order.
      relation: of the cost to the draw by this path.
      aligned: axes of the draw's shape along which all elements are enumerated at once.
      outcomes: number of joint outcomes of the other elements.
    """

    node: StochasticNode
    path: list[int]
    relation: Relation
    aligned: tuple[int, ...]
    outcomes: int


def never_enumerable(
    node: StochasticNode, relation: Relation, program: Program, estimator: Estimator
) -> str | None:
    """Why no cost of a program that has this relation to a draw is enumerated, if so."""
    size = node.outcomes
    if estimator.outcomes == 0 or size is None:
        return "its support is not a small finite set"
    if node.program is not program:
        return "a loop or branch stands between the draw and a cost"
    if estimator.only_cheap and not _may_be_aligned(node, relation):
        return "the cost mixes several of its elements"
    if size > estimator.outcomes:
        return f"its support has {size} outcomes"
    return None


def enumerable(
    node: StochasticNode,
    cost: CostNode,
    estimator: Estimator,
    influence: InfluenceMap,
    producers: dict[Any, int],
) -> Enumeration | str:
    """Plans the enumeration of a draw for one cost, or tells why there is none.

    What `never_enumerable` tells is not asked again.
    """
    if isinstance(cost.atom, Literal):
        return "a loop or branch stands between the draw and a cost"
    path = _path(node, cost, influence, producers, estimator.only_cheap)
    if isinstance(path, str):
        return path
    if not path and cost.atom is not node.var:
        return "it reaches the cost only through later steps of a loop"
    relation = InfluenceMap.along(node, path, cost.atom)[node]
    shape, loops = node.shape, len(node.loops)
    cost_shape = cost.atom.aval.shape
    aligned, places = [], set()
    for axis, b in enumerate(relation[loops:]):
        fits = b is not None and b[1:] == (0, 0) and isinstance(b[0], int)
        if b is not None and fits and b[0] not in places and cost_shape[b[0]] == shape[axis]:
            aligned.append(axis)
            places.add(b[0])
    elements = math.prod(n for axis, n in enumerate(shape) if axis not in aligned)
    if estimator.only_cheap and elements != 1:
        return "the cost mixes several of its elements"
    size = node.outcomes
    assert size is not None
    if elements * math.log(size) > math.log(estimator.outcomes) + 1e-9:
        return f"{elements} elements with {size} outcomes each reach the same cost"
    return Enumeration(node, path, relation, tuple(aligned), size**elements)


@dataclasses.dataclass(frozen=True, eq=False)
class EnumerableAtItsStep:
    """Whether a cost within a loop is enumerated over a draw of the same step.

    Attributes:
      estimators: of the draws, as they were chosen.
      influence: of the draws.
    """

    estimators: dict[StochasticNode, Estimator]
    influence: InfluenceMap

    def __call__(self, cost: CostNode, stacked: Any, producers: dict[Any, int]) -> bool:
        """Looks at all draws that influence it.

        Args:
          cost: the cost.
          stacked: the variable in which the loop stacks it.
          producers: of the loop's variables.
        """
        loop = cost.program.loop
        for node, relation in self.influence[stacked].items():
            band = relation[node.loops.index(loop)] if loop in node.loops else None
            if band is not None and band[1:] == (0, 0):
                return False  # steps are independent: outside they are each other's baseline
        for node, relation in self.influence[cost.atom].items():
            estimator = self.estimators[node]
            if never_enumerable(node, relation, cost.program, estimator) is None:
                found = enumerable(node, cost, estimator, self.influence, producers)
                if isinstance(found, Enumeration) and affordable([found], estimator):
                    return True
        return False


def affordable(together: list[Enumeration], estimator: Estimator) -> bool:
    """Whether the enumerations of one cost, at all of their joint outcomes, cost little enough."""
    outcomes = math.prod(e.outcomes for e in together)
    if not estimator.only_cheap or outcomes <= FEW:
        return outcomes <= estimator.outcomes
    steps = len(set().union(*(e.path for e in together)))
    sizes = [math.prod(e.node.shape) for e in together]
    # The parameters of a categorical draw are as large as that, and it draws as many numbers.
    known = max(math.prod(v.aval.shape) for e in together for v in e.node.eqn.invars)
    return (
        outcomes <= estimator.outcomes
        and outcomes * steps <= MOST_STEPS
        and outcomes * max(sizes) <= max(MOST_ELEMENTS, known)
    )


def behind_draws(
    cost: CostNode, influence: InfluenceMap, producers: dict[Any, int]
) -> set[StochasticNode]:
    """Draws, in no loop, that reach a cost through another draw: found for all in one walk back.

    The walk ends after some equations: a draw that is not among them may still be one.
    """
    program, found = cost.program, set()
    if program.loops or cost.atom not in producers:
        return found
    # For the variables to follow, the draws that reach the cost by them; the last one made first.
    reaching = {cost.atom: set(cost.influence)}
    todo = [-producers[cost.atom]]
    for _ in range(LONGEST_CHEAP_PATH):
        if not todo:
            break
        eqn = program.eqns[-heapq.heappop(todo)]
        here = set().union(*(reaching.pop(v, ()) for v in eqn.outvars)) - found
        if eqn.primitive.name == "draw":
            found |= here - {influence.scored.get(eqn.outvars[0])}
            continue
        for atom in eqn.invars:
            through = here & influence[atom].keys()
            if not through or atom not in producers:
                continue
            if -producers[atom] not in todo:
                heapq.heappush(todo, -producers[atom])
            reaching[atom] = reaching.get(atom, set()) | through
    return found


def _may_be_aligned(node: StochasticNode, relation: Relation) -> bool:
    """Quick check: in a loop, the steps before may have mixed what this step has not."""
    if node.loops:
        return True
    sizes = zip(relation, node.shape, strict=True)
    return all(size == 1 or (b is not None and b[1:] == (0, 0)) for b, size in sizes)


def _path(node, cost, influence, producers, only_cheap) -> list[int] | str:
    """Equations of the draw's program that the draw reaches and that lead to the cost."""
    program, eqns = node.program, node.program.eqns
    seen: set[int] = set()
    todo = [cost.atom]
    while todo:
        atom = todo.pop()
        if isinstance(atom, Literal) or atom is node.var or node not in influence[atom]:
            continue
        index = producers.get(atom)
        if index is None or index in seen or index < node.position:
            continue
        seen.add(index)
        if only_cheap and len(seen) > LONGEST_CHEAP_PATH:
            return "the way from the draw to the cost is long"
        todo.extend(eqns[index].invars)
    reached, path = {node.var}, []
    for index in sorted(seen):
        eqn = eqns[index]
        if not any(not isinstance(v, Literal) and v in reached for v in eqn.invars):
            continue
        reached.update(eqn.outvars)
        path.append(index)
        if eqn.primitive.name == "draw" and only_cheap:
            return "another draw depends on it"
        if only_cheap and not _cheap(program, index):
            return f"the cost is behind a {eqn.primitive.name}"
        scored_within = _holds_scored(program, index, influence)
        if eqn.primitive.name == "draw" and eqn.outvars[0] in influence.scored or scored_within:
            return "another draw that needs a score depends on it"
    return path if cost.atom in reached else []


def _holds_scored(program: Program, index: int, influence: InfluenceMap) -> bool:
    return any(
        eqn.primitive.name == "draw" and eqn.outvars[0] in influence.scored
        for sub in program.subs.get(index, ())
        for part in sub.walk()
        for eqn in part.eqns
    )


def _cheap(program: Program, index: int) -> bool:
    eqn = program.eqns[index]
    if eqn.primitive.name in CUSTOM:
        (inside,) = program.subs[index]
        return all(_cheap(inside, i) for i in range(len(inside.eqns)))
    rule = RULES.get(eqn.primitive.name)
    return rule is not None and rule.cheap
