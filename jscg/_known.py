"""Values that are known already, with the derivative of the function that gives them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.custom_derivatives import SymbolicZero

from ._sharding import zeros

# Given (moving, others), what the values are.
Function = Callable[[list, list], list]
# Given (moving, others, residuals, tangents of moving), the tangents of the values.
Linear = Callable[[list, list, list, list], list]


def known(
    values: list,
    fun: Function,
    moving: list,
    others: list,
    linear: Linear | None = None,
    residuals: list | None = None,
) -> list:
    """The values of a function, which is not run for them.

    Args:
      values: what `fun(moving, others)` is.
      fun: the function.  It is run where a derivative by `others` is taken, and without `linear`.
      moving: float arrays that it is differentiated by.
      others: what else it reads.
      linear: its derivative in `moving`, differentiable in these; by default that of `fun`.
      residuals: what `linear` reads besides.

    Returns:
      The values, differentiable in `moving` and `others` to any order.
    """

    @jax.custom_jvp
    def same(moving, others, values, residuals):
        return values

    def rule(primals, tangents):
        moving, others, values, residuals = primals
        by_moving, by_others = ([*map(_filled, t)] for t in tangents[:2])
        out = known(values, fun, moving, others, linear, residuals)
        if linear is not None and all(isinstance(t, SymbolicZero) for t in tangents[1]):
            return out, linear(moving, others, residuals, by_moving)
        floats = [i for i, x in enumerate(others) if jnp.issubdtype(x.dtype, jnp.inexact)]

        def at(moving, some):
            changed = list(others)
            for i, x in zip(floats, some, strict=True):
                changed[i] = x
            return fun(moving, changed)

        primals = (moving, [others[i] for i in floats])
        return out, jax.jvp(at, primals, (by_moving, [by_others[i] for i in floats]))[1]

    same.defjvp(rule, symbolic_zeros=True)
    # How they were made is not differentiated.
    return same(moving, others, *lax.stop_gradient((values, residuals or [])))


def _filled(tangent: Any) -> Any:
    if not isinstance(tangent, SymbolicZero):
        return tangent
    aval: Any = tangent.aval
    return zeros(aval) if jnp.issubdtype(aval.dtype, jnp.inexact) else tangent
