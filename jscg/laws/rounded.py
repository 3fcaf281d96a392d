"""Noise goes a way that can be inverted, and is rounded: `floor(log(uniform(key)) / log1p(-p))`.

The probability of a number is that of the interval that is rounded to it.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jscg._chain import INVERTIBLE, Chain
from jscg._jumps import Jump
from jscg._primitives import stop_influence_p
from jscg._program import Uses
from jscg.draws._numerics import xlogy
from jscg.draws.noise import NOISE
from jscg.laws._registry import Law, law


@law()
def rounded(jump: Jump, source: Any, active: set[Any], uses: Uses) -> Law | None:
    """The number that it is rounded to."""
    part, name = jump.program, jump.eqn.primitive.name
    to_integer = name == "convert_element_type" and jnp.issubdtype(
        jump.eqn.params["new_dtype"], jnp.integer
    )
    if name not in {"floor", "ceil", "round"} and not to_integer:
        return None
    chain = Chain.to(part, uses, source, jump.index, INVERTIBLE)
    if chain is None or chain.draw.params["family"] not in NOISE:
        return None
    (end,) = jump.eqn.invars
    noise, inputs, back = NOISE[chain.draw.params["family"]], chain.inputs(), chain.back

    def log_prob(x: Any, *values: Any) -> Any:
        env = dict(zip(inputs, values, strict=True))
        x = stop_influence_p.bind(x).astype(end.aval.dtype)  # that it jumps is what this is for
        if name == "floor":
            low, high = x, x + 1
        elif name == "ceil":
            low, high = x - 1, x
        elif name == "round":
            low, high = x - 0.5, x + 0.5
        else:  # towards zero
            low, high = jnp.where(x > 0, x, x - 1), jnp.where(x < 0, x, x + 1)
        a, b = (back(end, y, env) for y in (low, high))
        # Differences of small numbers, in either tail.
        near = noise.cdf(b) - noise.cdf(a)
        far = noise.upper(a) - noise.upper(b)
        p = jnp.abs(jnp.where(noise.cdf(a) + noise.cdf(b) < 1, near, far))
        return xlogy(1, p).reshape(x.shape)

    static = (("counts", True), ("event_ndim", 0))
    return Law(part, jump.index, "sampler", {"log_prob": log_prob}, inputs, static)
