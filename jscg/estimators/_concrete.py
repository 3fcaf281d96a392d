"""Relaxed samples of draws of few outcomes: Gumbel-softmax, given the sample or not."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ._base import Sampled
from ._checks import why_not_rerun

_IMPOSSIBLE = -1e9  # finite: its derivative is a zero, and not 0 * inf
_SMALLEST = 1e-30


def concrete(draw: Sampled, tag: int, temperature: float) -> tuple[jax.Array, jax.Array]:
    """Weights of the outcomes that belong to a sample, in two forms of the same value.

    .. math:: softmax(z / temperature),    z_k = log p_k + g_k,    sample = argmax_k z_k

    with Gumbel noise g (Maddison et al. 2017; Jang et al. 2017), drawn given the sample (Tucker et
    al. 2017, appendix).

    Returns:
      The weights whose derivative holds the noise g fixed, and those whose derivative holds fixed
      the noise that they were drawn with, given the sample.
    """
    _, probs = draw.support()
    return relaxed_samples(
        jnp.stack(probs, -1), draw.is_outcome(), draw.uniform(tag, len(probs)), temperature
    )


def relaxed_samples(
    p: jax.Array, hot: jax.Array, uniform: jax.Array, temperature: float
) -> tuple[jax.Array, jax.Array]:
    """What `concrete` returns, from probabilities, the sample, and numbers, on a last axis."""
    possible = lax.stop_gradient(p) > _SMALLEST
    p = jnp.where(possible, p, 1)
    exponential = jnp.maximum(-jnp.log1p(-uniform), _SMALLEST)
    top = jnp.sum(hot * exponential, -1, keepdims=True)
    # The largest of the z is a standard Gumbel number; the others are cut off at it.
    given = -jnp.log(jnp.where(hot > 0, top, exponential / p + top))
    logits = jnp.log(p)
    free = logits + lax.stop_gradient(given - logits)

    def weights(z: jax.Array) -> jax.Array:
        return jax.nn.softmax(jnp.where(possible, z, _IMPOSSIBLE) / temperature, -1)

    return weights(free), weights(given)


def why_not_relaxed(node: Any) -> str | None:
    """Why a draw has no relaxed values, or None."""
    if node.outcomes is None:
        return f"{node.family} has no small finite support"
    return why_not_rerun(node)
