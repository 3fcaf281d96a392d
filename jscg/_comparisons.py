"""Estimators that run the rest of the program at other values of a draw.

For a draw whose estimator compares values (see `estimators.Evaluations`):

1. while the program is run for the surrogate, the estimator chooses the values to compare; their
   log-probs are noted, and zeros stand in the place of log-probs where costs are weighted.  The
   derivative in these is the cost-to-go of every element: what the costs that it influences add up
   to;
2. the program is run again for each of the other values, with the same keys and without
   derivatives, but for those in such zeros;
3. the surrogate gets a term of value zero whose derivative is that of the log-probs, times
   differences between costs-to-go.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ._errors import ArgumentError
from ._first_order import first_order, is_float, witness_of
from ._frame import Frame
from ._groups import Groups
from ._nodes import StochasticNode
from ._prober import Evaluated, Prober, symbol_of
from ._rerun import AT_ONCE
from ._sampled import Sampled
from ._sharding import left_to_xla, like, zeros
from .estimators import Evaluations, Relaxed

_UNROLLED = 2  # runs, of which each is a copy of the program to compile: a branch stays a branch
_PICK = 0xFFFF

# (elements moved, runs at once) -> costs-to-go at every value
Run = Callable[[jax.Array, int], list[Evaluated]]
Weights = tuple[list[jax.Array], list[Any]]  # of every outcome, and of every path


class Chosen(NamedTuple):
    """What the estimator of a draw compares.

    Attributes:
      evaluations: values, outcomes, coefficients.
      bits: of its keys, by which an element is picked.
      log_probs: of the outcomes, differentiable.
      paths: of the values, differentiable.
    """

    evaluations: Evaluations
    bits: jax.Array
    log_probs: list[jax.Array]
    paths: list[jax.Array | None]


class Comparer:
    """What a rewriter does for the draws of a plan whose estimators compare values."""

    def __init__(self, rewriter: Any):
        self.rewriter, self.plan = rewriter, rewriter.plan
        self.probers: dict[StochasticNode, Prober] = {}

    def symbols(self) -> dict[StochasticNode, jax.Array]:
        """Zeros in the place of log-probs."""
        return {n: symbol_of(self.rewriter, n) for n in self.plan.compared}

    def choose(self, frame: Frame, node: StochasticNode, value: jax.Array) -> Chosen:
        """Asks the estimator of a draw, at one step of the loops around it."""
        return self._chosen(node, value, frame.read)

    def _chosen(self, node: StochasticNode, value: jax.Array, read: Any) -> Chosen:
        scorer = self.rewriter.scorers[node]
        draw = Sampled(scorer, lax.stop_gradient(value), lambda v: lax.stop_gradient(read(v)))
        estimator = self.plan.estimators[node]
        made = estimator.compare(draw)
        if estimator.moves != "all" and (made.tilts or made.paths):
            raise ArgumentError(
                f"jscg: {type(estimator).__name__} moves {estimator.moves!r} of a draw's elements "
                "at a time; tilts and paths are for estimators that move 'all'."
            )
        made = _typed_as(value, made)
        paths: list[jax.Array | None] = []
        if made.paths is not None:  # the same once more, with derivatives
            paths = estimator.compare(Sampled(scorer, draw.value, read)).paths or []
        outcomes = []
        for outcome, *column in zip(made.outcomes, *made.coefficients, strict=True):
            counts = functools.reduce(jnp.logical_or, [c != 0 for c in column if c is not None])
            counts = counts.reshape(counts.shape + (1,) * (value.ndim - counts.ndim))
            # Where nothing counts the outcome may be impossible, and have no score.
            outcomes.append(jnp.where(counts, outcome, value))
        log_probs = _mapped(lambda x: scorer.log_prob(x, read), outcomes, len(outcomes))
        return Chosen(made._replace(paths=None), draw.bits(), log_probs, paths)

    def nothing(self, node: StochasticNode) -> Chosen:
        """Zeros of that structure, from a branch without the draw."""
        atoms = [*self.rewriter.scorers[node].atoms, *node.eqn.invars]
        atoms = list({a: None for a in atoms if hasattr(a, "aval") and not hasattr(a, "val")})

        def chosen(value, *values):
            env = dict(zip(atoms, values, strict=True))
            return self._chosen(node, value, lambda a: a.val if hasattr(a, "val") else env[a])

        return jax.tree.map(zeros, jax.eval_shape(chosen, *(v.aval for v in (node.var, *atoms))))

    def term(
        self,
        args: list[Any],
        own: dict[StochasticNode, jax.Array],
        found: dict[StochasticNode, Chosen],
    ) -> jax.Array:
        """A number of value zero, with all that these draws add to the gradient.

        Args:
          args: of the program.
          own: costs-to-go of the samples.
          found: what is compared.
        """
        fixed = [lax.stop_gradient(x) if is_float(x) else x for x in args]
        witness, total = witness_of(args), jnp.float32(0)
        for node, groups in self.plan.compared.items():
            chosen = found[node]
            evaluations = lax.stop_gradient(chosen.evaluations)
            if node not in self.probers:
                self.probers[node] = Prober(self.plan, node)

            def costs_to_go(
                moved, at_once, prober=self.probers[node], own=own[node], values=evaluations.values
            ):
                """At each of the values."""
                run = lambda value: prober.costs_to_go(fixed, moved, value)  # noqa: E731
                plain = [v for v in values if v is not None and not isinstance(v, Relaxed)]
                of_plain = iter(_mapped(run, plain, at_once))
                return [
                    Evaluated(own)
                    if value is None
                    else run(value)
                    if isinstance(value, Relaxed)
                    else next(of_plain)
                    for value in values
                ]

            weights, slopes = _MOVES[groups.moves](groups, costs_to_go, evaluations, chosen.bits)
            terms = list(zip(weights, chosen.log_probs, strict=True))
            if chosen.paths:
                along = zip(slopes, chosen.paths, strict=True)
                terms += [(slope, path) for slope, path in along if path is not None]
            for weight, moving in terms:
                total += jnp.sum(lax.stop_gradient(weight) * first_order(moving, witness))
        return total


def _typed_as(value: jax.Array, e: Evaluations) -> Evaluations:
    """Gives values, outcomes and coefficients, which may be constants, the type of the draw."""

    def typed(array: Any) -> Any:
        if array is None or isinstance(array, Relaxed):
            return array
        return like(jnp.asarray(array), jax.typeof(value), range(jnp.ndim(array)))

    return e._replace(
        values=[*map(typed, e.values)],
        outcomes=[*map(typed, e.outcomes)],
        coefficients=[[*map(typed, row)] for row in e.coefficients],
    )


def _mapped(fun: Callable[[jax.Array], Any], arrays: list[jax.Array], at_once: int) -> list[Any]:
    """The function of every array, of which many are one copy of it to compile."""
    if len(arrays) <= _UNROLLED:
        return [fun(array) for array in arrays]
    stacked = jnp.stack(arrays)
    if len(arrays) <= at_once:
        found = jax.vmap(fun)(stacked)
    else:
        found = lax.map(fun, stacked, batch_size=at_once)
    return [jax.tree.map(lambda x, i=i: x[i], found) for i in range(len(arrays))]


# Which elements are moved in one run: each returns the weights.


def _all_at_once(groups: Groups, run: Run, e: Evaluations, bits: jax.Array) -> Weights:
    found = run(_everywhere(e), AT_ONCE)
    weights, slopes = _weights(e, found), [evaluated.slope for evaluated in found]
    for slope, tilts in zip(slopes, e.tilts or [[]] * len(slopes), strict=True):
        for m, tilt in enumerate(tilts):
            assert slope is not None, "tilts are for relaxed values"
            products = jnp.sum(slope * tilt, -1)
            weights[m] += jnp.sum(products, groups.mixed, keepdims=True)
    return weights, slopes


def _one_of_each(groups: Groups, run: Run, e: Evaluations, bits: jax.Array) -> Weights:
    """One element, picked with a chance in proportion to its coefficients."""
    size = functools.reduce(jnp.maximum, map(jnp.abs, _given(e)))
    pick = functools.partial(_picked, axes=groups.mixed)
    moved = left_to_xla(pick, size, bits) & (size > 0)
    total = jnp.sum(size, groups.mixed, keepdims=True)
    chance = jnp.where(moved, size, 1) / jnp.where(total > 0, total, 1)
    return [jnp.where(moved, w / chance, 0) for w in _weights(e, run(moved, AT_ONCE))], []


def _each_in_turn(groups: Groups, run: Run, e: Evaluations, bits: jax.Array) -> Weights:
    everywhere = _everywhere(e)
    sizes = [everywhere.shape[a] for a in groups.mixed]
    count = math.prod(sizes)
    elements = min(count, AT_ONCE)

    def weights_of(index):
        moved = everywhere
        for axis, i in zip(groups.mixed, jnp.unravel_index(index, sizes), strict=True):
            moved &= lax.broadcasted_iota(jnp.int32, moved.shape, axis) == i
        return [jnp.where(moved, w, 0) for w in _weights(e, run(moved, AT_ONCE // elements))]

    found = lax.map(weights_of, jnp.arange(count), batch_size=elements)
    return [jnp.sum(w, 0) for w in found], []


_MOVES = {"all": _all_at_once, "one": _one_of_each, "each": _each_in_turn}


def _weights(e: Evaluations, found: list[Evaluated]) -> list[jax.Array]:
    """For each outcome, the sum of its coefficients times costs-to-go."""
    columns = zip(*e.coefficients, strict=True)
    each = [
        [c * q.cost for c, q in zip(column, found, strict=True) if c is not None]
        for column in columns
    ]
    return [functools.reduce(jnp.add, products) for products in each]


def _given(e: Evaluations) -> list[jax.Array]:
    """The coefficients that are not left out."""
    return [c for row in e.coefficients for c in row if c is not None]


def _everywhere(e: Evaluations) -> jax.Array:
    """True for every element of the draw."""
    return jnp.ones_like(_given(e)[0], bool)


def _picked(size: jax.Array, bits: jax.Array, axes: tuple[int, ...]) -> jax.Array:
    """One place over some axes, drawn in proportion to a size, for each place on the others.

    One number is drawn for it, of the bits of the draw's keys at all steps of loops together.
    """
    if not axes:
        return jnp.ones_like(size, bool)
    words = jnp.bitwise_xor.reduce(bits.reshape(-1, 2), axis=0)
    key = jax.random.fold_in(jax.random.wrap_key_data(words, impl="threefry2x32"), _PICK)
    ends = range(size.ndim - len(axes), size.ndim)
    moved = jnp.moveaxis(size, axes, ends)
    below = jnp.cumsum(moved.reshape(*moved.shape[: ends.start], -1), -1)
    at = jax.random.uniform(key, (*below.shape[:-1], 1), below.dtype) * below[..., -1:]
    best = jnp.argmax(below > at, -1, keepdims=True)
    here = lax.broadcasted_iota(best.dtype, below.shape, below.ndim - 1) == best
    return jnp.moveaxis(here.reshape(moved.shape), ends, axes)
