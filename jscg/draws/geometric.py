"""Geometric, the number of the first success: x in {1, 2, ...}, p (1 - p)^(x - 1)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from jscg.draws._family import Family, Static, register
from jscg.draws._numerics import at_least_float32, constant, softplus, times, xlog1my, xlogy


def log_prob(x: jax.Array, static: Static, **parameter: ArrayLike) -> jax.Array:
    """Computes log p + (x - 1) log(1 - p), or -softplus(-logits) - (x - 1) softplus(logits)."""
    if "logits" in parameter:
        z = at_least_float32(parameter["logits"])
        return -softplus(-z) - times(constant(x, z) - 1, softplus(z))
    p = at_least_float32(parameter["p"])
    return xlogy(1, p) + xlog1my(constant(x, p) - 1, p)


def neighbour(
    u: jax.Array, x: jax.Array, static: Static, **parameter: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """One more: dE[c(x)] = -dp E[x (c(x + 1) - c(x))] / p, as P(X > k) = (1 - p)^k."""
    if "logits" in parameter:
        ratio = jnp.exp(-at_least_float32(parameter["logits"]))
    else:
        p = at_least_float32(parameter["p"])
        ratio = (1 - p) / p
    return x + 1, x * ratio


def weak_derivative(
    u: tuple[jax.Array, ...], x: jax.Array, static: Static, **parameter: ArrayLike
) -> tuple[list, list, list]:
    """dE[c] = dp / p E[c(x) - c(x + y)], with another such draw y (a negative binomial law)."""
    if "logits" in parameter:
        z = at_least_float32(parameter["logits"])
        log_q, ratio = -softplus(z), jnp.exp(-z)
    else:
        p = at_least_float32(parameter["p"])
        log_q, ratio = jnp.log1p(-p), (1 - p) / p
    y = jnp.ceil(jnp.log1p(-u[0]) / log_q).astype(x.dtype)
    more = x + jnp.maximum(y, 1)
    weight = jnp.broadcast_to(ratio, x.shape)
    # d log p(x + 1) - d log p(x) is -dp / (1 - p).
    return [more, None], [x + 1, x], [[weight, -weight], [-weight, weight]]


register(
    Family(
        name="geometric",
        operands=("p",),
        discrete=True,
        log_prob=log_prob,
        scored=("p",),
        forms={("p", "logistic"): "logits"},
        neighbour=neighbour,
        weak_derivative=weak_derivative,
    )
)
