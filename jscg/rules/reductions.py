"""Primitives that reduce or accumulate along axes."""

from __future__ import annotations

import math

from ._registry import keep, rule, shape_of


def _dropped(ndim: int, gone) -> tuple:
    kept = [i for i in range(ndim) if i not in gone]
    place = {axis: k for k, axis in enumerate(kept)}
    return tuple((place[i], 0, 0) if i in place else None for i in range(ndim))


@rule(
    "reduce_sum",
    "reduce_max",
    "reduce_min",
    "reduce_prod",
    "reduce_and",
    "reduce_or",
    "reduce_xor",
    "argmax",
    "argmin",
)
def reduce(eqn):
    """Reduced axes are mixed, the others close up."""
    return [[_dropped(len(shape_of(eqn.invars[0])), eqn.params["axes"])]]


@rule("reduce", cheap=False)
def reduce_by(eqn):
    """Arrays that a function of the user reduces together, and where each starts."""
    ndim = len(shape_of(eqn.invars[0]))
    axes = _dropped(ndim, eqn.params["dimensions"])
    return [[axes if len(shape_of(v)) else () for v in eqn.invars]] * len(eqn.outvars)


@rule("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def cumulative(eqn):
    """Output i reads the operand up to i (from i on, when reversed)."""
    axis, reverse = eqn.params["axis"], eqn.params["reverse"]
    reach = (axis, 0, math.inf) if reverse else (axis, -math.inf, 0)
    axes = list(keep(len(shape_of(eqn.invars[0]))))
    axes[axis] = reach
    return [[tuple(axes)]]


@rule("sort", cheap=False)
def sort(eqn):
    """The sorted axis is mixed, in all operands together."""
    ndim, axis = len(shape_of(eqn.invars[0])), eqn.params["dimension"]
    axes = tuple(None if i == axis else (i, 0, 0) for i in range(ndim))
    return [[axes] * len(eqn.invars)] * len(eqn.outvars)


@rule("top_k", "approx_top_k", cheap=False)
def top_k(eqn):
    """The searched axis is mixed."""
    ndim = len(shape_of(eqn.invars[0]))
    axis = eqn.params.get("axis", eqn.params.get("reduction_dimension", -1)) % ndim
    axes = tuple(None if i == axis else (i, 0, 0) for i in range(ndim))
    return [[axes]] * len(eqn.outvars)


@rule(
    "reduce_window",
    "reduce_window_max",
    "reduce_window_min",
    "reduce_window_sum",
    "select_and_gather_add",
    "select_and_scatter_add",
    cheap=False,
)
def windows(eqn):
    """Axes with windows of one element stay, the others are mixed."""
    given = eqn.params
    same = [
        size == stride == 1 and tuple(padding) == (0, 0)
        for size, stride, padding in zip(
            given["window_dimensions"], given["window_strides"], given["padding"], strict=True
        )
    ]
    axes = tuple((i, 0, 0) if one else None for i, one in enumerate(same))
    return [[axes if len(shape_of(v)) else () for v in eqn.invars]] * len(eqn.outvars)
