"""Choice: index i out of n with probability p_i / sum p; `static["a"]` is n."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jscg.draws._classes import class_log_prob, class_support
from jscg.draws._family import Family, Static, register, unaligned


def _parameter(
    static: Static, p: ArrayLike | None, logits: ArrayLike | None
) -> dict[str, jax.Array]:
    """The one parameter that is given, else equal weights."""
    if logits is not None:
        return {"logits": jnp.asarray(logits)}
    return {"p": jnp.ones(static["a"]) if p is None else jnp.asarray(p)}


def log_prob(
    x: jax.Array, static: Static, *, p: ArrayLike | None = None, logits: ArrayLike | None = None
) -> jax.Array:
    """Computes log(p_x / sum p), or log softmax(logits)_x, or -log n without a parameter.

    Args:
        x: the indices drawn.
        static: the other arguments; `a` is n.
        p: the weights, of shape (n,).
        logits: their logarithms up to a constant, in place of p.
    """
    return class_log_prob(x, **_parameter(static, p, logits))


def support(
    static: Static, *, p: ArrayLike | None = None, logits: ArrayLike | None = None
) -> tuple[np.ndarray, jax.Array]:
    """The indices 0 to n - 1 and their probabilities."""
    return class_support(static.get("shape", ()), **_parameter(static, p, logits))


def support_size(static: Static, **shapes: tuple[int, ...]) -> int | None:
    """As many as there are to choose from."""
    return static["a"]


register(
    Family(
        name="choice",
        operands=("p",),
        discrete=True,
        log_prob=log_prob,
        scored=("p",),
        forms={("p", "softmax"): "logits"},
        support=support,
        operand_axes=unaligned,
        support_size=support_size,
    )
)
