"""What everybody else looks at is noise that went a way that can be inverted.

`mean + scale * normal(key)`, `gamma(key, a) / rate`, `-scale * log(uniform(key))`: it is drawn,
with the density of the noise by change of variables, whatever becomes of it.  The support must not
move: what flows over its edge has no score.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from jscg._chain import Chain
from jscg._jumps import Jump
from jscg._primitives import stop_influence_p
from jscg._program import Literal, Program, Uses
from jscg.draws._numerics import at_least_float32
from jscg.draws.densities import DENSITIES
from jscg.laws._registry import Law, law


@law(last=True)
def density(jump: Jump, source: Any, active: set[Any], uses: Uses) -> Law | None:
    """The end of the longest way on which the support stays."""
    found = by_density(jump.program, source, active, uses)
    return None if isinstance(found, str) else found


def by_density(part: Program, source: Any, active: set[Any], uses: Uses) -> Law | str | None:
    """The draw, or None where no parameter comes in, or why it has no density that is known."""
    draw = part.eqns[uses.producers[source]]
    family = draw.params["family"]
    if family == "reparameterized":
        return _given(part, uses.producers[source])
    known = DENSITIES.get(family)
    if known is None:
        return f"no density is known of a draw of {family}"
    moving = "an end of its support moves with the parameters"
    chain, ends = Chain.longest(part, uses, source), known.ends
    if family == "uniform" and not chain.standard:
        if not active.isdisjoint(draw.invars[1:]):
            return moving
        ends = (math.nan, math.nan)
    every = chain.inputs()
    chain = _with_fixed_support(chain, ends, active)
    inputs = chain.inputs()
    if active.isdisjoint(inputs):
        return None if active.isdisjoint(every) else moving
    at = chain.steps[-1] if chain.steps else uses.producers[source]
    end = part.eqns[at].outvars[0]

    def log_prob(x: Any, *values: Any) -> Any:
        env = dict(zip(inputs, values, strict=True))
        x = lax.stop_gradient(at_least_float32(stop_influence_p.bind(x)))

        def back(x: Any) -> Any:
            return chain.back(end, x, env)

        z, slope = jax.jvp(back, (x,), (jnp.ones_like(x),))
        given = {} if family == "uniform" else chain.operands(env)
        out = known.log(known.inside(z), **given) + jnp.log(jnp.abs(slope))
        return jnp.broadcast_to(out, z.shape).reshape(x.shape)

    static = (("event_ndim", 0), ("noise", family))
    return Law(part, at, "sampler", {"log_prob": log_prob}, inputs, static)


def _given(part: Program, at: int) -> Law:
    """A reparameterised sampler of the user's own, whose log-prob is an operand of the draw."""
    draw = part.eqns[at]
    log_prob = draw.invars[1 + draw.params["names"].index("log_prob")]
    static = tuple((k, v) for k, v in draw.params["static"] if k == "event_ndim")
    operands = {"log_prob": lambda x, value: value}
    return Law(part, at, "sampler", operands, [log_prob], (*static, ("noise", "sampler")))


def _with_fixed_support(chain: Chain, ends: tuple[float, ...], active: set[Any]) -> Chain:
    """Up to where the parameters come in last, as far as they move no end of the support."""
    used = 0
    for i, at in enumerate(chain.steps):
        eqn = chain.part.eqns[at]
        others = [v for v in eqn.invars if isinstance(v, Literal) or v not in chain.inside]
        moved = any(not isinstance(v, Literal) and v in active for v in others)
        if moved:
            anchored = _UNMOVED_BY_FACTORS if eqn.primitive.name in {"mul", "div"} else _INFINITE
            if not anchored.issuperset(ends):
                break
            used = i + 1
        ends = tuple(_end(eqn, e, others) for e in ends)
    return chain.upto(used)


# Either sign: what a factor of unknown sign makes of an infinite end.
_EITHER = "either infinity"
_INFINITE = {-math.inf, math.inf, _EITHER}
_UNMOVED_BY_FACTORS = _INFINITE | {0.0}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "neg": np.negative,
    "exp": np.exp,
    "log": np.log,
    "log1p": np.log1p,
    "expm1": np.expm1,
    "logistic": lambda e: 1 / (1 + np.exp(-e)),
    "sqrt": np.sqrt,
    "add": np.add,
    "add_any": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
}


def _end(eqn: Any, end: Any, others: list[Any]) -> Any:
    """Where an operation takes an end of the support; NaN where that is not known."""
    name = eqn.primitive.name
    if end == _EITHER:
        # An exponential of it is zero or infinite, a logarithm can only be infinite.
        return {"exp": 0.0, "log": math.inf, "sqrt": math.inf}.get(
            name, math.nan if name in {"logistic", "expm1", "log1p"} else _EITHER
        )
    if name not in _FUNCTIONS:
        return end
    known = [float(v.val) for v in others if isinstance(v, Literal) and np.ndim(v.val) == 0]
    if len(known) < len(others):
        if name in {"mul", "div"}:
            return _EITHER if math.isinf(end) else 0.0 if end == 0 else math.nan
        return (-end if _turned(eqn, others) else end) if math.isinf(end) else math.nan
    operands = [*known, end] if _turned(eqn, others) else [end, *known]
    with np.errstate(all="ignore"):
        return float(_FUNCTIONS[name](*operands))


def _turned(eqn: Any, others: list[Any]) -> bool:
    """Whether the noise is the second operand."""
    return len(eqn.invars) == 2 and eqn.invars[0] in others
