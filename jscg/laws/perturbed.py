"""The largest of values to which Gumbel noise is added: `argmax(logits + gumbel(key))`.

Its index is categorical; those of the k largest, in their order, are drawn without replacement:
the Plackett-Luce law, which is also that of `jax.random.categorical(..., replace=False)`
(Kool, van Hoof and Welling, "Stochastic beams and where to find them", 2019).
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from jscg._chain import Chain
from jscg._jumps import Jump
from jscg._program import Uses
from jscg.laws._registry import Law, law


@law()
def argmax(jump: Jump, source: Any, active: set[Any], uses: Uses) -> Law | None:
    """One index."""
    logits = _logits(jump, source, uses) if jump.eqn.primitive.name == "argmax" else None
    if logits is None:
        return None
    (axis,) = jump.eqn.params["axes"]
    return Law(jump.program, jump.index, "perturbed_argmax", *logits, (("axis", axis),))


@law()
def top_k(jump: Jump, source: Any, active: set[Any], uses: Uses) -> Law | None:
    """Several, if nobody looks at the values."""
    logits = _logits(jump, source, uses) if jump.eqn.primitive.name == "top_k" else None
    if logits is None:
        return None
    values, indices = jump.eqn.outvars
    last = jump.eqn.params.get("axis", values.aval.ndim - 1) == values.aval.ndim - 1
    if not last or values in uses.consumers or values in uses.outputs:
        return None
    place = jump.eqn.outvars.index(indices)
    return Law(jump.program, jump.index, "perturbed_top_k", *logits, (), place)


def _logits(jump: Jump, source: Any, uses: Uses) -> tuple[dict[str, Any], list[Any]] | None:
    chain = Chain.to(jump.program, uses, source, jump.index)
    (a,) = jump.eqn.invars
    if chain is None or chain.draw.params["family"] != "gumbel":
        return None
    if not chain.additive or chain.sign(a) != 1:
        return None
    inputs = chain.inputs(a)
    # As they are, so that it is seen where they are logarithms of probabilities.
    shifted_once = len(chain.steps) == 1 == len(inputs)

    def logits(_: Any, *values: Any) -> Any:
        if shifted_once:
            return jnp.broadcast_to(values[0], source.aval.shape)
        env = dict(zip(inputs, values, strict=True))
        return chain.affine(lambda z: chain.run(z, env, [a])[0], env)[0]

    return {"logits": logits}, inputs
