"""Log-densities of continuous samplers, for draws that are scored rather than differentiated."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy import stats
from jax.scipy.special import gammaln
from jax.typing import ArrayLike

from jscg.draws._numerics import softplus


@dataclasses.dataclass(frozen=True)
class Density:
    """The density of one sampler.

    Attributes:
      log: `log(z, **operands)`, elementwise, up to a constant; operands are broadcast to z.
      ends: of the support; no operand moves them.
    """

    log: Callable[..., jax.Array]
    ends: tuple[float, float] = (-math.inf, math.inf)

    def inside(self, z: jax.Array) -> jax.Array:
        """The value, moved off an end of the support to which it has been rounded."""
        low, high = self.ends
        if math.isfinite(low):
            z = lax.max(z, jnp.full_like(z, low + jnp.finfo(z.dtype).tiny))
        if math.isfinite(high):
            z = lax.min(z, jnp.full_like(z, high - jnp.finfo(z.dtype).epsneg))
        return z


def _lognormal(z: jax.Array, sigma: ArrayLike = 1.0) -> jax.Array:
    y = jnp.log(z)
    return -0.5 * (y / sigma) ** 2 - jnp.log(sigma) - y


def _weibull(z: jax.Array, scale: jax.Array, concentration: jax.Array) -> jax.Array:
    y = jnp.log(z) - jnp.log(scale)
    c = concentration
    return jnp.log(c) - jnp.log(scale) + (c - 1) * y - jnp.exp(c * y)


_HALF = (0.0, math.inf)
DENSITIES: dict[str, Density] = {
    "beta": Density(lambda z, a, b: stats.beta.logpdf(z, a, b), (0.0, 1.0)),
    "cauchy": Density(lambda z: -jnp.log1p(z * z)),
    "chisquare": Density(lambda z, df: stats.chi2.logpdf(z, df), _HALF),
    "exponential": Density(lambda z: -z, _HALF),
    "gamma": Density(lambda z, a: stats.gamma.logpdf(z, a), _HALF),
    "gumbel": Density(lambda z: -z - jnp.exp(-z)),
    "laplace": Density(lambda z: -jnp.abs(z)),
    "loggamma": Density(lambda z, a: a * z - jnp.exp(z) - gammaln(a)),
    "logistic": Density(lambda z: -z - 2 * softplus(-z)),
    "lognormal": Density(_lognormal, _HALF),
    "maxwell": Density(lambda z: 2 * jnp.log(z) - 0.5 * z * z, _HALF),
    "normal": Density(lambda z: -0.5 * z * z),
    "pareto": Density(lambda z, b: jnp.log(b) - (b + 1) * jnp.log(z), (1.0, math.inf)),
    "rayleigh": Density(
        lambda z, scale: jnp.log(z) - 2 * jnp.log(scale) - 0.5 * (z / scale) ** 2, _HALF
    ),
    "t": Density(lambda z, df: stats.t.logpdf(z, df)),
    "uniform": Density(lambda z: jnp.zeros_like(z), (0.0, 1.0)),
    "weibull_min": Density(_weibull, _HALF),
}
