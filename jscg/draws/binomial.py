"""Binomial: x in {0, ..., n}, C(n, x) p^x (1 - p)^(n - x); the draw is a float array."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jax.typing import ArrayLike

from jscg.draws._family import Family, Static, register
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


register(
    Family(
        name="binomial",
        operands=("n", "p"),
        discrete=True,
        log_prob=log_prob,
        scored=("p",),
        forms={("p", "logistic"): "logits"},
    )
)
