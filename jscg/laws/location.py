"""A draw of standard noise that is scaled and moved: a location-scale law, if that is asked for."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jscg._chain import ADDITIVE, AFFINE, Chain
from jscg._program import MOVES, Program, Uses
from jscg.draws.densities import DENSITIES
from jscg.draws.located import LOCATED
from jscg.laws._registry import Law


def by_location(part: Program, source: Any, active: set[Any], uses: Uses) -> Law | str:
    """The draw at the end of its affine way, or why there is none."""
    draw = part.eqns[uses.producers[source]]
    family = draw.params["family"]
    if family not in LOCATED:
        return f"no derivative of the law of {family} is known as a difference of two laws"
    longest = Chain.longest(part, uses, source)
    names = [part.eqns[i].primitive.name for i in longest.steps]
    ends = [i for i, name in enumerate(names) if name not in AFFINE or name == "transpose"]
    chain = longest.upto(min(ends, default=len(names)))
    moved = {part.eqns[i].primitive.name for i in chain.steps} & (ADDITIVE - MOVES)
    if DENSITIES[family].ends[0] == 0 and moved - {"neg", "convert_element_type"}:
        return "an end of its support is moved"
    inputs = chain.inputs()
    at = chain.steps[-1] if chain.steps else uses.producers[source]
    end = part.eqns[at].outvars[0]

    def affine(*values: Any) -> tuple[Any, Any]:
        env = dict(zip(inputs, values, strict=True))
        shift, slope = chain.affine(lambda z: chain.run(z, env, [end])[0], env)
        return shift.reshape(end.aval.shape), slope.reshape(end.aval.shape)

    operands = {
        "source": lambda x, key, *values: key,
        "loc": lambda x, key, *values: affine(*values)[0],
        "scale": lambda x, key, *values: affine(*values)[1],
    }
    if family == "gamma":

        def shape(x: Any, key: Any, *values: Any) -> Any:
            a = chain.operands(dict(zip(inputs, values, strict=True)))["a"]
            return jnp.broadcast_to(a, source.aval.shape).reshape(end.aval.shape)

        operands["a"] = shape
    static = (("noise", family),)
    return Law(part, at, "located", operands, [draw.invars[0], *inputs], static)
