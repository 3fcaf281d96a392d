"""Log-probs as arrays with named axes, and the weights that are made of them."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any, NamedTuple

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.interpreters import ad, batching, mlir

from ._relation import Relation


class LogProb(NamedTuple):
    """The log-prob of a draw, summed over some of its axes.

    Attributes:
      array: the numbers.
      axes: for each axis of `array`, which axis of the draw it is (loops come first).
    """

    array: jax.Array
    axes: tuple[int, ...]

    def keep(self, axes: Iterable[int]) -> LogProb:
        """Sums over all other axes."""
        wanted = set(axes)
        gone = tuple(i for i, a in enumerate(self.axes) if a not in wanted)
        if not gone:
            return self
        return LogProb(jnp.sum(self.array, gone), tuple(a for a in self.axes if a in wanted))

    def band(self, axis: int, reach: tuple[float, float], length: int) -> LogProb:
        """Gives an axis another length, index i of it summing indices i+lo .. i+hi."""
        return LogProb(band_sum(self.array, self.axes.index(axis), reach, length), self.axes)

    def order(self, axes: Iterable[int]) -> LogProb:
        """Puts its axes in this order."""
        axes = tuple(axes)
        if axes == self.axes:
            return self
        return LogProb(jnp.transpose(self.array, [self.axes.index(a) for a in axes]), axes)

    def lay_out(self, relation: Relation, shape: tuple[int, ...]) -> jax.Array:
        """Sums what influences each element of a cost, in a shape that broadcasts to `shape`."""
        places: dict[int, int] = {}
        for axis in self.axes:
            b = relation[axis]
            if b is not None and isinstance(b[0], int) and b[0] not in places:
                places[b[0]] = axis
        out = self.keep(places.values())
        for place, axis in places.items():
            b = relation[axis]
            assert b is not None
            out = out.band(axis, b[1:], shape[place])
        out = out.order(places[place] for place in sorted(places))
        whole = tuple(shape[i] if i in places else 1 for i in range(len(shape)))
        return out.array if out.array.shape == whole else out.array.reshape(whole)


def band_sum(array: jax.Array, axis: int, reach: tuple[float, float], length: int) -> jax.Array:
    """out[i] = sum of array[i+lo .. i+hi] along an axis, for i < length."""
    lo, hi = reach
    size = array.shape[axis]
    if (lo, hi) == (0, 0) and size == length:
        return array
    array = jnp.moveaxis(array, axis, 0)
    steps = np.arange(length)
    start = np.clip(steps + lo, 0, size).astype(int)
    stop = np.clip(steps + hi + 1, 0, size).astype(int)
    stop = np.maximum(start, stop)
    zero = jnp.zeros_like(array[:1])
    if lo == hi:  # a shift
        out = _rows(jnp.concatenate([array, zero]), np.where(start < stop, start, size))
    else:
        total = jnp.concatenate([zero, jnp.cumsum(array, 0)])
        out = _rows(total, stop)
        out = out - _rows(total, start) if start.any() else out
    return jnp.moveaxis(out, 0, axis)


def _rows(array: jax.Array, index: np.ndarray) -> jax.Array:
    """array[index]; of rows in a row a slice, whose derivative is no scatter."""
    first = int(index[0])
    if np.array_equal(index, np.arange(first, first + len(index))):
        return lax.slice_in_dim(array, first, first + len(index))
    return array[index]


def box(log_prob: jax.Array) -> jax.Array:
    """exp(log_prob - stop_gradient(log_prob)), the "MagicBox" of Foerster et al. (2018).

    Its value is one, whatever the log-prob is, so that only derivatives of log-probs are ever
    computed; its derivatives are those of the probability, divided by the probability.
    """
    return box_p.bind(log_prob)


# A primitive and no `jax.custom_jvp`: scan drops the rules of those where it splits its body for
# reverse mode, and with them the second derivative.
box_p = jex_core.Primitive("box")
box_p.def_impl(jnp.ones_like)
box_p.def_abstract_eval(lambda x: x)
mlir.register_lowering(box_p, mlir.lower_fun(jnp.ones_like, multiple_results=False))
batching.primitive_batchers[box_p] = lambda args, dims: (box_p.bind(*args), dims[0])


def _box_jvp(primals, tangents):
    value = box_p.bind(*primals)
    (t,) = tangents
    return value, t if isinstance(t, ad.Zero) else value * t


ad.primitive_jvps[box_p] = _box_jvp


def holding(log_prob: jax.Array, number: Any) -> jax.Array:
    """A number with the derivatives of a log-prob, whose own number no box looks at."""
    return lax.stop_gradient(number - log_prob) + log_prob


@functools.partial(jax.jit, static_argnums=1)
def weighted_leave_one_out(log_prob: jax.Array, axis: int) -> jax.Array:
    """As `leave_one_out`, the others weighted by their numbers, here squares of scores.

    box_j + sum_{k != j} w_kj (1 - box_k), with w_kj = s_j / sum_{i != k} s_i, which no draw of k
    has a part in; equal weights where all of these are zero.
    """
    each, s = box(log_prob), lax.stop_gradient(log_prob)
    rest = jnp.sum(s, axis, keepdims=True) - s
    known = rest > 1e-6 * jnp.maximum(jnp.max(s, axis, keepdims=True), 1e-30)
    missing = (1.0 - each) / jnp.where(known, rest, each.shape[axis] - 1)
    by_square, equal = (jnp.where(k, missing, 0) for k in (known, ~known))

    def of_others(x):
        return jnp.sum(x, axis, keepdims=True) - x

    return each + s * of_others(by_square) + of_others(equal)


@functools.partial(jax.jit, static_argnums=1)
def leave_one_out(log_prob: jax.Array, axis: int) -> jax.Array:
    """1 + box - (mean of the others' boxes along `axis`), which is (n box - sum) / (n - 1) + 1."""
    each = box(log_prob)
    n = each.shape[axis]
    return (n * each - jnp.sum(each, axis, keepdims=True)) / (n - 1) + 1.0
