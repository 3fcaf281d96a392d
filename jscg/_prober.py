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
from ._sampled import Sampled

_PICK = 0xFFFF


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
      override: what is moved, if anything.
    """

    symbol: jax.Array
    override: Override | None


class Prober(Rewriter):
    """The rewrite of a program for the draws whose estimators compare values."""

    keeps_effects = False

    def __init__(self, plan: Any):
        super().__init__(plan)
        self.node_of = {n.var: n for n in plan.compared}
        self.weighing = set(plan.compared)
        self.adding, self.baselines = set(), {}

    def choose(self, args: list[Any]):
        """Costs-to-go of all draws' own samples, and what their estimators compare."""
        self.choosing = set(self.plan.compared)
        found = self.probe(args, {})
        self.choosing = set()
        return found

    def cost_to_go(self, args: list[Any], overrides: dict[StochasticNode, Override]):
        """The same with some elements moved."""
        return self.probe(args, overrides)[0]

    def probe(self, args: list[Any], overrides: dict[StochasticNode, Override]):
        """Runs the program once; the derivatives are linear and cost little."""

        def total(symbols):
            given = {n: Given(s, overrides.get(n)) for n, s in symbols.items()}
            frame = self.run(self.plan.program, args, {}, Scope({}, {}, given, None))
            return self.shadow(frame, self.plan.program.outvars[0]), frame.found

        symbols = {
            n: jnp.zeros([*(loop.length for loop in n.loops), *n.shape], self.scorers[n].dtype)
            for n in self.plan.compared
        }
        return jax.grad(total, has_aux=True)(symbols)

    def account(self, frame: Frame, node: StochasticNode, value: jax.Array) -> None:
        """Moves what is to be moved, and lets the estimator choose."""
        symbol, override = frame.scope.given[node]
        if node in self.choosing:
            frame.found[node] = self.chosen(node, value, frame.read)
        if override is not None:
            moved = override.moved
            moved = moved.reshape(moved.shape + (1,) * (value.ndim - moved.ndim))
            frame.env[node.var] = jnp.where(moved, override.value.astype(value.dtype), value)
        self.set_log_prob(frame, node, symbol)

    def chosen(self, node: StochasticNode, value: jax.Array, read: Any):
        """What the estimator of a draw compares, and noise to pick an element by."""
        draw = Sampled(self.scorers[node], value, read)
        return self.plan.estimators[node].compare(draw), draw.gumbel(_PICK)

    def nothing(self, node: StochasticNode):
        """Zeros of the structure of what an estimator compares, from a branch without that draw."""
        atoms = [*self.scorers[node].atoms, *node.eqn.invars]
        atoms = list({a: None for a in atoms if hasattr(a, "aval") and not hasattr(a, "val")})

        def compare(value, *values):
            env = dict(zip(atoms, values, strict=True))
            return self.chosen(node, value, lambda a: a.val if hasattr(a, "val") else env[a])

        avals = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in (node.var, *atoms)]
        shapes = jax.eval_shape(compare, *avals)
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    def weighted(self, frame: Frame, cost: Any, value: Any) -> Any:
        """Costs that no compared draw influences need no expectation."""
        return super().weighted(frame, cost, value) if self.plan.weights[cost].compared else value

    def scores_of(self, weight: Weight) -> list[tuple[Sequence[Score], int | None]]:
        """All compared draws, without a baseline."""
        return [(weight.compared, None)]
