"""Programs that would jump, mended: what a comparison of noise decides is a draw itself.

`uniform(key) < p` is a Bernoulli draw, `argmax(logits + gumbel(key))` a categorical one, and
`mean + scale * normal(key)` has a density.  A jump goes away where one of these takes the place of
the derivative through the sample:

* *event*: noise is compared, by an affine way on which nobody else looks, with what it does not
  influence: the outcome is Bernoulli, its probability a value of the distribution function;
* *argmax* of values to which Gumbel noise is added: the class is categorical;
* *density*: an affine function of the noise is what everybody else looks at: it is drawn, with the
  density of the noise by change of variables.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.extend.core as jex_core
import jax.numpy as jnp

from ._activity import active_variables, noisy_variables
from ._compat import bind
from ._errors import BiasError, where
from ._jumps import COMPARISONS, Jump, find_jumps
from ._primitives import draw_p
from ._program import Literal, Program, Uses, build, insert
from .draws.noise import NOISE

_MOVES = {"broadcast_in_dim", "reshape", "squeeze", "expand_dims", "transpose", "copy", "name"}
_ADDITIVE = {"add", "add_any", "sub", "neg", "convert_element_type"} | _MOVES
_AFFINE = _ADDITIVE | {"mul", "div"}


def mend(program: Program, inputs: list[bool], names: dict[Any, str], silent: set[Any]):
    """Takes the jumps out of a program, in place.

    Args:
      program: the program.
      inputs: for each of its inputs, whether the gradient is for it.
      names: of the draws, by their variables.
      silent: draws whose jumps the user allows.

    Returns:
      The active variables, and the draws of which others have been made.

    Raises:
      BiasError: where a jump cannot be mended.
    """
    before: set[Any] = set()
    while True:
        active = active_variables(program, inputs)
        noisy = noisy_variables(program, silent)
        jumps = find_jumps(program, active, noisy) if noisy else []
        if not jumps:
            return active, before
        uses = {part: Uses(part) for part in program.walk()}
        mended: dict[Any, Any] = {}
        for jump in jumps:
            _mend(jump, active, noisy, uses, mended)
        if mended.keys() <= before:
            raise _refuse(jumps[0], noisy, uses, names)
        before |= mended.keys()
        # From the last, so that the indices of those before stay.
        for replacement in sorted(mended.values(), key=lambda r: -r[1]):
            _replace(*replacement)


def _mend(jump: Jump, active: set[Any], noisy: set[Any], every: Any, mended: Any) -> None:
    for part, source in _sources(jump, noisy, every):
        if source in mended:  # for another jump
            return
        uses = every[part]
        eqn = part.eqns[uses.producers[source]]
        if not _usable(eqn):
            continue
        here = part is jump.program
        chain = _Chain.to(part, uses, source, jump.index) if here else None
        made = None
        if chain is not None and jump.eqn.primitive.name in COMPARISONS - {"eq", "ne"}:
            made = _event(part, jump, chain, uses)
        elif chain is not None and jump.eqn.primitive.name == "argmax":
            made = _argmax(jump, chain)
        at = jump.index
        if made is None:
            chain = _Chain.longest(part, uses, source)
            if chain.steps and not active.isdisjoint(chain.inputs(part)):
                made, at = _density(part, chain), chain.steps[-1]
        if made is not None:
            mended[source] = (part, at, *made)
            return


def _sources(jump: Jump, noisy: set[Any], every: Any) -> list[tuple[Program, Any]]:
    """The continuous draws that the operands of a jump depend on, each with its program."""
    out = []
    todo = [(jump.program, v) for v in _variables(jump.eqn)]
    seen: set[Any] = set()
    while todo:
        part, v = todo.pop()
        if v in seen or v not in noisy:
            continue
        seen.add(v)
        made = every[part].producers
        if v in made:
            eqn = part.eqns[made[v]]
            if eqn.primitive.name == "draw":
                out.append((part, v))
            todo += [(part, a) for a in _variables(eqn) if eqn.primitive.name != "draw"]
        elif (outer := part.operand(v)) is not None:
            todo.append((part.path[-2], outer))
    return out


def _usable(eqn: Any) -> bool:
    """Whether the elements of a draw are independent noise of a known law."""
    arrays = len(eqn.invars) > 1
    return (
        eqn.params["family"] in NOISE
        and all(level[0] for level in eqn.params["batch"])
        and not (arrays and eqn.params["batch"])
    )


class _Chain:
    """An affine way from one draw: every element of each step has its own element of the draw.

    Attributes:
      source: the draw.
      draw: its equation.
      steps: indices of the equations on the way, in order.
      inside: the variables on the way.
    """

    def __init__(self, part: Program, uses: Uses, source: Any):
        self.part, self.source = part, source
        self.draw = part.eqns[uses.producers[source]]
        self.steps: list[int] = []
        self.inside = {source}

    @classmethod
    def to(cls, part: Program, uses: Uses, source: Any, end: int) -> _Chain | None:
        """All ways from a draw, if they all end in one equation."""
        chain, todo = cls(part, uses, source), [source]
        while todo:
            v = todo.pop()
            if v in uses.outputs:
                return None
            for i in uses.consumers.get(v, ()):
                if i != end and i not in chain.steps:
                    chain.steps.append(i)
                    chain.inside.add(part.eqns[i].outvars[0])
                    todo.append(part.eqns[i].outvars[0])
        chain.steps.sort()
        affine = all(chain.is_affine(part.eqns[i]) for i in chain.steps)
        reached = not chain.inside.isdisjoint(_variables(part.eqns[end]))
        return chain if affine and reached else None

    @classmethod
    def longest(cls, part: Program, uses: Uses, source: Any) -> _Chain:
        """The way from a draw, as far as nobody looks at what stands on it."""
        chain, v = cls(part, uses, source), source
        while v not in uses.outputs and len(readers := uses.consumers.get(v, ())) == 1:
            eqn = part.eqns[readers[0]]
            if not chain.is_affine(eqn):
                break
            v = eqn.outvars[0]
            chain.steps.append(readers[0])
            chain.inside.add(v)
        return chain

    def is_affine(self, eqn: Any) -> bool:
        name, out = eqn.primitive.name, eqn.outvars[0]
        on_it = [not isinstance(v, Literal) and v in self.inside for v in eqn.invars]
        same = jnp.issubdtype(out.aval.dtype, jnp.floating) and all(
            v.aval.size == out.aval.size for v, on in zip(eqn.invars, on_it, strict=True) if on
        )
        if name == "mul" or name in {"add", "add_any", "sub"}:
            return same and sum(on_it) == 1
        return same and name in _AFFINE and on_it[0] and not any(on_it[1:])

    @property
    def additive(self) -> bool:
        """Whether the noise is shifted only, and perhaps turned over."""
        return all(self.part.eqns[i].primitive.name in _ADDITIVE for i in self.steps)

    def inputs(self, part: Program, *ends: Any) -> list[Any]:
        """What is read on the way and at its ends, the bounds of the draw included."""
        read = [v for i in self.steps for v in _variables(part.eqns[i])]
        read += [v for v in ends if not isinstance(v, Literal)] + self.draw.invars[1:]
        return [v for v in dict.fromkeys(read) if v not in self.inside]

    def run(self, noise: Any, env: dict[Any, Any], ends: list[Any]) -> list[Any]:
        """The values at the ends of the way, for a value of the noise."""
        env = env | {self.source: noise}
        read = lambda v: v.val if isinstance(v, Literal) else env[v]  # noqa: E731
        for i in self.steps:
            eqn = self.part.eqns[i]
            env[eqn.outvars[0]] = bind(eqn, *map(read, eqn.invars))[0]
        return [read(v) for v in ends]

    @property
    def standard(self) -> bool:
        """Whether a uniform draw is from 0 to 1."""
        static = dict(self.draw.params["static"])
        bounds = static.get("minval", 0.0), static.get("maxval", 1.0)
        return not self.draw.params["names"] and bounds == (0.0, 1.0)

    def bounds(self, env: dict[Any, Any]) -> tuple[Any, Any]:
        """Of a uniform draw."""
        given = dict(self.draw.params["static"])
        given |= zip(self.draw.params["names"], (env[v] for v in self.draw.invars[1:]), strict=True)
        return given.get("minval", 0.0), given.get("maxval", 1.0)

    def affine(self, fun: Callable[[Any], Any], env: dict[Any, Any]) -> tuple[Any, Any]:
        """`fun(noise) = shift + slope * z`, with z the noise on its own scale."""
        zero = jnp.zeros(self.source.aval.shape, self.source.aval.dtype)
        shift, slope = jax.jvp(fun, (zero,), (jnp.ones_like(zero),))
        if self.draw.params["family"] != "uniform" or self.standard:
            return shift, slope
        low, high = self.bounds(env)
        at_low, at_high = fun(zero + low), fun(zero + high)
        return at_low, at_high - at_low


def _variables(eqn: Any) -> list[Any]:
    return [v for v in eqn.invars if not isinstance(v, Literal)]


def _event(part: Program, jump: Jump, chain: _Chain, uses: Uses):
    a, b = jump.eqn.invars
    size = jump.eqn.outvars[0].aval.size
    if size != chain.source.aval.size:
        return None
    noise = NOISE[chain.draw.params["family"]]
    below = jump.eqn.primitive.name[:2] in {"lt", "le"}
    inputs = chain.inputs(part, a, b)
    # `uniform < sigmoid(l)` is scored at the logits.
    plain = not chain.steps and chain.draw.params["family"] == "uniform" and chain.standard
    plain = plain and len(inputs) == 1 and (a is chain.source) == below
    as_it_is = plain and _is_probability(part, inputs[0], uses)

    def probability(*values: Any) -> Any:
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

    return "event", (("p", probability),), inputs, ()


def _sign(chain: _Chain, a: Any, b: Any) -> Any:
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
        if eqn.primitive.name not in _MOVES | {"convert_element_type"}:
            return False
        v = eqn.invars[0]
        if isinstance(v, Literal):
            return False
    return False


def _argmax(jump: Jump, chain: _Chain):
    (a,) = jump.eqn.invars
    gumbel = chain.draw.params["family"] == "gumbel"
    if not gumbel or not chain.additive or _sign(chain, a, None) != 1:
        return None
    inputs = chain.inputs(jump.program, a)

    def logits(*values: Any) -> Any:
        env = dict(zip(inputs, values, strict=True))
        return chain.affine(lambda z: chain.run(z, env, [a])[0], env)[0]

    (axis,) = jump.eqn.params["axes"]
    return "perturbed_argmax", (("logits", logits),), inputs, (("axis", axis),)


def _density(part: Program, chain: _Chain):
    family = chain.draw.params["family"]
    end = part.eqns[chain.steps[-1]].outvars[0]
    if NOISE[family].log_density is None:
        return None
    inputs = chain.inputs(part)

    def affine(*values: Any) -> tuple[Any, Any]:
        env = dict(zip(inputs, values, strict=True))
        return chain.affine(lambda z: chain.run(z, env, [end])[0], env)

    loc, scale = (lambda *v: affine(*v)[0]), (lambda *v: affine(*v)[1])
    return "density", (("loc", loc), ("scale", scale)), inputs, (("noise", family),)


def _replace(part: Program, index: int, family: str, operands: Any, inputs: Any, static: Any):
    """Makes the result of an equation a draw of a family, with operands as functions of inputs."""
    eqn = part.eqns[index]
    out = eqn.outvars[0]
    made = jex_core.Var(out.aval)
    shape = None if family == "perturbed_argmax" else out.aval.shape

    def draw(value: Any, *values: Any) -> Any:
        arrays = [fun(*values) for _, fun in operands]
        if shape is not None:
            arrays = [jnp.broadcast_to(a, shape) for a in arrays]
        names = tuple(name for name, _ in operands)
        return draw_p.bind(value, *arrays, family=family, names=names, static=static, batch=())

    avals: list[Any] = [v.aval for v in (made, *inputs)]
    closed = jax.make_jaxpr(draw)(*(jax.ShapeDtypeStruct(a.shape, a.dtype) for a in avals))
    inner = build(closed)
    env = dict(zip(inner.invars, [*_constants(part, closed), made, *inputs], strict=True))
    eqns = [eqn.replace(outvars=[made])]
    for each in inner.eqns:
        outvars = [jex_core.Var(v.aval) for v in each.outvars]
        if each is inner.eqns[-1]:
            outvars = [out]
        env.update(zip(each.outvars, outvars, strict=True))
        invars = [v if isinstance(v, Literal) else env[v] for v in each.invars]
        eqns.append(each.replace(invars=invars, outvars=outvars, source_info=eqn.source_info))
    insert(part, index, eqns)


def _constants(part: Program, closed: Any) -> list[Any]:
    out = []
    for value in closed.consts:
        var = jex_core.Var(jax.typeof(value))
        part.consts[var] = value
        out.append(var)
    return out


def _refuse(jump: Jump, noisy: set[Any], every: Any, names: dict[Any, str]) -> BiasError:
    sources = _sources(jump, noisy, every)
    what = "a value"
    if sources:
        part, source = sources[0]
        eqn = part.eqns[every[part].producers[source]]
        name = names.get(source, eqn.params["family"])
        what = f"the draw {name!r} ({eqn.params['family']}) at {where(eqn)}"
    name = jump.eqn.primitive.name
    return BiasError(
        f"jscg: {what} and the parameters meet in {name!r} at {where(jump.eqn)}, which jumps: its "
        "derivative is zero wherever it exists, so that what the jump contributes to the gradient "
        "of the expectation would silently be lost.\n"
        "What to do instead:\n"
        "  - draw the outcome itself (jax.random.bernoulli, jax.random.categorical), or compare "
        "noise that is used for nothing else\n"
        "  - make the decision continuous (a sigmoid instead of a comparison)\n"
        "  - wrap what is compared in jax.lax.stop_gradient, if no gradient is wanted through it\n"
        "  - estimators={name of the draw: jscg.estimators.Pathwise(allow_jumps=True)} "
        "differentiates through the sample all the same, with that bias"
    )
