"""Jumps: where noise and parameters meet in an operation through which no gradient flows.

`floor(mean + normal)` jumps when the mean moves; `jax.grad` sees a slope of zero on both sides and
misses what the jump contributes to the gradient of the expectation.  A *kink* (`abs`, `relu`,
`where(x > 0, x, 0.1 * x)`) is continuous, and differentiating through it is sound.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import jax.numpy as jnp

from ._activity import FLAT, live_variables, rounded_variables
from ._continuity import is_continuous
from ._program import Literal, Program, Uses

COMPARISONS = {"lt", "le", "gt", "ge", "eq", "ne", "lt_to", "le_to"}
_ROUNDING = (FLAT - {"stop_gradient"}) | {"rem", "nextafter", "atan2"}
# Of complex numbers these jump where they cross a ray.
_CUT = {"acos", "acosh", "asin", "asinh", "atan", "atanh", "log", "log1p", "pow", "sqrt"}
# True almost surely; with a score, or refused; handed on as it is.
_SMOOTH = {"is_finite", "draw", "baseline", "control_variate", "once"}


class Jump(NamedTuple):
    """One operation that jumps.

    Attributes:
      program: the program that holds it.
      index: of its equation.
    """

    program: Program
    index: int

    @property
    def eqn(self) -> Any:
        """The equation."""
        return self.program.eqns[self.index]


def find_jumps(program: Program, inputs: list[bool], active: set[Any], noisy: set[Any]):
    """Lists the jumps that the cost depends on, in program order."""
    jumps = []
    if any(jnp.issubdtype(v.aval.dtype, jnp.integer) for v in noisy):
        # Random bits as a fine grid of numbers, and what is rounded to be compared with them.
        active = active | rounded_variables(program, inputs)
    live = None
    for part in program.walk():
        uses = None
        for index, eqn in enumerate(part.eqns):
            if index in part.subs or not (_may_jump(eqn) and meet(eqn, active, noisy)):
                continue
            live = live or live_variables(program)
            uses = uses or Uses(part)
            if live.isdisjoint(_jumping(eqn)) or never(part, eqn, uses):
                continue
            if eqn.primitive.name in COMPARISONS and is_continuous(part, index, uses):
                continue
            jumps.append(Jump(part, index))
    return jumps


def _may_jump(eqn: Any) -> bool:
    name = eqn.primitive.name
    if name in _ROUNDING or (name == "sort" and len(eqn.outvars) > _from(eqn)) or _has_cut(eqn):
        return True
    # A comparison, an index, a cast, a callback: what is not a float has no derivative.
    return name not in _SMOOTH and any(
        not jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in eqn.outvars
    )


def _has_cut(eqn: Any) -> bool:
    is_complex = any(jnp.issubdtype(v.aval.dtype, jnp.complexfloating) for v in eqn.outvars)
    return eqn.primitive.name in _CUT and is_complex


def _from(eqn: Any) -> int:
    """The first output that jumps: sorted keys move continuously, what is sorted along jumps."""
    return eqn.params["num_keys"] if eqn.primitive.name == "sort" else 0


def _jumping(eqn: Any) -> list[Any]:
    """The outputs that jump."""
    if eqn.primitive.name in _ROUNDING | {"sort"} or _has_cut(eqn):
        return eqn.outvars[_from(eqn) :]
    return [v for v in eqn.outvars if not jnp.issubdtype(v.aval.dtype, jnp.inexact)]


def meet(eqn: Any, active: set[Any], noisy: set[Any]) -> bool:
    """Whether noise and parameters come together in an equation."""
    known = [v for v in eqn.invars if not isinstance(v, Literal)]
    if eqn.primitive.name == "sort":
        known = known[: eqn.params["num_keys"]]
    return not active.isdisjoint(known) and not noisy.isdisjoint(known)


def never(part: Program, eqn: Any, uses: Uses) -> bool:
    """Whether the outcome is the same with probability one."""
    if eqn.primitive.name == "atan2":  # the cut is where the second operand is negative
        b = eqn.invars[1]
        return isinstance(b, Literal) and b.val > 0
    if eqn.primitive.name not in COMPARISONS:
        return False
    a, b = eqn.invars
    if a is b:  # a test for NaN
        return True
    if any(isinstance(v, Literal) and not math.isfinite(v.val) for v in (a, b)):
        return True
    return eqn.primitive.name in {"eq", "ne"} and not (
        _atoms(part, a, uses) or _atoms(part, b, uses)
    )


# Behind these, a value may be exactly the same for many values of the noise.
_FLATTENING = {"max", "min", "clamp", "select_n", "reduce_max", "reduce_min", "custom_jvp_call"}


def _atoms(part: Program, atom: Any, uses: Uses) -> bool:
    """Whether a value may have a probability mass at a point, as far as its program shows."""
    todo, seen = [atom], set()
    while todo:
        v = todo.pop()
        if isinstance(v, Literal) or v in seen or v not in uses.producers:
            continue
        seen.add(v)
        eqn = part.eqns[uses.producers[v]]
        if eqn.primitive.name in _FLATTENING | _ROUNDING:
            return True
        if eqn.primitive.name != "draw":
            todo += eqn.invars
    return False
