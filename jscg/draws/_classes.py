"""One class out of K, the classes on the last axis of the parameter."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jscg.draws._family import each
from jscg.draws._numerics import at_least_float32, xlogy

# Up to here a sum over all of them is faster than a gather, whose derivative is a scatter.
_FEW = 4


def _shifted_exp(logits: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Returns z = logits - max, exp(z), and the sum of exp(z), above 0 if all are -inf.

    Both limits by a maximum: XLA evaluates exp again and again around a selection.
    """
    limits = jnp.finfo(logits.dtype)
    top = jnp.max(logits, axis=-1, keepdims=True, initial=limits.min)
    z = logits - lax.stop_gradient(top)
    total = jnp.sum(jnp.exp(z), axis=-1, keepdims=True)
    return z, jnp.exp(z), jnp.maximum(total, limits.tiny)


@jax.custom_jvp
def _softmax(logits: jax.Array) -> jax.Array:
    _, weights, total = _shifted_exp(logits)
    return weights / total


@_softmax.defjvp
def _softmax_jvp(primals, tangents):
    # Less work than to differentiate the quotient, and no division.
    (logits,), (moved,) = primals, tangents
    probs = _softmax(logits)
    return probs, probs * (moved - jnp.sum(probs * moved, -1, keepdims=True))


def _pick(table: jax.Array, x: jax.Array) -> jax.Array:
    """table[..., x], the leading axes of the table broadcast to those of x, right-aligned."""
    classes = table.shape[-1]
    if classes <= _FEW:
        here = jnp.arange(classes) == jnp.clip(x, 0, classes - 1)[..., None]
        return jnp.sum(jnp.where(here, table, 0), -1)
    index = [
        jnp.arange(size).reshape((size,) + (1,) * (table.ndim - 2 - axis))
        for axis, size in enumerate(table.shape[:-1])
    ]
    return table[(*index, x)]


def class_log_prob(x: jax.Array, **parameter: jax.Array) -> jax.Array:
    """Computes log softmax(logits)_x, or log(p_x / sum p), where p_x is picked before the log."""
    if "logits" in parameter:
        z, _, total = _shifted_exp(at_least_float32(parameter["logits"]))
        return _pick(z - jnp.log(total), x)
    p = at_least_float32(parameter["p"])
    return xlogy(1, _pick(p, x)) - xlogy(1, jnp.sum(p, axis=-1))


def class_neighbour(
    u: jax.Array, x: jax.Array, **parameter: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Another class j, drawn from the others in proportion to p, with its weight.

    Of the pair {x, j} the derivative of E[c] takes p_x p_j (d log p_j - d log p_x) (c(j) - c(x)),
    and the chance of it is p_x p_j / (1 - p_x) + p_j p_x / (1 - p_j).
    """
    if "logits" in parameter:
        probs = _softmax(at_least_float32(parameter["logits"]))
    else:
        probs = at_least_float32(parameter["p"])
        probs = probs / jnp.sum(probs, axis=-1, keepdims=True)
    classes = probs.shape[-1]
    probs = jnp.broadcast_to(probs, (*x.shape, classes))
    others = jnp.where(jnp.arange(classes) == x[..., None], 0, probs)
    below = jnp.cumsum(others, -1)
    rest = below[..., -1]
    j = jnp.sum(below <= (u * rest)[..., None], -1)
    # Rounding may leave the last class that can be drawn.
    j = jnp.where(_chosen(others, j) > 0, j, jnp.argmax(others, -1)).astype(x.dtype)
    rest_of_j = 1 - _chosen(probs, j)
    both = rest + rest_of_j
    return j, jnp.where(both > 0, rest * rest_of_j / jnp.where(both > 0, both, 1), 0)


def class_weak_derivative(x: jax.Array, **parameter: jax.Array) -> tuple[list, list, list]:
    """dE[c] = sum over k of p_k d log p_k (c(k) - c(x)), the sample x being the negative part."""
    classes, table = class_support(x.shape, **parameter)
    probs = each(table)
    values = [jnp.full_like(x, k) for k in classes]
    rows = [[p if i == k else None for i in range(len(probs))] for k, p in enumerate(probs)]
    return [*values, None], values, [*rows, [-p for p in probs]]


def _chosen(probs: jax.Array, x: jax.Array) -> jax.Array:
    last = jnp.clip(x, 0, probs.shape[-1] - 1)[..., None]
    return jnp.take_along_axis(probs, last, -1)[..., 0]


def class_support(
    shape: tuple[int, ...] | None, **parameter: jax.Array
) -> tuple[np.ndarray, jax.Array]:
    """The classes 0 to K - 1, and the probability of each, of that shape, on a last axis."""
    if "logits" in parameter:
        probs = _softmax(at_least_float32(parameter["logits"]))
    else:
        probs = at_least_float32(parameter["p"])
        probs = probs / jnp.sum(probs, axis=-1, keepdims=True)
    batch = probs.shape[:-1] if shape is None else tuple(shape)
    classes = probs.shape[-1]
    probs = jnp.broadcast_to(probs, (*batch, classes))
    return np.arange(classes, dtype=jnp.result_type(int)), probs
