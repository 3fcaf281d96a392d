"""Multinomial: counts x of K classes, n! prod_j (p_j / sum p)^x_j / x_j!."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import gammaln
from jax.typing import ArrayLike

from jscg.draws._family import Family, Static, event_aligned, register
from jscg.draws._numerics import at_least_float32, constant, xlogy


def log_prob(x: jax.Array, static: Static, *, n: ArrayLike, p: ArrayLike) -> jax.Array:
    """Computes log n! + sum_j (x_j log p_j - log x_j!) - n log sum_j p_j, of shape x.shape[:-1].

    Args:
        x: the draw.
        static: the other arguments.
        n: the number of trials, rounded down as the sampler does; no derivative.
        p: the weights of the classes, on the last axis; the sampler divides by their sum.
    """
    p = at_least_float32(p)
    x, n = constant(x, p), jnp.floor(constant(n, p))
    terms = jnp.sum(xlogy(x, p) - gammaln(x + 1), axis=-1)
    return gammaln(n + 1) + terms - xlogy(n, jnp.sum(p, axis=-1))


register(
    Family(
        name="multinomial",
        operands=("n", "p"),
        discrete=True,
        rejects=True,
        log_prob=log_prob,
        scored=("p",),
        event_ndim=1,
        operand_axes=event_aligned(1, n=0, p=1),
    )
)
