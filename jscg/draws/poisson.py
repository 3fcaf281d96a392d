"""Poisson: x in {0, 1, ...}, lam^x exp(-lam) / x!."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jax.typing import ArrayLike

from jscg.draws._family import Family, Static, compared_with_neighbour, register
from jscg.draws._numerics import at_least_float32, constant, times, xlogy


def log_prob(x: jax.Array, static: Static, **parameter: ArrayLike) -> jax.Array:
    """Computes x log lam - lam - log x! from `lam` or from `log_lam`."""
    if "log_lam" in parameter:
        z = at_least_float32(parameter["log_lam"])
        x = constant(x, z)
        return times(x, z) - jnp.exp(z) - gammaln(x + 1)
    lam = at_least_float32(parameter["lam"])
    x = constant(x, lam)
    return xlogy(x, lam) - lam - gammaln(x + 1)


def neighbour(
    u: jax.Array, x: jax.Array, static: Static, **parameter: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """One more: dE[c(x)] = dlam E[c(x + 1) - c(x)], and log p(x + 1) - log p(x) has log lam."""
    if "log_lam" in parameter:
        lam = jnp.exp(at_least_float32(parameter["log_lam"]))
    else:
        lam = at_least_float32(parameter["lam"])
    return x + 1, jnp.broadcast_to(lam, x.shape)


def weak_derivative(
    u: tuple[jax.Array, ...], x: jax.Array, static: Static, **parameter: ArrayLike
) -> tuple[list, list, list]:
    """One more than the sample."""
    return compared_with_neighbour(x, *neighbour(u[0], x, static, **parameter))


register(
    Family(
        name="poisson",
        operands=("lam",),
        discrete=True,
        rejects=True,
        log_prob=log_prob,
        scored=("lam",),
        forms={("lam", "exp"): "log_lam"},
        neighbour=neighbour,
        weak_derivative=weak_derivative,
    )
)
