"""Noise is compared with what it does not influence: `mean + scale * normal(key) > 0`.

The outcome is Bernoulli, its probability a value of the distribution function of the noise.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jscg._chain import Chain
from jscg._jumps import COMPARISONS, Jump
from jscg._program import MOVES, Literal, Program, Uses
from jscg.draws.noise import NOISE
from jscg.laws._registry import Law, law


@law()
def event(jump: Jump, source: Any, active: set[Any], uses: Uses) -> Law | None:
    """On which side of the threshold."""
    part = jump.program
    if jump.eqn.primitive.name not in COMPARISONS - {"eq", "ne"}:
        return None
    chain = Chain.to(part, uses, source, jump.index)
    if chain is None or chain.draw.params["family"] not in NOISE:
        return None
    a, b = jump.eqn.invars
    shape, size = jump.eqn.outvars[0].aval.shape, jump.eqn.outvars[0].aval.size
    if size != chain.source.aval.size:
        return None
    noise = NOISE[chain.draw.params["family"]]
    below = jump.eqn.primitive.name[:2] in {"lt", "le"}
    inputs = chain.inputs(a, b)
    # `uniform < sigmoid(l)` is scored at the logits.
    plain = not chain.steps and chain.draw.params["family"] == "uniform" and chain.standard
    plain = plain and len(inputs) == 1 and (a is chain.source) == below
    as_it_is = plain and _is_probability(part, inputs[0], uses)

    def probability(_: Any, *values: Any) -> Any:
        return jnp.broadcast_to(below_the_threshold(*values), shape)

    def below_the_threshold(*values: Any) -> Any:
        env = dict(zip(inputs, values, strict=True))
        if as_it_is:
            return values[0]

        def gap(z: Any) -> Any:
            left, right = chain.run(z, env, [a, b])
            return left - right

        shift, slope = chain.affine(gap, env)
        if chain.additive:  # the sign of the slope is that of the noise in the gap
            turned = chain.sign(a, b) < 0
            z = -shift / slope
            return noise.cdf(z) if below != turned else noise.upper(z)
        safe = jnp.where(slope == 0, 1, slope)
        z = -shift / safe
        first, second = (noise.cdf, noise.upper) if below else (noise.upper, noise.cdf)
        moving = jnp.where(slope > 0, first(z), second(z))
        fixed = (shift < 0) if below else (shift > 0)
        return jnp.where(slope == 0, fixed.astype(moving.dtype), moving)

    return Law(part, jump.index, "event", {"p": probability}, inputs)


def _is_probability(part: Program, v: Any, uses: Uses) -> bool:
    while v in uses.producers:
        eqn = part.eqns[uses.producers[v]]
        if eqn.primitive.name == "logistic":
            return True
        if eqn.primitive.name not in MOVES | {"convert_element_type"}:
            return False
        v = eqn.invars[0]
        if isinstance(v, Literal):
            return False
    return False
