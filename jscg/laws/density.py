"""An affine function of noise is what everybody else looks at: `mean + scale * normal(key)`.

It is drawn, with the density of the noise by change of variables, whatever becomes of it.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jscg._chain import Chain
from jscg._jumps import Jump
from jscg._program import Uses
from jscg.draws.noise import NOISE
from jscg.laws._registry import Law, law


@law(last=True)
def density(jump: Jump, source: Any, active: set[Any], uses: Uses) -> Law | None:
    """The end of the longest affine way."""
    part = jump.program
    chain = Chain.longest(part, uses, source)
    family = chain.draw.params["family"]
    inputs = chain.inputs()
    if not chain.steps or active.isdisjoint(inputs) or NOISE[family].log_density is None:
        return None
    end = part.eqns[chain.steps[-1]].outvars[0]

    def affine(*values: Any) -> tuple[Any, Any]:
        env = dict(zip(inputs, values, strict=True))
        found = chain.affine(lambda z: chain.run(z, env, [end])[0], env)
        shift, slope = (jnp.broadcast_to(a, end.aval.shape) for a in found)
        return shift, slope

    operands = {"loc": lambda _, *v: affine(*v)[0], "scale": lambda _, *v: affine(*v)[1]}
    return Law(part, chain.steps[-1], "density", operands, inputs, (("noise", family),))
