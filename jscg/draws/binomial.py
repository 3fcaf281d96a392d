"""Binomial: x in {0, ..., n}, C(n, x) p^x (1 - p)^(n - x); the draw is a float array."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import gammaln
from jax.typing import ArrayLike

from jscg.draws._family import Family, Static, compared_with_neighbour, register
from jscg.draws._numerics import at_least_float32, constant, softplus, times, xlog1my, xlogy


def log_prob(x: jax.Array, static: Static, *, n: ArrayLike, **parameter: ArrayLike) -> jax.Array:
    """Computes log C(n, x) + x log p + (n - x) log(1 - p).

    Args:
        x: the draw.
        static: the other arguments.
        n: the number of trials, rounded down as the sampler does; no derivative.
        **parameter: `p`, the probability of a success, or `logits`, log(p / (1 - p)).
    """
    logits = "logits" in parameter
    theta = at_least_float32(parameter["logits" if logits else "p"])
    x, n = constant(x, theta), jnp.floor(constant(n, theta))
    ways = gammaln(n + 1) - gammaln(x + 1) - gammaln(n - x + 1)
    if logits:
        return ways - times(x, softplus(-theta)) - times(n - x, softplus(theta))
    return ways + xlogy(x, theta) + xlog1my(n - x, theta)


def neighbour(
    u: jax.Array, x: jax.Array, static: Static, *, n: ArrayLike, **parameter: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """One of the n trials turned over: dE[c(x)] = n dp E[c(y + 1) - c(y)], y of n - 1 trials."""
    if "logits" in parameter:
        z = at_least_float32(parameter["logits"])
        p, q = lax.logistic(z), lax.logistic(-z)
    else:
        p = at_least_float32(parameter["p"])
        q = 1 - p
    n = jnp.floor(jnp.asarray(n, p.dtype))
    other = jnp.where(u * n < x, x - 1, x + 1).astype(x.dtype)
    return other, jnp.broadcast_to(n * p * q, x.shape)


def weak_derivative(
    u: tuple[jax.Array, ...], x: jax.Array, static: Static, **parameter: ArrayLike
) -> tuple[list, list, list]:
    """One success and one failure of the n-th trial, the others as they are."""
    return compared_with_neighbour(x, *neighbour(u[0], x, static, **parameter))


register(
    Family(
        name="binomial",
        operands=("n", "p"),
        discrete=True,
        rejects=True,
        log_prob=log_prob,
        scored=("p",),
        forms={("p", "logistic"): "logits"},
        neighbour=neighbour,
        weak_derivative=weak_derivative,
    )
)
