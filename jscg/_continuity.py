"""Whether a comparison decides between values that are equal where it turns over.

`where(x > 0, x, 0.1 * x)` is continuous: on the boundary x = 0 both branches are the same.
That is tried out: the elementwise neighbourhood of the comparison is evaluated at pairs of points
on both sides of the boundary, as near to each other as numbers are, and a little farther off.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ._program import Literal, Program, Uses
from ._sides import SHAPES, agree, dtype_of

_FAR = 6  # how many operations a discontinuity may live until it is masked
_DEPTHS = (3, 6, 12)  # how many operations to look back; with less, more values are taken as free
_ELEMENTWISE = set(
    """abs acos add add_any and asin asinh atan atan2 atanh cbrt clamp convert_element_type cos cosh
    div eq erf erf_inv erfc exp exp2 expm1 ge gt integer_pow is_finite le lgamma log log1p logistic
    lt max min mul ne neg not or pow rsqrt select_n sign sin sinh sqrt square stop_gradient sub tan
    tanh xor name""".split()
)
_PICKS = {"slice", "dynamic_slice", "gather", "convert_element_type"}
_BOOLEAN = {"and", "or", "not", "xor", "copy", "broadcast_in_dim", "reshape", "squeeze"}
# What makes an infinite value finite again.
_BOUNDING = {"exp", "exp2", "logistic", "tanh", "max", "min", "reduce_max", "reduce_min", "clamp"}


_known: dict[Any, bool] = {}  # by what is computed: the same activation is tried once


def is_continuous(program: Program, index: int, uses: Uses) -> bool:
    """Whether everything that a comparison decides is continuous where it turns over."""
    sinks = selected(program, index, uses)
    return bool(sinks) and all(_settles(program, index, sink, uses, _FAR) for sink in sinks)


def _settles(program: Program, index: int, at: int, uses: Uses, far: int) -> bool:
    """Whether the result of an equation is continuous, or all that is made of it is.

    `where(x > 0, sqrt(where(x > 0, x, 1)), 0)` is, although the selection inside is not.
    """
    out = program.eqns[at].outvars[0]
    if not jnp.issubdtype(out.aval.dtype, jnp.floating):
        return False  # compared again: points that are tried out may all lie on one side
    if _agrees(program, index, at, uses):
        return True
    readers = uses.consumers.get(out, ())
    return (
        far > 0
        and bool(readers)
        and out not in uses.outputs
        and all(program.eqns[i].primitive.name in _ELEMENTWISE | SHAPES for i in readers)
        and all(_settles(program, index, i, uses, far - 1) for i in readers)
    )


def selected(program: Program, index: int, uses: Uses) -> list[int]:
    """The selections and numbers that a comparison decides; none if anything else is decided."""
    sinks, todo, decided = set(), [program.eqns[index].outvars[0]], set()
    while todo:
        v = todo.pop()
        if v in decided:
            continue
        decided.add(v)
        if v in uses.outputs:
            return []
        for i in uses.consumers.get(v, ()):
            eqn = program.eqns[i]
            name, out = eqn.primitive.name, eqn.outvars[0]
            floats = jnp.issubdtype(out.aval.dtype, jnp.floating)
            if out.aval.dtype == jnp.bool_ and (name in _BOOLEAN or name == "select_n"):
                todo.append(out)
            elif _first_true(program, i, uses):
                todo.append(out)
            elif floats and name in {"select_n", "convert_element_type"}:
                sinks.add(i)
            else:
                return []
    return sorted(sinks)


def _first_true(program: Program, i: int, uses: Uses) -> bool:
    """Whether an equation is part of `argmax(stack(conditions))`, as `jnp.select` has it."""
    eqn = program.eqns[i]
    if eqn.primitive.name == "stack" and eqn.outvars[0].aval.dtype == jnp.bool_:
        readers = uses.consumers.get(eqn.outvars[0], ())
        return bool(readers) and all(_first_true(program, r, uses) for r in readers)
    if eqn.primitive.name != "argmax" or eqn.invars[0] not in uses.producers:
        return False
    made = program.eqns[uses.producers[eqn.invars[0]]]
    stacked = made.primitive.name == "stack" and made.outvars[0].aval.dtype == jnp.bool_
    return stacked and eqn.params["axes"] == (made.params["axis"],)


def _agrees(program: Program, index: int, sink: int, uses: Uses) -> bool:
    return any(_agrees_near(program, index, sink, uses, depth) for depth in _DEPTHS)


def _agrees_near(program: Program, index: int, sink: int, uses: Uses, depth: int) -> bool:
    eqn, out = program.eqns[index], program.eqns[sink].outvars[0]
    steps, leaves = _neighbourhood(program, [*eqn.invars, out], uses, depth)
    if index not in steps:
        return False
    key = (_signature(program, steps, leaves), steps.index(index), steps.index(sink))
    key = (*key, _stays(program, sink, uses))
    if key not in _known:
        _known[key] = agree(program, index, sink, steps, leaves, key[-1])
        if len(_known) > 1000:
            del _known[next(iter(_known))]
    return _known[key]


def _signature(program: Program, steps: list[int], leaves: dict[Any, Any]) -> Any:
    """What the steps compute, without the names of variables."""
    number = {v: i for i, v in enumerate(leaves)}
    kinds = list(leaves.values())
    out: list[Any] = [tuple((v.aval.dtype, kinds.index(made)) for v, made in leaves.items())]
    for i in steps:
        eqn = program.eqns[i]
        inputs = tuple(
            ("literal", float(v.val), dtype_of(v)) if isinstance(v, Literal) else number[v]
            for v in eqn.invars
        )
        made = str(eqn.params.get("new_dtype", "")), str(eqn.params.get("y", ""))
        out.append((eqn.primitive.name, made, inputs))
        number[eqn.outvars[0]] = len(number)
    return tuple(out)


def _stays(program: Program, sink: int, uses: Uses) -> bool:
    """Whether an infinite value of a selection would make the cost infinite.

    The log-density of a bounded law outside of its support is one: that is never seen.
    """
    todo, seen = [program.eqns[sink].outvars[0]], set()
    while todo:
        v = todo.pop()
        for i in uses.consumers.get(v, ()):
            eqn = program.eqns[i]
            if eqn.primitive.name in _BOUNDING or eqn.primitive.name == "select_n":
                return False
            todo += [out for out in eqn.outvars if out not in seen]
            seen.update(eqn.outvars)
    return True


def _neighbourhood(program: Program, atoms: list[Any], uses: Uses, depth: int):
    """The elementwise equations behind some variables, in order, and the variables before them."""
    steps: set[int] = set()
    level = [v for v in atoms if not isinstance(v, Literal)]
    leaves: dict[Any, Any] = {}
    for _ in range(depth):
        below: list[Any] = []
        for v in level:
            i = uses.producers.get(v)
            if i is None or not (
                program.eqns[i].primitive.name in _ELEMENTWISE | SHAPES
                or _first_true(program, i, uses)
            ):
                leaves[v] = _made(program, v, uses, 4)
            elif i not in steps:
                steps.add(i)
                below += [a for a in program.eqns[i].invars if not isinstance(a, Literal)]
        level = below
    made = {program.eqns[i].outvars[0] for i in steps}
    leaves |= {v: _made(program, v, uses, 4) for v in level if v not in made}
    return sorted(steps), leaves


def _made(program: Program, v: Any, uses: Uses, depth: int) -> Any:
    """How a variable is made, as far as a few steps tell: `th[0]` is the same every time."""
    if isinstance(v, Literal):
        return str(v.val)
    i = uses.producers.get(v)
    eqn = None if i is None else program.eqns[i]
    if eqn is None or depth == 0 or eqn.primitive.name not in _PICKS | SHAPES:
        return v
    inputs = tuple(_made(program, a, uses, depth - 1) for a in eqn.invars)
    return (eqn.primitive.name, str(eqn.params), eqn.outvars.index(v), inputs)
