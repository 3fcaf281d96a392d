"""Estimators that run the rest of the program at other values of a draw.

For a draw whose estimator compares values (see `estimators.Comparison`) three things happen, for
all elements of the draw at once and with no derivative but the last:

1. the program is run with the draw's own sample: the estimator chooses the values to compare, and
   which elements are to be moved;
2. it is run again for each of these values, with the same keys.  Both runs give the cost-to-go of
   every element: what the costs that it influences add up to;
3. the surrogate gets a term of value zero whose derivative is that of log-probs, times the
   difference between costs-to-go.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ._first_order import ScoreTerm, is_float
from ._groups import Groups
from ._nodes import StochasticNode
from ._prober import Override, Prober
from .estimators import Comparison

_AT_ONCE = 16  # runs that are mapped together where every element has its own


Run = Callable[[jax.Array, jax.Array], jax.Array]  # elements moved, value -> costs-to-go


class Comparer:
    """Runs the program of a plan at the values that its estimators compare."""

    def __init__(self, plan: Any):
        self.plan, self.prober = plan, Prober(plan)

    def __call__(self, args: list[Any]) -> dict[StochasticNode, list[ScoreTerm]]:
        """What they add to the gradient, by draw."""
        args = [lax.stop_gradient(x) if is_float(x) else x for x in args]
        own, chosen = self.prober.choose(args)
        terms = {}
        for node, groups in self.plan.compared.items():

            def run(moved, value, node=node):
                return self.prober.cost_to_go(args, {node: Override(moved, value)})[node]

            move = functools.partial(_MOVES[groups.moves], groups, run, own[node])
            comparisons, noise = chosen[node]
            terms[node] = [term for each in comparisons for term in move(each, noise)]
        return terms


# Which elements are moved in one run.


def _all_at_once(groups: Groups, run: Run, own, each: Comparison, noise) -> list[ScoreTerm]:
    gain = _gain(run, own, each, jnp.ones(own.shape, bool))
    return [ScoreTerm(c * gain, x) for c, x in each.scores]


def _one_of_each_group(groups: Groups, run: Run, own, each: Comparison, noise) -> list[ScoreTerm]:
    """One element, picked by Gumbel noise with a chance in proportion to its coefficients."""
    size = functools.reduce(jnp.maximum, [jnp.abs(c) for c, _ in each.scores])
    race = jnp.where(size > 0, jnp.log(jnp.where(size > 0, size, 1)) + noise, -jnp.inf)
    moved = _first_maximum(race, groups.mixed) & (size > 0)
    total = jnp.sum(size, groups.mixed, keepdims=True)
    weight = jnp.where(moved, total / jnp.where(moved, size, 1), 0)
    gain = weight * _gain(run, own, each, moved)
    return [ScoreTerm(c * gain, x) for c, x in each.scores]


def _each_in_turn(groups: Groups, run: Run, own, each: Comparison, noise) -> list[ScoreTerm]:
    sizes = [own.shape[a] for a in groups.mixed]
    count = math.prod(sizes)

    def gain_of(index):
        moved = jnp.ones(own.shape, bool)
        for axis, i in zip(groups.mixed, jnp.unravel_index(index, sizes), strict=True):
            moved &= lax.broadcasted_iota(jnp.int32, own.shape, axis) == i
        return jnp.where(moved, _gain(run, own, each, moved), 0)

    gain = jnp.sum(lax.map(gain_of, jnp.arange(count), batch_size=min(count, _AT_ONCE)), 0)
    return [ScoreTerm(c * gain, x) for c, x in each.scores]


def _gain(run: Run, own: jax.Array, each: Comparison, moved: jax.Array) -> jax.Array:
    """By how much the costs-to-go differ where some elements are moved."""
    return run(moved, each.at) - (own if each.instead_of is None else run(moved, each.instead_of))


def _first_maximum(x: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """Where the maximum over some axes stands, once for each place on the others."""
    if not axes:
        return jnp.ones(x.shape, bool)
    ends = range(x.ndim - len(axes), x.ndim)
    moved = jnp.moveaxis(x, axes, ends)
    flat = moved.reshape(*moved.shape[: ends.start], -1)
    best = jnp.argmax(flat, -1, keepdims=True)
    here = lax.broadcasted_iota(best.dtype, flat.shape, flat.ndim - 1) == best
    return jnp.moveaxis(here.reshape(moved.shape), ends, axes)


_MOVES = {"all": _all_at_once, "one": _one_of_each_group, "each": _each_in_turn}
