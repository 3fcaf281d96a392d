"""Noise is looked up in a sorted array: `searchsorted(cumsum(p), uniform(key))`.

The place is categorical, its probabilities differences of the distribution function of the noise.
The search is one primitive in JAX 0.12, a loop in JAX 0.10: it is known by its name and tried out.
"""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np

from jscg._chain import Chain
from jscg._compat import bind
from jscg._jumps import Jump
from jscg._program import Program, Uses
from jscg._sides import aside
from jscg.draws.noise import NOISE
from jscg.laws._registry import Law, law


@law()
def searched(jump: Jump, source: Any, active: set[Any], uses: Uses) -> Law | None:
    """Its operands are the array, whose order is the caller's promise, and what is looked up."""
    part = jump.program
    end, call = _search(part, jump.index)
    if call is None:
        return None
    (out,) = call.outvars
    table, query = call.invars
    chain = Chain.to(part, uses, source, jump.index)
    family = part.eqns[uses.producers[source]].params["family"]
    if (
        chain is None
        or family not in NOISE
        or query not in chain.inside
        or out not in part.eqns[end].outvars
    ):
        return None
    # With batch axes other than these, a row does not say which query it is for.
    rows = table.aval.shape[:-1]
    if (rows and rows != query.aval.shape) or not (
        out.aval.shape == query.aval.shape and out.aval.size == source.aval.size
    ):
        return None
    if not _searches(call):
        return None
    inputs = chain.inputs(table)
    noise = NOISE[family]

    def logits(_: Any, *values: Any) -> Any:
        env = dict(zip(inputs, values, strict=True))
        found = chain.affine(lambda z: chain.run(z, env, [query])[0], env)
        shift, slope = (jnp.broadcast_to(a, query.aval.shape)[..., None] for a in found)
        z = (env[table] - shift) / slope
        below = jnp.where(slope > 0, noise.cdf(z), noise.upper(z))
        ends = jnp.zeros_like(below[..., :1])
        cdf = jnp.concatenate([ends, below, ends + 1], -1)
        return jnp.log(jnp.maximum(cdf[..., 1:] - cdf[..., :-1], 0))

    return Law(part, end, "perturbed_argmax", {"logits": logits}, inputs, (("axis", -1),))


def _search(part: Program, index: int) -> tuple[int, Any]:
    """The call of `searchsorted` around an equation, if any, and where its result is made."""
    for start, calls in part.calls.items():
        for stop, call in calls:
            if start <= index < stop and call.params.get("name") == "searchsorted":
                return stop - 1, call
    return index, None


def _searches(call: Any) -> bool:
    """Whether it finds the places of random queries in sorted random tables, as the name says."""
    random = np.random.default_rng(0)
    table, query = (random.normal(size=v.aval.shape).astype(v.aval.dtype) for v in call.invars)
    table = np.sort(table, -1)
    rows = table if table.ndim > 1 else np.broadcast_to(table, (*query.shape, table.size))
    with aside():
        found = np.asarray(bind(call, jnp.asarray(table), jnp.asarray(query))[0])
    return np.array_equal(found, np.sum(rows < query[..., None], -1))
