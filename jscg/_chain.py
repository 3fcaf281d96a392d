"""The way from a draw of noise to what the program looks at, as a function that can be inverted."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._compat import bind
from ._program import MOVES, Literal, Program, Uses
from ._sharding import zeros
from .draws import FAMILIES

ADDITIVE = {"add", "add_any", "sub", "neg", "convert_element_type"} | MOVES
AFFINE = ADDITIVE | {"mul", "div"}
INVERTIBLE = AFFINE | {"exp", "log", "log1p", "expm1", "logistic", "sqrt"}


class Chain:
    """A way from one draw: every element of each step has its own element of the draw.

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
    def to(cls, part: Program, uses: Uses, source: Any, end: int, allowed=AFFINE) -> Chain | None:
        """All ways from a draw, by allowed operations, if they all end in one equation."""
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
        walked = all(chain.is_step(part.eqns[i], allowed) for i in chain.steps)
        reached = not chain.inside.isdisjoint(variables(part.eqns[end]))
        return chain if walked and reached else None

    @classmethod
    def longest(cls, part: Program, uses: Uses, source: Any) -> Chain:
        """The way from a draw that can be inverted, as far as nobody looks at what stands on it."""
        chain, v = cls(part, uses, source), source
        while v not in uses.outputs and len(readers := uses.consumers.get(v, ())) == 1:
            eqn = part.eqns[readers[0]]
            if not chain.is_step(eqn, INVERTIBLE):
                break
            v = eqn.outvars[0]
            chain.steps.append(readers[0])
            chain.inside.add(v)
        return chain

    def upto(self, count: int) -> Chain:
        """The first steps of a way that does not fork."""
        chain = copy.copy(self)
        chain.steps = self.steps[:count]
        chain.inside = {self.source} | {self.part.eqns[i].outvars[0] for i in chain.steps}
        return chain

    def is_step(self, eqn: Any, allowed: set[str]) -> bool:
        """Whether an equation goes on from one value on the way, element by element."""
        name, out = eqn.primitive.name, eqn.outvars[0]
        on_it = [not isinstance(v, Literal) and v in self.inside for v in eqn.invars]
        same = jnp.issubdtype(out.aval.dtype, jnp.floating) and all(
            v.aval.size == out.aval.size for v, on in zip(eqn.invars, on_it, strict=True) if on
        )
        if name in {"mul", "add", "add_any", "sub"}:
            return same and sum(on_it) == 1
        return same and name in allowed and on_it[0] and not any(on_it[1:])

    @property
    def additive(self) -> bool:
        """Whether the noise is shifted only, and perhaps turned over."""
        return all(self.part.eqns[i].primitive.name in ADDITIVE for i in self.steps)

    def sign(self, a: Any, b: Any = None) -> int:
        """Of the slope of a - b, where the noise is only shifted and turned over."""
        signs: dict[Any, int] = {self.source: 1}
        for i in self.steps:
            eqn = self.part.eqns[i]
            turned = eqn.primitive.name == "neg"
            if eqn.primitive.name == "sub":
                turned = isinstance(eqn.invars[0], Literal) or eqn.invars[0] not in signs
            on_it = next(v for v in eqn.invars if not isinstance(v, Literal) and v in signs)
            signs[eqn.outvars[0]] = -signs[on_it] if turned else signs[on_it]
        of = lambda v: 0 if isinstance(v, Literal) else signs.get(v, 0)  # noqa: E731
        return of(a) - of(b)

    def inputs(self, *ends: Any) -> list[Any]:
        """What is read on the way and at its ends, the bounds of the draw included."""
        read = [v for i in self.steps for v in variables(self.part.eqns[i])]
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

    def back(self, end: Any, value: Any, env: dict[Any, Any]) -> Any:
        """The noise, on its own scale, at which the way arrives at a value of `end`."""
        read = lambda v: v.val if isinstance(v, Literal) else env[v]  # noqa: E731
        made = {self.part.eqns[i].outvars[0]: self.part.eqns[i] for i in self.steps}
        while end is not self.source:
            eqn = made[end]
            place = next(
                i
                for i, v in enumerate(eqn.invars)
                if not isinstance(v, Literal) and v in self.inside
            )
            others = [read(v) for i, v in enumerate(eqn.invars) if i != place]
            end = eqn.invars[place]
            value = _undo(eqn, value, others, place).reshape(end.aval.shape)
        if self.draw.params["family"] == "uniform" and not self.standard:
            low, high = self.bounds(env)
            value = (value - low) / (high - low)
        return value

    def operands(self, env: dict[Any, Any]) -> dict[str, Any]:
        """The parameters of the draw, by their names in its signature."""
        known = FAMILIES[self.draw.params["family"]].operands
        static = {k: v for k, v in self.draw.params["static"] if k in known}
        values = (env[v] for v in self.draw.invars[1:])
        return static | dict(zip(self.draw.params["names"], values, strict=True))

    def bounds(self, env: dict[Any, Any]) -> tuple[Any, Any]:
        """Of a uniform draw."""
        given = self.operands(env)
        return given.get("minval", 0.0), given.get("maxval", 1.0)

    def affine(self, fun: Callable[[Any], Any], env: dict[Any, Any]) -> tuple[Any, Any]:
        """`fun(noise) = shift + slope * z`, with z the noise on its own scale."""
        zero = zeros(self.source.aval)
        shift, slope = jax.jvp(fun, (zero,), (jnp.ones_like(zero),))
        if self.draw.params["family"] != "uniform" or self.standard:
            return shift, slope
        low, high = self.bounds(env)
        at_low, at_high = fun(zero + low), fun(zero + high)
        return at_low, at_high - at_low


def variables(eqn: Any) -> list[Any]:
    return [v for v in eqn.invars if not isinstance(v, Literal)]


def _undo(eqn: Any, y: Any, others: list[Any], place: int) -> Any:
    """The operand of an operation that is on the way, by its result."""
    name = eqn.primitive.name
    if name == "transpose":
        return jnp.transpose(y, np.argsort(eqn.params["permutation"]).tolist())
    if name in {"add", "add_any"}:
        return y - others[0]
    if name == "sub":
        return y + others[0] if place == 0 else others[0] - y
    if name == "mul":
        return y / others[0]
    if name == "div":
        return y * others[0]
    inverse = {
        "neg": lambda y: -y,
        "exp": _log,
        "log": jnp.exp,
        "log1p": jnp.expm1,
        "expm1": lambda y: _log(1 + y),
        "logistic": lambda y: _log(y) - _log(1 - y),
        "sqrt": lambda y: jnp.square(lax.max(y, jnp.zeros_like(y))),
    }.get(name)
    return y if inverse is None else inverse(y)


def _log(y: Any) -> Any:
    """The logarithm; of what is never reached, as good as minus infinity, and no NaN after it."""
    return jnp.where(y > 0, jnp.log(jnp.where(y > 0, y, 1)), -1e18)
