"""Logarithms whose values and derivatives of any order are right at kinks, edges and tails."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.typing import ArrayLike


def at_least_float32(parameter: ArrayLike) -> jax.Array:
    """The parameter as float64 if it is float64, else as float32."""
    array = jnp.asarray(parameter)
    return array if array.dtype == jnp.float64 else array.astype(jnp.float32)


def constant(value: ArrayLike, like: jax.Array) -> jax.Array:
    """The value without derivative, in the dtype of `like`."""
    return lax.stop_gradient(jnp.asarray(value)).astype(like.dtype)


@jax.custom_jvp
def softplus(z: jax.Array) -> jax.Array:
    """log(1 + exp(z)), with derivative logistic(z) everywhere, z = 0 and infinities included."""
    # No kink at 0: JAX 0.10 differentiates this, and not the rule, where it splits a scan's body.
    above = z >= 0
    large = z + jnp.log1p(jnp.exp(-jnp.where(above, z, 0)))
    return jnp.where(above, large, jnp.log1p(jnp.exp(jnp.where(above, 0, z))))


@softplus.defjvp
def _softplus_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    return softplus(z), lax.logistic(z) * dz


def _logistic_parts(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Whether z is not negative, and the smaller and the larger of logistic(-z) and logistic(z)."""
    above = z >= 0  # no kink at 0, as in softplus
    small = jnp.exp(jnp.where(above, -z, z))
    large = 1 / (1 + small)
    return above, small * large, large


@jax.custom_jvp
def logistic_pair(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """logistic(-z) and logistic(z), each to full relative precision, at the cost of one."""
    above, small, large = _logistic_parts(z)
    return jnp.where(above, small, large), jnp.where(above, large, small)


@logistic_pair.defjvp
def _logistic_pair_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    slope = _logistic_slope(z) * dz
    return logistic_pair(z), (-slope, slope)


@jax.custom_jvp
def _logistic_slope(z: jax.Array) -> jax.Array:
    """The derivative of logistic(z), for which it does not matter which of the two is which."""
    _, small, large = _logistic_parts(z)
    return small * large


@_logistic_slope.defjvp
def _logistic_slope_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    no, yes = logistic_pair(z)
    return _logistic_slope(z), _logistic_slope(z) * (no - yes) * dz


def times(x: jax.Array, y: jax.Array) -> jax.Array:
    """Product x * y for a count x, equal to 0 at x = 0 even where y is infinite."""
    return x * jnp.where(x == 0, 0, y)


def _times_log(x: ArrayLike, y: jax.Array, log: Callable, edge: float) -> jax.Array:
    """Product x * log(y), 0 at x = 0, else -inf with zero derivative where y <= edge."""
    inside = (x != 0) & ~(y <= edge)
    value = x * log(jnp.where(inside, y, 1))
    return jnp.where(inside, value, jnp.where(x == 0, 0, -jnp.inf))


def xlogy(x: ArrayLike, y: jax.Array) -> jax.Array:
    """Product x log(y) for x >= 0; it is 0 with zero derivative at x = 0, whatever y."""
    return _times_log(x, y, jnp.log, 0)


def xlog1my(x: ArrayLike, y: jax.Array) -> jax.Array:
    """Product x log(1 - y) for x >= 0; it is 0 with zero derivative at x = 0, whatever y."""
    return _times_log(x, -y, jnp.log1p, -1)
