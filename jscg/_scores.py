"""Log-probs and supports of draws, at the parameters as the program shows them.

Where the program computes a probability as `sigmoid(l)`, the log-prob is taken of the logits l
(and of p for the logits log(p)): the score is then right where p rounds to 0 or 1.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._compat import bind
from ._nodes import StochasticNode
from ._program import MOVES, Literal
from .draws._family import each

# What may stand between a sigmoid and the draw without changing the numbers.
_MOVES = MOVES | {"slice", "convert_element_type"}


@dataclasses.dataclass(eq=False)
class ScoreInput:
    """One parameter for the log-prob: `moves` applied to a variable of the program.

    Attributes:
      name: under which the log-prob takes it ("p" or "logits").
      operand: which operand of the draw it stands for; None for a plain Python number.
      atom: the variable (or the number).
      moves: equations to apply, first to last.
    """

    name: str
    operand: int | None
    atom: Any
    moves: list[Any]


def score_inputs(node: StochasticNode, producers: dict[Any, int]) -> list[ScoreInput]:
    """Finds for each parameter of a draw the best form that the program shows."""
    names = node.eqn.params["names"]
    inputs = []
    for name, atom in node.operands().items():
        operand = names.index(name) if name in names else None
        found = ScoreInput(name, operand, atom, [])
        if operand is not None and not isinstance(atom, Literal):
            found = _shown(node, found, producers)
        inputs.append(found)
    return inputs


def _shown(node: StochasticNode, plain: ScoreInput, producers: dict[Any, int]) -> ScoreInput:
    forms = {made: new for (name, made), new in node.rule.forms.items() if name == plain.name}
    atom, moves = plain.atom, []
    while not isinstance(atom, Literal) and atom in producers:
        eqn = node.program.eqns[producers[atom]]
        made = eqn.primitive.name
        if made in forms:
            return ScoreInput(forms[made], plain.operand, eqn.invars[0], moves)
        if made == "div" and "softmax" in forms:
            exponent = _softmax_exponent(node, eqn, producers)
            if exponent is not None:
                return ScoreInput(forms["softmax"], plain.operand, exponent, moves)
        if made not in _MOVES or not jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.floating):
            break
        moves.insert(0, eqn)
        atom = eqn.invars[0]
    return plain


def _softmax_exponent(node: StochasticNode, eqn: Any, producers: dict[Any, int]) -> Any:
    """u, if a quotient is exp(u) / sum(exp(u))."""
    top, below = eqn.invars

    def made_by(atom):
        known = not isinstance(atom, Literal) and atom in producers
        return node.program.eqns[producers[atom]] if known else None

    while (step := made_by(below)) is not None and step.primitive.name in _MOVES:
        below = step.invars[0]
    exp = made_by(top)
    if exp is None or exp.primitive.name != "exp" or step is None:
        return None
    summed = step.primitive.name == "reduce_sum" and step.invars[0] is top
    last = summed and tuple(step.params["axes"]) == (len(top.aval.shape) - 1,)
    return exp.invars[0] if last else None


class Scorer:
    """The log-prob and the support of one draw as functions of the program's values."""

    def __init__(self, node: StochasticNode, producers: dict[Any, int]):
        self.node = node
        self.inputs = score_inputs(node, producers)

    @property
    def atoms(self) -> list[Any]:
        """The variables that are read."""
        return [i.atom for i in self.inputs if i.operand is not None]

    @property
    def dtype(self) -> Any:
        """The dtype of the log-prob."""
        kinds = [a.aval.dtype for a in self.atoms if jnp.issubdtype(a.aval.dtype, jnp.floating)]
        return jnp.result_type(jnp.float32, *kinds)

    def _values(self, read: Callable[[Any], Any]) -> tuple[dict[str, Any], list, list, list]:
        fixed, names, values, mapped = {}, [], [], []
        for i in self.inputs:
            if i.operand is None:
                fixed[i.name] = i.atom
                continue
            value = read(i.atom)
            for eqn in i.moves:
                (value,) = bind(eqn, value)
            names.append(i.name)
            values.append(value)
            mapped.append([level[1 + i.operand] for level in self.node.eqn.params["batch"]])
        return fixed, names, values, mapped

    def log_prob(self, x: jax.Array, read: Callable[[Any], Any]) -> jax.Array:
        """Log p(x), of the draw's shape, with `read` giving the program's values."""
        fixed, names, values, mapped = self._values(read)
        static, batch = self.node.eqn.params["static"], self.node.eqn.params["batch"]
        levels = tuple(
            (0, *(0 if m[level] else None for m in mapped)) for level in range(len(batch))
        )
        # Types as well, or the trace for p=1 would do for p=1.0.
        numbers = tuple((name, type(value), value) for name, value in fixed.items())
        call = (self.node.rule, static, numbers, tuple(names), levels, self.node.shape, self.dtype)
        return _log_prob(call, x, *values)

    def squared_score(self, x: jax.Array, read: Callable[[Any], Any]) -> jax.Array:
        """The square of the score, in the logits of the outcomes, or in each scored parameter."""
        if self.node.outcomes is not None:
            outcomes, p = self.table(read)
            hot = x == jnp.asarray(outcomes).astype(x.dtype).reshape(-1, *(1,) * x.ndim)
            return jnp.sum((hot - p) ** 2, 0)
        fixed = {a: read(a) for a in self.atoms}
        total = jnp.zeros(self.node.shape, self.dtype)
        for atom, value in fixed.items():
            if jnp.issubdtype(jnp.result_type(value), jnp.inexact):
                run = lambda v, atom=atom: self.log_prob(x, (fixed | {atom: v}).__getitem__)  # noqa: E731
                total += jax.jvp(run, (value,), (jnp.ones_like(value),))[1] ** 2
        return total

    def apply(self, fun: Callable[..., Any], arrays: tuple, read: Callable[[Any], Any]) -> Any:
        """`fun(*arrays, static, **operands)` for every element that vmap has made of the draw."""
        fixed, names, values, mapped = self._values(read)
        static = dict(self.node.eqn.params["static"])

        def each(*all_arrays):
            operands = dict(zip(names, all_arrays[len(arrays) :], strict=True))
            return fun(*all_arrays[: len(arrays)], static, **fixed, **operands)

        for level in reversed(range(len(self.node.eqn.params["batch"]))):
            axes = (*(0 for _ in arrays), *(0 if m[level] else None for m in mapped))
            each = jax.vmap(each, in_axes=axes)
        return each(*arrays, *values)

    def support(self, read: Callable[[Any], Any]) -> tuple[np.ndarray, list[jax.Array]]:
        """The outcomes, and the probability of each, of the draw's shape."""
        outcomes, probs = self.probabilities(read)
        return outcomes, [jnp.broadcast_to(p, self.node.shape) for p in probs]

    def probabilities(self, read: Callable[[Any], Any]) -> tuple[np.ndarray, list[jax.Array]]:
        """As `support`, of the shape that the parameters have, which broadcasts to the draw's."""
        outcomes, probs = self._support(read)
        return outcomes, each(probs)

    def table(self, read: Callable[[Any], Any]) -> tuple[np.ndarray, jax.Array]:
        """The outcomes, and the probability of each on a first axis before those of the draw."""
        outcomes, probs = self._support(read)
        table = jnp.stack(probs) if isinstance(probs, list) else jnp.moveaxis(probs, -1, 0)
        return outcomes, jnp.broadcast_to(table, (len(outcomes), *self.node.shape))

    def _support(self, read: Callable[[Any], Any]) -> tuple[np.ndarray, Any]:
        rule, static = self.node.rule, dict(self.node.eqn.params["static"])
        fixed, names, values, mapped = self._values(read)

        def fun(*operands):
            assert rule.support is not None
            return rule.support(static, **fixed, **dict(zip(names, operands, strict=True)))

        for level in reversed(range(len(self.node.eqn.params["batch"]))):
            axes = tuple(0 if m[level] else None for m in mapped)
            fun = _map_support(fun, axes)
        return fun(*values)


@functools.partial(jax.jit, static_argnums=0)
def _log_prob(call: tuple, x: jax.Array, *values: jax.Array) -> jax.Array:
    """The log-prob, traced once for all draws that are alike."""
    rule, static, numbers, names, levels, shape, dtype = call
    fixed = {name: value for name, _, value in numbers}

    def fun(x, *operands):
        return rule.log_prob(x, dict(static), **fixed, **dict(zip(names, operands, strict=True)))

    for axes in reversed(levels):
        fun = jax.vmap(fun, in_axes=axes)
    return jnp.broadcast_to(fun(x, *values), shape).astype(dtype)


def _map_support(fun, axes):
    if any(a == 0 for a in axes):
        return jax.vmap(fun, in_axes=axes, out_axes=(None, 0))

    def unmapped(*operands):
        outcomes, probs = fun(*operands)
        return outcomes, jax.tree.map(lambda p: p[None], probs)

    return unmapped
