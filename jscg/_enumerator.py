"""The exact expectation of a program whose draws have small finite supports, as a function."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._activity import live_variables
from ._errors import BiasError
from ._frame import Frame, Scope
from ._keys import check_keys
from ._nodes import SCORED, StochasticNode
from ._plan import Plan
from ._program import CUSTOM
from ._rewrite import Rewriter
from ._scores import Scorer

_AT_ONCE = 256


class Enumerator(Rewriter):
    """Runs a program at given outcomes of all of its draws, weighted with their probability."""

    weighs = False

    def __init__(self, plan: Plan, nodes: list[StochasticNode]):
        super().__init__(plan)
        producers = plan.finder.producers
        self.scorers = {n: Scorer(n, producers[n.program]) for n in nodes}
        self.node_of = {n.var: n for n in nodes}
        self.weighing, self.adding, self.choosing, self.baselines = set(), set(nodes), set(), {}
        self.sizes = [n.outcomes or 1 for n in nodes]
        self.shapes = [(*(loop.length for loop in n.loops), *n.shape) for n in nodes]
        self.outcomes = math.prod(
            k ** math.prod(shape) for k, shape in zip(self.sizes, self.shapes, strict=True)
        )
        # Of a draw in a branch that is not taken all outcomes are alike: each counts 1/k.
        self.share = {
            n: -math.log(k)
            for n, k in zip(nodes, self.sizes, strict=True)
            if "cond" in {part.holder for part in n.program.path}
        }
        self.shares = sum(
            self.share.get(n, 0.0) * math.prod(shape)
            for n, shape in zip(nodes, self.shapes, strict=True)
        )

    def expectation(self, args: list[Any]) -> jax.Array:
        """E[cost], differentiable in the arguments that are floats."""
        places = jnp.arange(self.outcomes)
        return jnp.sum(jax.lax.map(lambda i: self.term(args, i), places, batch_size=_AT_ONCE))

    def term(self, args: list[Any], place: jax.Array) -> jax.Array:
        """Of the sum over joint outcomes, the one with this number."""
        given = {}
        for node, size, shape in zip(self.scorers, self.sizes, self.shapes, strict=True):
            count = math.prod(shape)
            digits = place // size ** np.arange(count) % size
            place = place // size**count
            given[node] = digits.reshape(shape)
        frame = self.run(self.plan.program, args, {}, Scope({}, {}, given))
        cost = self.shadow(frame, self.plan.program.outvars[0])
        assert frame.extra is not None
        return cost * jnp.exp(frame.extra + self.shares)

    def account(self, frame: Frame, node: StochasticNode, value: jax.Array) -> None:
        """Sets a draw to its outcome."""
        scorer = self.scorers[node]
        values, _ = scorer.support(frame.read)
        outcome = jnp.asarray(values)[frame.scope.given[node]].astype(value.dtype)
        frame.env[node.var] = outcome
        log_prob = scorer.log_prob(outcome, frame.read)
        self.add_extra(frame, jnp.sum(log_prob - self.share.get(node, 0.0)))


def exact_expectation(plan: Plan, most: int) -> Callable[[list[Any]], jax.Array] | None:
    """The expectation as a function of a program's inputs, or None where it has too many terms.

    Args:
      plan: of the program.
      most: how many joint outcomes there may be.
    """
    live = live_variables(plan.program)
    nodes = [n for n in plan.nodes if n.var in live]
    if not any(n.verdict == SCORED for n in nodes) or not all(map(_finite, nodes)):
        return None
    try:
        check_keys(plan.program, nodes, {n.var: n.var for n in nodes})
    except BiasError:
        return None
    enumerator = Enumerator(plan, nodes)
    return enumerator.expectation if enumerator.outcomes <= most else None


def _finite(node: StochasticNode) -> bool:
    holders = {part.holder for part in node.program.path}
    known = node.outcomes is not None and node.rule.log_prob is not None
    return known and not holders & ({"while"} | CUSTOM)
