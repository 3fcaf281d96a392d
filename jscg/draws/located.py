"""`loc + scale * noise`, of standard noise, as `laws.location` puts it in."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from jscg.draws._family import Axes, Family, Static, handed_in, register, right_aligned
from jscg.draws._numerics import constant
from jscg.draws.densities import DENSITIES


def log_prob(
    x: jax.Array, static: Static, *, loc: jax.Array, scale: jax.Array, **others: jax.Array
) -> jax.Array:
    """The log-density of the noise at (x - loc) / scale, less log |scale|."""
    others.pop("source", None)
    known = DENSITIES[static["noise"]]
    z = known.inside((constant(x, loc) - loc) / scale)
    return known.log(z, **others) - jnp.log(jnp.abs(scale))


def _of_normal(u, x, loc, scale):
    """In loc (E[c(loc + scale r)] - E[c(loc - scale r)]) / (scale sqrt(2 pi)), r Rayleigh.

    In scale (E[c(loc + scale m)] - E[c(x)]) / scale, m of a two-sided Maxwell law, which the
    sample and r make.  The outcomes single one parameter out: d log p is 2 r dloc / scale between
    the first two, and dscale / scale between the next two and the last.
    """
    z = (x - loc) / scale
    r = jnp.sqrt(-2 * jnp.log1p(-u[0]))
    r = jnp.maximum(r, 1e-6)
    m = jnp.where(z < 0, -1, 1) * jnp.sqrt(z**2 - 2 * jnp.log1p(-u[1]))
    above, below, wide = loc + scale * r, loc - scale * r, loc + scale * m
    outcomes = [above, below, loc + scale, loc - scale, loc]
    c, zero, one = 1 / (2 * r * math.sqrt(2 * math.pi)), jnp.zeros_like(r), jnp.ones_like(r)
    rows = [
        [c, -c, zero, zero, zero],
        [-c, c, zero, zero, zero],
        [zero, zero, one / 2, one / 2, -one],
        [zero, zero, -one / 2, -one / 2, one],
    ]
    return [above, below, wide, None], outcomes, rows


def _of_gamma(u, x, loc, scale, a=1.0):
    """In scale (E[c(x')] - E[c(x)]) a / scale, where x' has one more unit of shape."""
    more = x - scale * jnp.log1p(-u[0])
    weight = jnp.broadcast_to(a, x.shape)
    return [more, None], [loc + 2 * scale, loc + scale], [[weight, -weight], [-weight, weight]]


_DERIVATIVES: dict[str, Callable[..., Any]] = {
    "exponential": _of_gamma,
    "gamma": _of_gamma,
    "normal": _of_normal,
}
LOCATED = frozenset(_DERIVATIVES)


def weak_derivative(
    u: tuple[jax.Array, ...], x: jax.Array, static: Static, **operands: jax.Array
) -> tuple[list, list, list]:
    """That of the noise."""
    operands.pop("source", None)
    operands = {name: jnp.broadcast_to(v, x.shape) for name, v in operands.items()}
    return _DERIVATIVES[static["noise"]](u, x, **operands)


def operand_axes(name: str, operand_ndim: int, out_ndim: int, static: Static) -> Axes:
    """All of the draw's shape, but for the key."""
    if name == "source":
        return (None,) * operand_ndim
    return right_aligned(name, operand_ndim, out_ndim, static)


register(
    Family(
        name="located",
        operands=("source", "loc", "scale", "a"),
        discrete=True,
        log_prob=log_prob,
        scored=("loc", "scale"),
        operand_axes=operand_axes,
        replay=handed_in,
        continuous=lambda static, dtype: True,
        weak_derivative=weak_derivative,
    )
)
