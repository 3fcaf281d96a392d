"""Runs a program for the costs-to-go of its draws, with some elements of draws moved."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ._frame import Frame, Scope
from ._nodes import StochasticNode
from ._pairs import Score
from ._plan import Weight
from ._rewrite import Rewriter


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
      override: what is moved.
    """

    symbol: jax.Array
    override: Override


class Prober(Rewriter):
    """Runs a program with some elements of one draw moved."""

    keeps_effects = False

    def __init__(self, plan: Any, node: StochasticNode):
        super().__init__(plan)
        self.node, self.single = node, plan.compared[node].single
        self.node_of, self.weighing = {node.var: node}, {node}
        self.adding, self.choosing, self.baselines = set(), set(), {}

    def costs_to_go(self, args: list[Any], moved: jax.Array, value: jax.Array) -> jax.Array:
        """Of every element of the draw; of a single group, the whole cost."""
        symbol = symbol_of(self, self.node)
        override = Override(moved, value)
        if self.single:
            return self.total(args, symbol, override)
        return jax.grad(lambda s: self.total(args, s, override))(symbol)

    def total(self, args: list[Any], symbol: jax.Array, override: Override) -> jax.Array:
        """The cost."""
        given = {self.node: Given(symbol, override)}
        frame = self.run(self.plan.program, args, {}, Scope({}, {}, given))
        return self.shadow(frame, self.plan.program.outvars[0])

    def account(self, frame: Frame, node: StochasticNode, value: jax.Array) -> None:
        """Moves what is to be moved."""
        symbol, (moved, other) = frame.scope.given[node]
        moved = moved.reshape(moved.shape + (1,) * (value.ndim - moved.ndim))
        frame.env[node.var] = jnp.where(moved, other.astype(value.dtype), value)
        self.set_log_prob(frame, node, symbol)

    def scores_of(self, weight: Weight) -> list[tuple[Sequence[Score], int | None]]:
        """The draw's own, without a baseline."""
        return [([s for s in weight.compared if s.node is self.node], None)]


def symbol_of(rw: Rewriter, node: StochasticNode) -> jax.Array:
    """Zeros of the shape of a draw, those of loops first."""
    return jnp.zeros([*(loop.length for loop in node.loops), *node.shape], rw.scorers[node].dtype)
