"""Plackett-Luce: k different classes out of K, in the order in which they were drawn."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.scipy.special import logsumexp
from jax.typing import ArrayLike

from jscg.draws._family import Static
from jscg.draws._numerics import at_least_float32, xlogy


def log_prob(x: jax.Array, static: Static, **parameter: ArrayLike) -> jax.Array:
    """Computes sum_i log(p_{x_i} / (1 - p_{x_1} - ... - p_{x_{i-1}})).

    Args:
      x: the classes, of shape (..., k).
      static: unused.
      **parameter: `logits` of shape (..., K), or `p` in their place, up to a factor.

    Returns:
      An array of shape (...).
    """
    ((name, given),) = parameter.items()
    values = at_least_float32(given)[..., None, :]
    picked = jax.nn.one_hot(x, values.shape[-1], dtype=bool)
    left = jnp.cumsum(picked, -2) - picked == 0
    if name == "logits":
        of_it = jnp.sum(jnp.where(picked, values, 0), -1)
        return jnp.sum(of_it - logsumexp(values, -1, where=left), -1)
    of_it, rest = (jnp.sum(jnp.where(which, values, 0), -1) for which in (picked, left))
    return jnp.sum(xlogy(1, of_it) - xlogy(1, rest), -1)
