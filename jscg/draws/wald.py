"""Wald, the inverse Gaussian of shape 1, with the derivative that `jax.random.wald` gets wrong.

The sampler draws one of two roots, with a probability that depends on the mean; its own
derivative takes the choice as fixed. Here the draw x moves with the mean so that F(x; mean), its
distribution function, stays as it is.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.scipy.special import log_ndtr
from jax.typing import ArrayLike

from jscg.draws._family import Family, Static, register
from jscg.draws._numerics import at_least_float32

_FAR = 15.0  # from here on ten terms of the asymptotic series are exact in float64


def _mills(t: jax.Array) -> jax.Array:
    """ndtr(-t) / phi(t) for t > 0, without the cancellation of the two logarithms at large t."""
    far = t > _FAR
    near_t = jnp.where(far, 1, t)
    near = jnp.exp(log_ndtr(-near_t) + near_t**2 / 2 + math.log(2 * math.pi) / 2)
    far_t = jnp.where(far, t, _FAR)
    series = jnp.ones_like(t)
    for k in range(19, 0, -2):
        series = 1 - k / far_t**2 * series
    return jnp.where(far, series / far_t, near)


def _slope(x: jax.Array, mean: jax.Array) -> jax.Array:
    """dx/dmean = -(dF/dmean) / (dF/dx) = 2 x^(3/2) / mean^2 * ndtr(-t) / phi(t).

    Here t = (x / mean + 1) / sqrt(x), from F = ndtr((x / mean - 1) / sqrt(x)) + exp(2 / mean)
    ndtr(-t). A draw that rounding made zero or negative does not move.
    """
    positive = x > 0
    x, mean = jnp.where(positive, x, 1), jnp.where(positive, mean, 1)
    root = jnp.sqrt(x)
    return jnp.where(positive, 2 * x * root / mean**2 * _mills(root / mean + 1 / root), 0)


@jax.custom_jvp
def _moved(drawn: jax.Array, mean: jax.Array) -> jax.Array:
    """The draw, as a function of the mean: higher derivatives differentiate through both."""
    return drawn


@_moved.defjvp
def _moved_jvp(primals, tangents):
    (drawn, mean), (_, dmean) = primals, tangents
    x = _moved(drawn, mean)
    slope = _slope(at_least_float32(x), at_least_float32(mean))
    return x, slope.astype(x.dtype) * dmean


def replay(key: jax.Array, static: Static, *, mean: ArrayLike) -> jax.Array:
    """The value of `jax.random.wald(key, mean, **static)` with dx/dmean at fixed F(x; mean)."""
    drawn = jax.random.wald(key, lax.stop_gradient(mean), **static)
    return _moved(drawn, jnp.broadcast_to(mean, drawn.shape).astype(drawn.dtype))


register(Family(name="wald", operands=("mean",), discrete=False, replay=replay))
