"""Poisson: x in {0, 1, ...}, lam^x exp(-lam) / x!."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jax.typing import ArrayLike

from jscg.draws._family import Family, Static, register
from jscg.draws._numerics import at_least_float32, constant, times, xlogy


def log_prob(
    x: jax.Array,
    static: Static,
    *,
    lam: ArrayLike | None = None,
    log_lam: ArrayLike | None = None,
) -> jax.Array:
    """Computes x log lam - lam - log x!, with `log_lam` in place of `lam` if given."""
    if log_lam is not None:
        z = at_least_float32(log_lam)
        x = constant(x, z)
        return times(x, z) - jnp.exp(z) - gammaln(x + 1)
    lam = at_least_float32(lam)
    x = constant(x, lam)
    return xlogy(x, lam) - lam - gammaln(x + 1)


register(
    Family(
        name="poisson",
        operands=("lam",),
        discrete=True,
        log_prob=log_prob,
        scored=("lam",),
        forms={("lam", "exp"): "log_lam"},
    )
)
