"""Which values depend *differentiably* on the arguments that the gradient is for, and on noise.

A draw needs a score only where its parameters depend on these arguments.  Environment noise,
dropout masks and transitions are free.  Both analyses over-approximate: an active value may have
a zero tangent.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Container
from typing import Any

import jax.numpy as jnp

from ._program import CHECKPOINTS, CUSTOM, Literal, Program, split_scan, split_while
from .draws import FAMILIES

# Primitives whose derivative is zero wherever it exists.
FLAT = {"stop_gradient", "floor", "ceil", "round", "sign", "population_count", "clz"}

# For an equation without sub-programs: which outputs depend on what its flagged inputs do.
Step = Callable[[Any, list[bool]], list[bool]]


def active_variables(
    program: Program, inputs: list[bool], relaxed: Container[Any] = ()
) -> set[Any]:
    """Returns the active variables of `program` and of all programs within.

    Args:
      program: the program.
      inputs: for each of its inputs, whether the gradient is for it.
      relaxed: discrete draws with a derivative all the same, by their variables.
    """

    def step(eqn: Any, flags: list[bool]) -> list[bool]:
        if eqn.primitive.name == "draw" and eqn.outvars[0] in relaxed:
            return [any(flags)]
        kinds = [v.aval.dtype for v, f in zip(eqn.invars, flags, strict=True) if f]
        if not any(_is_float(k) for k in kinds):  # integers, up to the edge of a relaxed draw
            return [bool(kinds) and eqn.primitive.name != "draw"] * len(eqn.outvars)
        return _tangents(eqn, flags)

    active: set[Any] = set()
    propagate(program, inputs, active, step if relaxed else _tangents)
    return active


def behind(program: Program, sources: set[Any]) -> set[Any]:
    """Returns the floats that depend on some variables, which are not among them, by no draw.

    A continuous draw moves with its parameters, and is no end of the way.
    """

    def step(eqn: Any, flags: list[bool]) -> list[bool]:
        if eqn.primitive.name == "draw" and FAMILIES[eqn.params["family"]].discrete:
            return [False]
        return [any(flags) and _is_float(v.aval.dtype) for v in eqn.outvars]

    found = set(sources)
    propagate(program, [False] * len(program.invars), found, step)
    return found


BITS = {"random_bits", "rng_bit_generator", "threefry2x32"}


def _is_source(eqn: Any) -> bool:
    """Whether it makes continuous noise, or the bits that noise is made of."""
    if eqn.primitive.name != "draw":
        return eqn.primitive.name in BITS
    static = dict(eqn.params["static"])
    return FAMILIES[eqn.params["family"]].is_continuous(static, eqn.outvars[0].aval.dtype)


def rounded_variables(program: Program, inputs: list[bool]) -> set[Any]:
    """Returns the integers that are made of the arguments that the gradient is for, by no draw."""

    def step(eqn: Any, flags: list[bool]) -> list[bool]:
        cut = eqn.primitive.name in {"draw", "stop_gradient", "stop_influence"}
        return [any(flags) and not cut] * len(eqn.outvars)

    found: set[Any] = set()
    propagate(program, inputs, found, step)
    return {v for v in found if jnp.issubdtype(v.aval.dtype, jnp.integer)}


def noisy_variables(program: Program, silent: set[Any]) -> set[Any]:
    """Returns the variables whose law is continuous: they depend on a continuous draw.

    Args:
      program: the program.
      silent: draws that are left out, by the variable that they are assigned to.
    """

    def step(eqn: Any, flags: list[bool]) -> list[bool]:
        if eqn.primitive.name == "draw":
            return [_is_source(eqn) and eqn.outvars[0] not in silent]
        if eqn.primitive.name in BITS:
            return [True] * len(eqn.outvars)
        if eqn.primitive.name == "stop_influence":
            return [False]
        kinds = [v.aval.dtype for v, f in zip(eqn.invars, flags, strict=True) if f]
        floats = any(_is_float(k) for k in kinds)
        # Of a float, an integer or a truth value is discrete; random bits are integers.
        return [bool(kinds) and (_is_float(v.aval.dtype) or not floats) for v in eqn.outvars]

    noisy: set[Any] = set()
    if not any(_is_source(eqn) for part in program.walk() for eqn in part.eqns):
        return noisy
    propagate(program, [False] * len(program.invars), noisy, step, everywhere=True)
    return noisy


def live_variables(program: Program, roots: list[Any] | None = None) -> set[Any]:
    """The variables on which the cost depends, or on which some roots do."""
    live: set[Any] = set()

    def visit(part: Program, outputs: list[Any]) -> None:
        live.update(v for v in outputs if not isinstance(v, Literal))
        for index in reversed(range(len(part.eqns))):
            eqn = part.eqns[index]
            wanted = not live.isdisjoint(eqn.outvars)
            for sub in part.subs.get(index, ()):
                if wanted or roots is not None:
                    before = len(live)
                    visit(sub, sub.outvars if wanted else [])
                    wanted = wanted or len(live) > before
            if eqn.primitive.name == "stop_influence" or not wanted:
                continue
            read = eqn.invars
            if eqn.primitive.name == "draw" and FAMILIES[eqn.params["family"]].observed:
                read = read[1:]  # the draw accounts for how its value came about
            live.update(v for v in read if not isinstance(v, Literal))

    if roots is not None:
        live.update(roots)
    visit(program, program.outvars[:1] if roots is None else [])
    return live


def propagate(
    program: Program, inputs, found: set[Any], step: Step, everywhere=False
) -> list[bool]:
    """Adds what depends on the flagged inputs to `found`; returns which outputs do.

    With `everywhere`, equations without flagged operands are asked, too.
    """
    found.update(v for v, flag in zip(program.invars, inputs, strict=True) if flag)
    for index, eqn in enumerate(program.eqns):
        flags = [not isinstance(v, Literal) and v in found for v in eqn.invars]
        if not everywhere and True not in flags:
            continue
        if subs := program.subs.get(index):
            visit = functools.partial(propagate, found=found, step=step, everywhere=everywhere)
            outputs = _outputs(subs, eqn, flags, visit)
        else:
            outputs = step(eqn, flags)
        for v, out in zip(eqn.outvars, outputs, strict=True):
            if out:
                found.add(v)
    return [not isinstance(v, Literal) and v in found for v in program.outvars]


@functools.cache
def _is_float(dtype: Any) -> bool:
    return jnp.issubdtype(dtype, jnp.inexact)


def _tangents(eqn: Any, flags: list[bool]) -> list[bool]:
    name = eqn.primitive.name
    if name in FLAT or (name == "draw" and FAMILIES[eqn.params["family"]].discrete):
        return [False] * len(eqn.outvars)
    if name in {"baseline", "control_variate"}:
        flags = flags[:1]
    return [any(flags) and _is_float(v.aval.dtype) for v in eqn.outvars]


def _outputs(subs, eqn, flags: list[bool], visit) -> list[bool]:
    name = eqn.primitive.name
    if name == "scan":
        consts, carry, xs = split_scan(eqn, flags)
        return _fixpoint(subs[0], consts, carry, xs, visit)
    if name == "while":
        before, consts, carry = split_while(eqn, flags)
        outs = _fixpoint(subs[1], consts, carry, [], visit)
        visit(subs[0], [*before, *outs])
        return outs
    if name == "cond":
        branches = [visit(sub, flags[1:]) for sub in subs]
        return [any(outs) for outs in zip(*branches, strict=True)]
    outs = visit(subs[0], flags)
    if name in CUSTOM:  # its own rule may make anything of the tangents
        changed = any(flags)
        return [
            out or (changed and _is_float(v.aval.dtype))
            for out, v in zip(outs, eqn.outvars, strict=True)
        ]
    assert name in CHECKPOINTS
    return outs


def _fixpoint(body, consts, carry, xs, visit) -> list[bool]:
    while True:
        outs = visit(body, [*consts, *carry, *xs])
        joined = [a or b for a, b in zip(carry, outs[: len(carry)], strict=True)]
        if joined == carry:
            return [*joined, *outs[len(carry) :]]
        carry = joined
