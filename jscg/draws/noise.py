"""Parameter-free noise: distribution functions and log-densities of what `jax.random` draws."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from jscg.draws._numerics import softplus


@dataclasses.dataclass(frozen=True)
class Noise:
    """One law of noise.

    Attributes:
      cdf: the distribution function.
      upper: one minus it, without cancellation.
      log_density: up to a constant; None where the support ends, so that a score would miss what
        flows over its edge.
    """

    cdf: Callable[[jax.Array], jax.Array]
    upper: Callable[[jax.Array], jax.Array]
    log_density: Callable[[jax.Array], jax.Array] | None


def _symmetric(cdf, log_density) -> Noise:
    return Noise(cdf, lambda z: cdf(-z), log_density)


def _normal_cdf(z: jax.Array) -> jax.Array:
    return 0.5 * lax.erfc(-z / math.sqrt(2))


def _laplace_cdf(z: jax.Array) -> jax.Array:
    tail = 0.5 * jnp.exp(-jnp.abs(z))
    return lax.select(z < 0, tail, 1 - tail)


def _cauchy_cdf(z: jax.Array) -> jax.Array:
    return lax.atan2(jnp.ones_like(z), -z) / math.pi


def _rate(z: jax.Array) -> jax.Array:
    """Of a Gumbel law: exp(-z), without overflow, where it makes no difference."""
    return jnp.exp(-lax.max(z, jnp.full_like(z, -80)))


def _unit(z: jax.Array) -> jax.Array:
    return lax.clamp(jnp.zeros_like(z), z, jnp.ones_like(z))


def _positive(z: jax.Array) -> jax.Array:
    return lax.max(z, jnp.zeros_like(z))


NOISE: dict[str, Noise] = {
    "cauchy": _symmetric(_cauchy_cdf, lambda z: -jnp.log1p(z * z)),
    "exponential": Noise(
        lambda z: -jnp.expm1(-_positive(z)), lambda z: jnp.exp(-_positive(z)), None
    ),
    "gumbel": Noise(
        lambda z: jnp.exp(-_rate(z)),
        lambda z: -jnp.expm1(-_rate(z)),
        lambda z: -z - jnp.exp(-z),
    ),
    "laplace": _symmetric(_laplace_cdf, lambda z: -jnp.abs(z)),
    "logistic": _symmetric(lax.logistic, lambda z: -z - 2 * softplus(-z)),
    "normal": _symmetric(_normal_cdf, lambda z: -0.5 * z * z),
    "uniform": Noise(_unit, lambda z: _unit(1 - z), None),
}
