"""Categorical: class i with probability softmax(logits)_i along `axis`."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from jscg.draws._classes import (
    class_log_prob,
    class_neighbour,
    class_support,
    class_weak_derivative,
)
from jscg.draws._family import Axes, Family, Static, register, right_aligned


def _classes_last(static: Static, parameter: dict[str, ArrayLike]) -> dict[str, jax.Array]:
    """Moves the class axis last."""
    axis = static.get("axis", -1)
    return {name: jnp.moveaxis(jnp.asarray(v), axis, -1) for name, v in parameter.items()}


def log_prob(x: jax.Array, static: Static, **parameter: ArrayLike) -> jax.Array:
    """Computes log softmax(logits)_x, or log(p_x / sum p) if given `p` in place of `logits`."""
    return class_log_prob(x, **_classes_last(static, parameter))


def support(static: Static, **parameter: ArrayLike) -> tuple[np.ndarray, jax.Array]:
    """The classes 0 to K - 1 and their probabilities."""
    return class_support(static.get("shape"), **_classes_last(static, parameter))


def neighbour(
    u: jax.Array, x: jax.Array, static: Static, **parameter: ArrayLike
) -> tuple[jax.Array, jax.Array]:
    """Another class, drawn in proportion to its probability."""
    return class_neighbour(u, x, **_classes_last(static, parameter))


def weak_derivative(
    u: tuple[jax.Array, ...], x: jax.Array, static: Static, **parameter: ArrayLike
) -> tuple[list, list, list]:
    """Every class, compared with the sample."""
    return class_weak_derivative(x, **_classes_last(static, parameter))


def support_size(static: Static, **shapes: tuple[int, ...]) -> int | None:
    """K, the length of the class axis."""
    (shape,) = shapes.values()
    return shape[static.get("axis", -1)]


def operand_axes(name: str, operand_ndim: int, out_ndim: int, static: Static) -> Axes:
    """None for the class axis, the other axes right-aligned with the draw."""
    batch = list(right_aligned(name, operand_ndim - 1, out_ndim, static))
    batch.insert(static.get("axis", -1) % operand_ndim, None)
    return tuple(batch)


register(
    Family(
        name="categorical",
        operands=("logits",),
        discrete=True,
        log_prob=log_prob,
        scored=("logits",),
        forms={("logits", "log"): "p"},
        support=support,
        operand_axes=operand_axes,
        support_size=support_size,
        neighbour=neighbour,
        weak_derivative=weak_derivative,
    )
)
