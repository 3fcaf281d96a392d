"""Parameter-free noise: distribution functions of what `jax.random` draws."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax


@dataclasses.dataclass(frozen=True)
class Noise:
    """One law of noise.

    Attributes:
      cdf: the distribution function.
      upper: one minus it, without cancellation.
    """

    cdf: Callable[[jax.Array], jax.Array]
    upper: Callable[[jax.Array], jax.Array]


def _symmetric(cdf) -> Noise:
    return Noise(cdf, lambda z: cdf(-z))


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
    "cauchy": _symmetric(_cauchy_cdf),
    "exponential": Noise(lambda z: -jnp.expm1(-_positive(z)), lambda z: jnp.exp(-_positive(z))),
    "gumbel": Noise(lambda z: jnp.exp(-_rate(z)), lambda z: -jnp.expm1(-_rate(z))),
    "laplace": _symmetric(_laplace_cdf),
    "logistic": _symmetric(lax.logistic),
    "normal": _symmetric(_normal_cdf),
    "uniform": Noise(_unit, lambda z: _unit(1 - z)),
}
