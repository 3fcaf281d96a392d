"""Estimators that run the rest of the program at other values of a draw.

For a draw whose estimator compares values (see `estimators.Evaluations`) three things happen, for
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
from .estimators import Evaluations

_AT_ONCE = 16  # runs that are mapped together where every element has its own


Run = Callable[[jax.Array], list[jax.Array]]  # elements moved -> costs-to-go at every value


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
            evaluations, noise = chosen[node]

            def costs_to_go(moved, node=node, values=evaluations.values):
                """At each of the values."""
                return [
                    own[node]
                    if value is None
                    else self.prober.cost_to_go(args, {node: Override(moved, value)})[node]
                    for value in values
                ]

            weights = _MOVES[groups.moves](groups, costs_to_go, evaluations, noise)
            terms[node] = list(map(ScoreTerm, weights, evaluations.outcomes))
        return terms


# Which elements are moved in one run: each returns the weight of every outcome.


def _all_at_once(groups: Groups, run: Run, e: Evaluations, noise: jax.Array) -> list[jax.Array]:
    return _weights(e, run(jnp.ones(noise.shape, bool)))


def _one_of_each(groups: Groups, run: Run, e: Evaluations, noise: jax.Array) -> list[jax.Array]:
    """One element, picked by Gumbel noise with a chance in proportion to its coefficients."""
    size = functools.reduce(jnp.maximum, [jnp.abs(c) for row in e.coefficients for c in row])
    race = jnp.where(size > 0, jnp.log(jnp.where(size > 0, size, 1)) + noise, -jnp.inf)
    moved = _first_maximum(race, groups.mixed) & (size > 0)
    total = jnp.sum(size, groups.mixed, keepdims=True)
    chance = jnp.where(moved, size, 1) / jnp.where(total > 0, total, 1)
    return [jnp.where(moved, w / chance, 0) for w in _weights(e, run(moved))]


def _each_in_turn(groups: Groups, run: Run, e: Evaluations, noise: jax.Array) -> list[jax.Array]:
    sizes = [noise.shape[a] for a in groups.mixed]
    count = math.prod(sizes)

    def weights_of(index):
        moved = jnp.ones(noise.shape, bool)
        for axis, i in zip(groups.mixed, jnp.unravel_index(index, sizes), strict=True):
            moved &= lax.broadcasted_iota(jnp.int32, noise.shape, axis) == i
        return [jnp.where(moved, w, 0) for w in _weights(e, run(moved))]

    found = lax.map(weights_of, jnp.arange(count), batch_size=min(count, _AT_ONCE))
    return [jnp.sum(w, 0) for w in found]


_MOVES = {"all": _all_at_once, "one": _one_of_each, "each": _each_in_turn}


def _weights(e: Evaluations, costs_to_go: list[jax.Array]) -> list[jax.Array]:
    """For each outcome, the sum of its coefficients times costs-to-go."""
    columns = zip(*e.coefficients, strict=True)
    each = [[c * q for c, q in zip(column, costs_to_go, strict=True)] for column in columns]
    return [functools.reduce(jnp.add, products) for products in each]


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
