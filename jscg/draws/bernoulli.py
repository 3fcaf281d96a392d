"""Bernoulli: x in {False, True}, p^x (1 - p)^(1 - x)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.typing import ArrayLike

from jscg.draws._family import Family, Static, register
from jscg.draws._numerics import (
    at_least_float32,
    constant,
    logistic_pair,
    softplus,
    xlog1my,
    xlogy,
)


def log_prob(
    x: jax.Array, static: Static, *, p: ArrayLike = 0.5, logits: ArrayLike | None = None
) -> jax.Array:
    """Computes x log p + (1 - x) log(1 - p), or -softplus((1 - 2 x) logits)."""
    if logits is not None:
        z = jnp.broadcast_to(at_least_float32(logits), jnp.shape(x))
        return _log_prob_at_logits(jnp.asarray(x, bool), z)
    p = at_least_float32(p)
    x = constant(x, p)
    return xlogy(x, p) + xlog1my(1 - x, p)


@jax.custom_jvp
def _log_prob_at_logits(x: jax.Array, z: jax.Array) -> jax.Array:
    return -softplus(lax.select(x, -z, z))


@_log_prob_at_logits.defjvp
def _log_prob_at_logits_jvp(primals, tangents):
    (x, z), (_, dz) = primals, tangents
    no, yes = logistic_pair(z)  # which the support computes as well
    score = lax.select(x, no, -yes)
    return _log_prob_at_logits(x, z), score * dz


def support(
    static: Static, *, p: ArrayLike = 0.5, logits: ArrayLike | None = None
) -> tuple[np.ndarray, list[jax.Array]]:
    """False and True, and 1 - p and p, or logistic(-logits) and logistic(logits)."""
    if logits is not None:
        pair = logistic_pair(at_least_float32(logits))
    else:
        p = at_least_float32(p)
        pair = (1 - p, p)
    shape = static.get("shape")
    batch = pair[1].shape if shape is None else tuple(shape)
    return np.array([False, True]), [jnp.broadcast_to(q, batch) for q in pair]


def support_size(static: Static, **shapes: tuple[int, ...]) -> int:
    """2."""
    return 2


def neighbour(
    u: jax.Array,
    x: jax.Array,
    static: Static,
    *,
    p: ArrayLike = 0.5,
    logits: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """The other outcome; dE[c] = dp (c(1) - c(0)), and dp is p (1 - p) times that of the logits."""
    _, (no, yes) = support(static, p=p, logits=logits)
    return ~x, jnp.broadcast_to(no * yes, x.shape)


def weak_derivative(
    u: tuple[jax.Array, ...], x: jax.Array, static: Static, **parameter: ArrayLike
) -> tuple[list, list, list]:
    """dE[c] = dp (c(1) - c(0))."""
    _, weight = neighbour(u[0], x, static, **parameter)
    no, yes = jnp.zeros_like(x), jnp.ones_like(x)
    return [yes, no], [yes, no], [[weight, -weight], [-weight, weight]]


register(
    Family(
        name="bernoulli",
        operands=("p",),
        discrete=True,
        log_prob=log_prob,
        scored=("p",),
        forms={("p", "logistic"): "logits"},
        support=support,
        support_size=support_size,
        neighbour=neighbour,
        weak_derivative=weak_derivative,
    )
)
