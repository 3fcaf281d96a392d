"""How many of an ascending row of thresholds lie on one side of noise: `sum(cumsum(p) < u)`.

The count is categorical.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jscg._chain import Chain
from jscg._jumps import Jump
from jscg._program import MOVES, Literal, Program, Uses
from jscg.draws.noise import NOISE
from jscg.laws._registry import Law, law


@law()
def counted(jump: Jump, source: Any, active: set[Any], uses: Uses) -> Law | None:
    """How many thresholds are on one side."""
    part = jump.program
    if jump.eqn.primitive.name[:2] not in {"lt", "le", "gt", "ge"}:
        return None
    at = _summed(part, jump, uses)
    draw = part.eqns[uses.producers[source]]
    if at is None or draw.params["family"] != "uniform" or draw.params["names"]:
        return None
    (axis,) = part.eqns[at].params["axes"]
    a, b = jump.eqn.invars
    on_left = _repeated(part, a, axis, source, uses)
    if on_left == _repeated(part, b, axis, source, uses):
        return None
    thresholds = b if on_left else a
    out = part.eqns[at].outvars[0].aval
    if out.size != source.aval.size or not _ascending(part, thresholds, axis, uses):
        return None
    # How many lie below the noise, or above it.
    below = (jump.eqn.primitive.name[0] == "l") != on_left
    chain = Chain(part, uses, source)

    def logits(_: Any, t: Any) -> Any:
        low, high = chain.bounds({})
        t = jnp.moveaxis(t, axis, -1)
        t = NOISE["uniform"].cdf((t - low) / (high - low))
        ends = jnp.zeros_like(t[..., :1])
        cdf = jnp.concatenate([ends, t, ends + 1], -1)
        p = jnp.maximum(cdf[..., 1:] - cdf[..., :-1], 0)
        p = p if below else p[..., ::-1]
        return jnp.log(jnp.broadcast_to(p, (*out.shape, p.shape[-1])))

    static = (("axis", -1),)
    return Law(part, at, "perturbed_argmax", {"logits": logits}, [thresholds], static)


def _summed(part: Program, jump: Jump, uses: Uses) -> int | None:
    """The sum over one axis that is all that becomes of a comparison."""
    v, names = jump.eqn.outvars[0], ["convert_element_type", "reduce_sum"]
    i = None
    for name in names:
        readers = uses.consumers.get(v, ())
        if v in uses.outputs or len(readers) != 1:
            return None
        i = readers[0]
        if part.eqns[i].primitive.name != name:
            return None
        v = part.eqns[i].outvars[0]
    integer = jnp.issubdtype(v.aval.dtype, jnp.integer)
    return i if integer and i is not None and len(part.eqns[i].params["axes"]) == 1 else None


def _repeated(part: Program, v: Any, axis: int, source: Any, uses: Uses) -> bool:
    """Whether a value is a draw that nobody else looks at, the same all along an axis."""
    same = False
    while not isinstance(v, Literal) and len(uses.consumers.get(v, ())) == 1:
        same = same or v.aval.size == 1 or v.aval.shape[axis : axis + 1] == (1,)
        if v is source or v not in uses.producers:
            return v is source and same and v not in uses.outputs
        eqn = part.eqns[uses.producers[v]]
        if eqn.primitive.name not in MOVES - {"transpose"}:
            return False
        if not same:
            place = _before(eqn, axis)
            same = place is None or eqn.invars[0].aval.shape[place] == 1
            if not same and place != axis:
                return False
        v = eqn.invars[0]
    return False


def _before(eqn: Any, axis: int) -> int | None:
    """Which axis of its operand a broadcast lays on an axis of its result, if any."""
    dims = eqn.params.get("broadcast_dimensions", range(axis + 1))
    return list(dims).index(axis) if axis in dims else None


def _ascending(part: Program, v: Any, axis: int | None, uses: Uses) -> bool:
    """Whether rows along an axis are cumulative sums, divided by one number each perhaps."""
    while axis is not None and not isinstance(v, Literal) and v in uses.producers:
        eqn = part.eqns[uses.producers[v]]
        name = eqn.primitive.name
        if name == "cumsum":
            return eqn.params["axis"] == axis and not eqn.params["reverse"]
        if name == "div":
            shape = eqn.invars[1].aval.shape
            if shape and shape[axis] != 1:
                return False
        elif name == "broadcast_in_dim":
            axis = _before(eqn, axis)
        elif name not in {"slice", "convert_element_type", "copy"}:
            return False
        v = eqn.invars[0]
    return False
