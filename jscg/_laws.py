"""What may take the place of a jump: draws whose law follows from that of the noise.

* *event*: noise is compared, by an affine way on which nobody else looks, with what it does not
  influence: the outcome is Bernoulli, its probability a value of the distribution function;
* *argmax* of values to which Gumbel noise is added: the class is categorical;
* *rounded*: noise goes a way that can be inverted, and is rounded: the probability of a number is
  that of the interval that is rounded to it, `floor(log(u) / log1p(-p))` for one;
* *counted*: how many of an ascending row of thresholds lie on one side of the noise, as in
  `sum(cumsum(p) < u)`: the count is categorical;
* *density*: an affine function of the noise is what everybody else looks at: it is drawn, with the
  density of the noise by change of variables.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax.numpy as jnp

from ._chain import INVERTIBLE, MOVES, Chain
from ._jumps import COMPARISONS, Jump
from ._primitives import stop_influence_p
from ._program import Literal, Program, Uses
from .draws._numerics import xlogy
from .draws.noise import NOISE


class Law(NamedTuple):
    """A draw in the place of the result of an equation.

    Attributes:
      program, index: of that equation.
      family: of the draw.
      operands: for each operand, a function of the result and of the inputs.
      inputs: variables.
      static: parameters of the draw.
      full: whether operands are broadcast to the shape of the result.
    """

    program: Program
    index: int
    family: str
    operands: dict[str, Any]
    inputs: list[Any]
    static: tuple = ()
    full: bool = True


def event(jump: Jump, source: Any, uses: Uses) -> Law | None:
    """`mean + scale * normal(key) > 0`."""
    part = jump.program
    if jump.eqn.primitive.name not in COMPARISONS - {"eq", "ne"}:
        return None
    chain = Chain.to(part, uses, source, jump.index)
    if chain is None:
        return None
    a, b = jump.eqn.invars
    size = jump.eqn.outvars[0].aval.size
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
        env = dict(zip(inputs, values, strict=True))
        if as_it_is:
            return values[0]

        def gap(z: Any) -> Any:
            left, right = chain.run(z, env, [a, b])
            return left - right

        shift, slope = chain.affine(gap, env)
        if chain.additive:  # the sign of the slope is that of the noise in the gap
            turned = float(_sign(chain, a, b)) < 0
            z = -shift / slope
            return noise.cdf(z) if below != turned else noise.upper(z)
        safe = jnp.where(slope == 0, 1, slope)
        z = -shift / safe
        first, second = (noise.cdf, noise.upper) if below else (noise.upper, noise.cdf)
        moving = jnp.where(slope > 0, first(z), second(z))
        fixed = (shift < 0) if below else (shift > 0)
        return jnp.where(slope == 0, fixed.astype(moving.dtype), moving)

    return Law(part, jump.index, "event", {"p": probability}, inputs)


def _sign(chain: Chain, a: Any, b: Any) -> Any:
    """Of the slope of a - b, where the noise is only shifted and turned over."""
    signs: dict[Any, int] = {chain.source: 1}
    for i in chain.steps:
        eqn = chain.part.eqns[i]
        turned = eqn.primitive.name == "neg"
        if eqn.primitive.name == "sub":
            turned = isinstance(eqn.invars[0], Literal) or eqn.invars[0] not in signs
        on_it = next(v for v in eqn.invars if not isinstance(v, Literal) and v in signs)
        signs[eqn.outvars[0]] = -signs[on_it] if turned else signs[on_it]
    of = lambda v: 0 if isinstance(v, Literal) else signs.get(v, 0)  # noqa: E731
    return of(a) - of(b)


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


def argmax(jump: Jump, source: Any, uses: Uses) -> Law | None:
    """`argmax(logits + gumbel(key))`."""
    if jump.eqn.primitive.name != "argmax":
        return None
    chain = Chain.to(jump.program, uses, source, jump.index)
    (a,) = jump.eqn.invars
    if chain is None or chain.draw.params["family"] != "gumbel":
        return None
    if not chain.additive or _sign(chain, a, None) != 1:
        return None
    inputs = chain.inputs(a)

    def logits(_: Any, *values: Any) -> Any:
        env = dict(zip(inputs, values, strict=True))
        return chain.affine(lambda z: chain.run(z, env, [a])[0], env)[0]

    (axis,) = jump.eqn.params["axes"]
    static = (("axis", axis),)
    return Law(
        jump.program, jump.index, "perturbed_argmax", {"logits": logits}, inputs, static, False
    )


def rounded(jump: Jump, source: Any, uses: Uses) -> Law | None:
    """`floor(log(uniform(key)) / log1p(-p))`."""
    part, name = jump.program, jump.eqn.primitive.name
    to_integer = name == "convert_element_type" and jnp.issubdtype(
        jump.eqn.params["new_dtype"], jnp.integer
    )
    if name not in {"floor", "ceil", "round"} and not to_integer:
        return None
    chain = Chain.to(part, uses, source, jump.index, INVERTIBLE)
    if chain is None:
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

    static = (("event_ndim", 0),)
    return Law(part, jump.index, "sampler", {"log_prob": log_prob}, inputs, static)


def counted(jump: Jump, source: Any, uses: Uses) -> Law | None:
    """`sum(cumsum(p) < uniform(key))`."""
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
    return Law(part, at, "perturbed_argmax", {"logits": logits}, [thresholds], static, False)


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


def density(part: Program, source: Any, active: set[Any], uses: Uses) -> Law | None:
    """`mean + scale * normal(key)`, whatever becomes of it."""
    chain = Chain.longest(part, uses, source)
    family = chain.draw.params["family"]
    inputs = chain.inputs()
    if not chain.steps or active.isdisjoint(inputs) or NOISE[family].log_density is None:
        return None
    end = part.eqns[chain.steps[-1]].outvars[0]

    def affine(*values: Any) -> tuple[Any, Any]:
        env = dict(zip(inputs, values, strict=True))
        return chain.affine(lambda z: chain.run(z, env, [end])[0], env)

    operands = {"loc": lambda _, *v: affine(*v)[0], "scale": lambda _, *v: affine(*v)[1]}
    return Law(part, chain.steps[-1], "density", operands, inputs, (("noise", family),))
