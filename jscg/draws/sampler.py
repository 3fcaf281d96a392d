"""Draws of the user's own samplers: the value, and its log-prob, are handed in."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jscg.draws._family import Axes, Family, Static, handed_in, passed_on, register


def log_prob(
    x: jax.Array,
    static: Static,
    *,
    log_prob: jax.Array,
    log_probs: jax.Array | None = None,
    **_: jax.Array,
) -> jax.Array:
    """As the user's function has computed it, for the outcome that x is."""
    if log_probs is None:
        return log_prob
    for k, outcome in enumerate(np.asarray(static["support"], static["dtype"])):
        same = x == outcome
        same = jnp.all(same, axis=tuple(range(log_prob.ndim, same.ndim)))
        log_prob = jnp.where(same, log_probs[..., k], log_prob)
    return log_prob


def elsewhere(static: Static) -> bool:
    """Where the outcomes are listed."""
    return "support" in static


def support(
    static: Static, *, log_probs: jax.Array, **_: jax.Array
) -> tuple[np.ndarray, jax.Array]:
    """The outcomes that the user has listed."""
    return np.asarray(static["support"], static["dtype"]), jnp.exp(log_probs)


def support_size(static: Static, **shapes: tuple[int, ...]) -> int | None:
    """How many are listed."""
    return len(static["support"]) if "support" in static else None


def continuous(static: Static, dtype: Any) -> bool:
    """Whether they are floats, and nothing is known that would make them discrete."""
    known = "support" in static or static.get("counts", False)
    return bool(jnp.issubdtype(dtype, jnp.floating)) and not known


def operand_axes(name: str, operand_ndim: int, out_ndim: int, static: Static) -> Axes:
    """Axes of a log-prob are the first ones of the draw; outcomes come last; a key has none."""
    if name == "source":
        return (None,) * operand_ndim
    if name == "log_probs":
        return (*range(operand_ndim - 1), None)
    return tuple(range(operand_ndim))


register(
    Family(
        name="sampler",
        operands=("source", "log_prob", "log_probs"),
        discrete=True,
        log_prob=log_prob,
        scored=("log_prob", "log_probs"),
        support=support,
        support_size=support_size,
        operand_axes=operand_axes,
        replay=handed_in,
        continuous=continuous,
        elsewhere=elsewhere,
    )
)
register(
    Family(
        name="reparameterized",
        operands=("source", "log_prob"),
        discrete=False,
        operand_axes=operand_axes,
        replay=passed_on,
    )
)
