"""Binomial: x in {0, ..., n}, C(n, x) p^x (1 - p)^(n - x); the draw is a float array."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jax.typing import ArrayLike

from jscg.draws._family import Family, Static, register
from jscg.draws._numerics import at_least_float32, constant, softplus, times, xlog1my, xlogy


def log_prob(
    x: jax.Array,
    static: Static,
    *,
    n: ArrayLike,
    p: ArrayLike | None = None,
    logits: ArrayLike | None = None,
) -> jax.Array:
    """Computes log C(n, x) + x log p + (n - x) log(1 - p).

    Args:
        x: the draw.
        static: the other arguments.
        n: the number of trials, rounded down as the sampler does; no derivative.
        p: the probability of a success.
        logits: log(p / (1 - p)), in place of p, for the same formula of p = logistic(logits).
    """
    parameter = at_least_float32(p if logits is None else logits)
    x, n = constant(x, parameter), jnp.floor(constant(n, parameter))
    ways = gammaln(n + 1) - gammaln(x + 1) - gammaln(n - x + 1)
    if logits is not None:
        return ways - times(x, softplus(-parameter)) - times(n - x, softplus(parameter))
    return ways + xlogy(x, parameter) + xlog1my(n - x, parameter)


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
