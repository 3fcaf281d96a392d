"""Runs a program for the costs-to-go of its draws, with some elements of draws moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ._frame import Frame, Scope
from ._nodes import StochasticNode
from ._pairs import Score
from ._rewrite import Rewriter
from ._smooth import relaxed_with
from ._weighing import Weight
from .draws._family import each
from .estimators import Relaxed


class Override(NamedTuple):
    """What some elements of a draw are set to.

    Attributes:
      moved: which, of the draw's shape, those of loops first.
      value: to what.
    """

    moved: jax.Array
    value: jax.Array


class Given(NamedTuple):
    """What a run is handed for one draw.

    Attributes:
      symbol: zeros in the place of its log-probs: the derivative in them is the cost-to-go.
      override: what is moved, if anything is.
      relaxed: weights of its outcomes, if it is relaxed.
    """

    symbol: jax.Array
    override: Override | None = None
    relaxed: jax.Array | None = None


class Evaluated(NamedTuple):
    """What a run gives.

    Attributes:
      cost: cost-to-go of every element of the draw; of a single group, the whole cost.
      slope: its derivative in the weights of the outcomes, at a relaxed value.
    """

    cost: jax.Array
    slope: jax.Array | None = None


class Prober(Rewriter):
    """Runs a program with some elements of one draw moved."""

    keeps_effects = False
    differentiated = False

    def __init__(self, plan: Any, node: StochasticNode):
        super().__init__(plan)
        self.node, self.single = node, plan.compared[node].single
        self.weighing, self.adding, self.choosing = {node}, set(), set()
        self.baselines, self.free = {}, set()
        if node in plan.edges:
            passed = plan.passed if plan.estimators[node].relaxes == "runs" else set()
            self.relax(relaxed_with(node, plan.relaxing, plan.influence), passed)
        self.node_of = {n.var: n for n in {node} | self.relaxing}

    def costs_to_go(self, args: list[Any], moved: jax.Array, value: Any) -> Evaluated:
        """Runs the program at a value of the draw, or at a relaxed one."""
        symbol = symbol_of(self, self.node)
        if isinstance(value, Relaxed):
            run = lambda s, r: self.total(args, Given(s, relaxed=r))  # noqa: E731
            if self.single:
                return Evaluated(*jax.value_and_grad(run, 1)(symbol, value.weights))
            return Evaluated(*jax.grad(run, (0, 1))(symbol, value.weights))
        run = lambda s: self.total(args, Given(s, Override(moved, value)))  # noqa: E731
        return Evaluated(run(symbol) if self.single else jax.grad(run)(symbol))

    def total(self, args: list[Any], given: Given) -> jax.Array:
        """The cost."""
        frame = self.run(self.plan.program, args, {}, Scope({}, {}, {self.node: given}))
        return self.shadow(frame, self.plan.program.outvars[0])

    def account(self, frame: Frame, node: StochasticNode, value: jax.Array) -> None:
        """Moves what is to be moved, and relaxes what is to be relaxed."""
        given = frame.scope.given[self.node]
        if node is not self.node:
            if given.relaxed is not None or node in self.plan.relaxed:
                frame.relaxed[node] = self.relaxed_value(frame, node, value)
            return
        if given.relaxed is not None:
            frame.relaxed[node] = each(given.relaxed)
        elif given.override is not None:
            moved, other = given.override
            moved = moved.reshape(moved.shape + (1,) * (value.ndim - moved.ndim))
            frame.env[node.var] = jnp.where(moved, other.astype(value.dtype), value)
        self.set_log_prob(frame, node, given.symbol)

    def scores_of(self, weight: Weight) -> list[tuple[Sequence[Score], int | None]]:
        """The draw's own, without a baseline."""
        return [([s for s in weight.compared if s.node is self.node], None)]


def symbol_of(rw: Rewriter, node: StochasticNode) -> jax.Array:
    """Zeros of the shape of a draw, those of loops first."""
    return node.zeros(rw.scorers[node].dtype, range(len(node.loops) + len(node.shape)))
