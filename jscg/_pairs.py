"""Pairs of a draw and a cost that it influences.

Of n draws in a row the last costs are influenced by all, so that there are n^2 pairs.  What can
be said of many at once is said once: many costs of a program are influenced alike by a draw.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

from ._costs import CostNode
from ._enumerable import never_enumerable
from ._nodes import StochasticNode
from ._program import Loop, Program
from ._relation import Relation
from .estimators import Estimator


@dataclasses.dataclass(eq=False)
class Score:
    """One draw whose log-prob weights costs: one object for all that take it in the same way.

    Attributes:
      node: the draw.
      relation: of the costs to the draw.
      past: the loops around both from whose earlier steps the draw's log-probs are taken.
      current: whether the log-prob of the present step (or of a draw in no loop) is taken.
    """

    node: StochasticNode
    relation: Relation
    past: tuple[Loop, ...]
    current: bool


class Reason(NamedTuple):
    """How the gradient through a draw is estimated for one cost.

    Attributes:
      how: the way.
      why: and not another.
    """

    how: str
    why: str


BEHIND = "another draw depends on it"
IN_LATER_STEPS = "it reaches costs in later steps of a loop"


def was_chosen(estimator: Estimator) -> str:
    """A reason."""
    return f"{type(estimator).__name__} was chosen"


@dataclasses.dataclass(eq=False)
class Pair:
    """A draw and the costs of one program that it influences alike.

    Attributes:
      score: how the costs are scored, if they are not enumerated.
      earlier: how they are scored, if the present step is enumerated.
      estimator: of the draw.
      why: why none of the costs is enumerated, if so.
      settled: whether all are scored, whatever else they are.
      only_cheap: whether those that another draw stands before are scored.
      reason: how and why these are scored, if all are and nothing else is to be done.
      behind: the same of those that another draw stands before.
    """

    score: Score
    earlier: Score
    estimator: Estimator
    why: str | None
    settled: bool
    only_cheap: bool
    reason: Reason | None
    behind: Reason | None


class Pairs:
    """All pairs of a program."""

    def __init__(self, estimators: dict[StochasticNode, Estimator]):
        self.estimators = estimators
        self.order = {node: i for i, node in enumerate(estimators)}
        self.known: dict[Any, Pair] = {}

    def of(self, cost: CostNode) -> list[Pair]:
        """Those of one cost, in program order, so that sums of log-probs are shared."""
        known, program = self.known, cost.program
        nodes = sorted(cost.influence, key=self.order.__getitem__)
        keys = [(node, cost.influence[node], program) for node in nodes]
        return [known[key] if key in known else self.add(*key) for key in keys]

    def add(self, node: StochasticNode, relation: Relation, program: Program) -> Pair:
        """The pair of the first cost that is influenced like this."""
        past, current = _steps(node, relation, program)
        score, earlier = (Score(node, relation, past, now) for now in (current, False))
        estimator = self.estimators[node]
        why = never_enumerable(node, relation, program, estimator)
        settled = estimator.scores and (past or current) and (why is not None or not current)
        only_cheap = estimator.scores and estimator.only_cheap
        reason = behind = None
        simple = not (estimator.compares or estimator.relaxes)
        if simple and only_cheap and current and not settled:
            behind = Reason("scored", BEHIND)
        if simple and settled:
            own = estimator.outcomes == 0
            reason = Reason("scored", was_chosen(estimator) if own else why or IN_LATER_STEPS)
        pair = Pair(score, earlier, estimator, why, bool(settled), only_cheap, reason, behind)
        self.known[node, relation, program] = pair
        return pair


def _steps(node, relation, program) -> tuple[tuple[Loop, ...], bool]:
    """From which steps of the loops around both the draw influences costs of a program."""
    past = []
    for part, other in zip(node.program.path, program.path, strict=False):
        if part is not other:
            break
        if part.loop is None:
            continue
        b = relation[node.loops.index(part.loop)]
        lo, hi = (-1.0, 0.0) if b is None or b[0] is not part.loop else b[1:]
        if b is not None and b[0] is part.loop and part.loop.reverse:
            lo, hi = -hi, -lo
        if lo < 0:
            past.append(part.loop)
        if not lo <= 0 <= hi:
            return tuple(past), False
    return tuple(past), True
