"""Kinks: where the derivative jumps, between noise and parameters.

Differentiating through `max(x, 0)` once is sound.  Its derivative is a step, and the next one would
miss what the step contributes, as the first one does at a jump (see `_jumps`): it is refused.
"""

from __future__ import annotations

from typing import Any

import jax.extend.core as jex_core
import jax.numpy as jnp
from jax.interpreters import ad, batching, mlir

from ._continuity import selected
from ._errors import BiasError
from ._jumps import COMPARISONS, meet, never
from ._program import CUSTOM, MOVES, Literal, Program, Uses
from ._source import at_line

_KINKS = set(
    """abs clamp cummax cummin max min reduce_max reduce_min reduce_window_max reduce_window_min
    sort top_k""".split()
)
# Where no derivative goes on.
_ENDS = {"stop_gradient", "stop_influence", "sign", "floor", "ceil", "round"}
_NEAR = 8  # results on the way to there


def find_kinks(program: Program, active: set[Any], noisy: set[Any]) -> dict[Any, str]:
    """The equations, by program and index, behind which the derivative jumps, and where that is."""
    found: dict[Any, str] = {}
    for part in program.walk() if noisy else ():
        if any(p.holder == "while" for p in part.path):
            continue  # it has no reverse derivative
        uses = None
        for index, eqn in enumerate(part.eqns):
            name = eqn.primitive.name
            if name not in _KINKS | COMPARISONS or not meet(eqn, active, noisy):
                continue
            uses = uses or Uses(part)
            if name in COMPARISONS and never(part, eqn, uses):
                continue
            if name == "abs" and _is_positive(part, eqn.invars[0], uses):
                continue
            at = selected(part, index, uses) if name in COMPARISONS else [index]
            for i in at:
                place = _outermost(part, i, uses)
                if place is not None and not _ends(part, i, uses):
                    found[place] = at_line(eqn)
    return found


def _outermost(part: Program, index: int, uses: Uses) -> tuple[Program, int] | None:
    """The equation, or that of the function with a derivative rule of its own that returns it."""
    while part.holder in CUSTOM:
        # Another value of such a function may be smooth, as that of `logaddexp` is.
        if uses.outputs.isdisjoint(part.eqns[index].outvars) or part.parent is None:
            return None
        index, part = part.at, part.parent
        uses = Uses(part)
    return part, index


def _ends(part: Program, index: int, uses: Uses) -> bool:
    """Whether no derivative goes on from an equation, as `logsumexp` stops that of the maximum."""
    todo, seen = list(part.eqns[index].outvars), set()
    while todo:
        v = todo.pop()
        if v in uses.outputs or len(seen) > _NEAR:
            return False
        for i in uses.consumers.get(v, ()):
            eqn = part.eqns[i]
            floats = any(jnp.issubdtype(out.aval.dtype, jnp.inexact) for out in eqn.outvars)
            if eqn.primitive.name in _ENDS or not floats:
                continue
            todo += [out for out in eqn.outvars if out not in seen]
            seen.update(eqn.outvars)
    return True


def _is_positive(part: Program, v: Any, uses: Uses) -> bool:
    """Whether a value is a sum of exponentials, as within `logsumexp`, or the like."""
    while not isinstance(v, Literal) and v in uses.producers:
        eqn = part.eqns[uses.producers[v]]
        if eqn.primitive.name in {"exp", "exp2", "logistic"}:
            return True
        if eqn.primitive.name not in MOVES | {"reduce_sum", "reduce_max", "cumsum"}:
            return False
        v = eqn.invars[0]
    return False


def once(value: Any, place: str) -> Any:
    """The value, with its first derivative and an error for the second."""
    return once_p.bind(value, place=place) if jnp.issubdtype(value.dtype, jnp.inexact) else value


once_p = jex_core.Primitive("once")
once_p.def_impl(lambda x, place: x)
once_p.def_abstract_eval(lambda x, place: x)
mlir.register_lowering(once_p, mlir.lower_fun(lambda x, place: x, multiple_results=False))
batching.primitive_batchers[once_p] = lambda args, dims, place: (
    once_p.bind(*args, place=place),
    dims[0],
)

# The number one, and an error where the number that it is given is differentiated.
_unit_p = jex_core.Primitive("once_unit")
_unit_p.def_impl(lambda x, place: jnp.ones_like(x))
_unit_p.def_abstract_eval(lambda x, place: x)
mlir.register_lowering(
    _unit_p, mlir.lower_fun(lambda x, place: jnp.ones_like(x), multiple_results=False)
)
batching.primitive_batchers[_unit_p] = lambda args, dims, place: (
    _unit_p.bind(jnp.sum(*args), place=place),
    None,
)


def _once_jvp(primals, tangents, place):
    (x,), (t,) = primals, tangents
    out = once_p.bind(x, place=place)
    # The sum is never computed: its number does not matter.
    return out, t if isinstance(t, ad.Zero) else t * _unit_p.bind(jnp.sum(x), place=place)


def _unit_jvp(primals, tangents, place):
    raise BiasError(
        f"jscg: a second derivative is taken through a kink{place}, "
        "where noise and parameters meet (abs, max, relu, clip, where).  The first derivative "
        "jumps there, and what the jump contributes to the second would silently be lost.\n"
        "What to do instead:\n"
        "  - estimators={name of the draw: jscg.estimators.ScoreFunction()} scores the noise with "
        "its density, where it has one, and is right to any order\n"
        "  - make it smooth (softplus for relu)\n"
        "  - estimators={name of the draw: jscg.estimators.Pathwise(allow_jumps=True)}, if all in "
        "all the derivative does not jump, as that of x * abs(x)"
    )


ad.primitive_jvps[once_p] = _once_jvp
ad.primitive_jvps[_unit_p] = _unit_jvp
