"""Which values depend *differentiably* on the arguments that the gradient is for.

A draw needs a score only where its parameters do.  Environment noise, dropout masks and
transitions are free.  The analysis over-approximates: an active value may have a zero tangent.
"""

from __future__ import annotations

import functools
from typing import Any

import jax.numpy as jnp

from ._program import CHECKPOINTS, CUSTOM, Literal, Program, split_scan, split_while
from .draws import FAMILIES

# Primitives whose derivative is zero wherever it exists.
_FLAT = {"stop_gradient", "floor", "ceil", "round", "sign", "population_count", "clz"}


def active_variables(program: Program, inputs: list[bool]) -> set[Any]:
    """Returns the active variables of `program` and of all programs within.

    Args:
      program: the program.
      inputs: for each of its inputs, whether the gradient is for it.
    """
    active: set[Any] = set()
    _visit(program, inputs, active)
    return active


def _visit(program: Program, inputs: list[bool], active: set[Any]) -> list[bool]:
    active.update(v for v, is_active in zip(program.invars, inputs, strict=True) if is_active)
    for index, eqn in enumerate(program.eqns):
        flags = [not isinstance(v, Literal) and v in active for v in eqn.invars]
        if not any(flags):
            continue
        outputs = _outputs(program.subs.get(index, ()), eqn, flags, active)
        active.update(
            v
            for v, out in zip(eqn.outvars, outputs, strict=True)
            if out and _is_float(v.aval.dtype)
        )
    return [not isinstance(v, Literal) and v in active for v in program.outvars]


@functools.cache
def _is_float(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)


def _outputs(subs, eqn, flags: list[bool], active: set[Any]) -> list[bool]:
    name = eqn.primitive.name
    if name in _FLAT or (name == "draw" and FAMILIES[eqn.params["family"]].discrete):
        return [False] * len(eqn.outvars)
    if name == "baseline":
        return flags[:1]
    if name == "scan":
        consts, carry, xs = split_scan(eqn, flags)
        return _fixpoint(subs[0], consts, carry, xs, active)
    if name == "while":
        _, consts, carry = split_while(eqn, flags)
        return _fixpoint(subs[1], consts, carry, [], active)
    if name == "cond":
        branches = [_visit(sub, flags[1:], active) for sub in subs]
        return [any(outs) for outs in zip(*branches, strict=True)]
    if name in CHECKPOINTS:
        return _visit(subs[0], flags, active)
    if name in CUSTOM:  # its own rule may make anything of the tangents
        _visit(subs[0], flags, active)
    return [True] * len(eqn.outvars)


def _fixpoint(body, consts, carry, xs, active) -> list[bool]:
    while True:
        outs = _visit(body, [*consts, *carry, *xs], active)
        joined = [a or b for a, b in zip(carry, outs[: len(carry)], strict=True)]
        if joined == carry:
            return [*joined, *outs[len(carry) :]]
        carry = joined
