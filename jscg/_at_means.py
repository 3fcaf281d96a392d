"""Runs at the means, as numbers: see `_mean_field` for what is run, and why."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ._compat import bind
from ._first_order import is_float
from ._frame import Frame
from ._mean_field import MeanRun
from ._nodes import PATHWISE
from ._primitives import MARKS, replay
from ._relaxed import run_lifted
from ._sharding import like

_ANY = 0  # of the outcomes, in the place of a draw


class AtMeans(NamedTuple):
    """What a run gives for its draw.

    Attributes:
      costs: at the means.
      drawn: for every element of the draw, its slope times its sample.
      expected: the same of its mean; only its probabilities are differentiable.
    """

    costs: dict[Any, Any]
    drawn: jax.Array
    expected: jax.Array


def at_means(rw: Any, frame: Frame, run: MeanRun, costs: Iterable[Any], slopes: Any) -> AtMeans:
    """Runs what is below a draw once more.

    Args:
      rw: the rewriter.
      frame: of the outermost program, that has been run.
      run: which run.
      costs: the variables whose values at the means are wanted.
      slopes: what each of them is multiplied by in the objective.
    """
    costs, scorer = list(costs), rw.scorers[run.node]
    outcomes, chances = scorer.support(frame.read)

    def objective(weights: list[jax.Array]) -> tuple[jax.Array, list[Any]]:
        inner = _run(rw, frame, run, outcomes[_ANY], weights)
        found = [inner.read(v) for v in costs]
        each = [jnp.sum(x * slopes[v]) for v, x in zip(costs, found, strict=True)]
        return sum(each, jnp.float32(0)), found

    slope, found = lax.stop_gradient(jax.grad(objective, has_aux=True)(lax.stop_gradient(chances)))
    slope, value = [finite(s) for s in slope], frame.env[run.node.var]
    chosen = [
        jnp.where(value == x.astype(value.dtype), s, 0)
        for s, x in zip(slope, outcomes, strict=True)
    ]
    expected = [s * p for s, p in zip(slope, chances, strict=True)]
    at = dict(zip(costs, found, strict=True))
    return AtMeans(at, functools.reduce(jnp.add, chosen), functools.reduce(jnp.add, expected))


def _run(rw: Any, frame: Frame, run: MeanRun, outcome: Any, weights: list[jax.Array]) -> Frame:
    """The frame of a run, with these weights of the outcomes of its draw."""
    program, node = frame.program, run.node
    inner = Frame(program, _Fixed(frame.read), {}, frame.scope, {}, None)
    # No number depends on what was drawn, whatever the edges are.
    aval = node.var.aval
    inner.env[node.var] = like(jnp.full(aval.shape, outcome, aval.dtype), aval)
    inner.relaxed[node] = weights
    at_their_means = {n.position: n for n in run.below}
    pathwise = {n.position for n in rw.plan.nodes if n.verdict == PATHWISE and n.program is program}
    for index in [node.position, *run.path]:
        eqn = program.eqns[index]
        if index != node.position:
            args = [inner.read(v) for v in eqn.invars]
            inner.env.update(zip(eqn.outvars, _again(eqn, args, index in pathwise), strict=True))
        if index in at_their_means:
            below = at_their_means[index]
            _, inner.relaxed[below] = rw.scorers[below].support(inner.read)
        if index in run.lifted:
            run_lifted(inner, eqn)
        if index in run.edges:
            edge = run.edges[index]
            edge.run(inner, rw.scorers[edge.node])
    return inner


def _again(eqn: Any, args: list[Any], pathwise: bool) -> list[Any]:
    """Runs an equation again, a draw with the same key."""
    if eqn.primitive.name != "draw":
        return args[:1] if eqn.primitive.name in MARKS else bind(eqn, *args)
    if not pathwise:
        args = [lax.stop_gradient(x) if is_float(x) else x for x in args]
    return [replay(*args, **eqn.params)]


def finite(x: Any) -> Any:
    """Zeros where it has overflowed, or has no number at the means."""
    return jnp.where(jnp.isfinite(x), x, 0)


class _Fixed(dict):
    """Values as they were, without their derivatives, until they are computed anew."""

    def __init__(self, read: Callable[[Any], Any]):
        super().__init__()
        self._read = read

    def __missing__(self, atom: Any) -> Any:
        value = self._read(atom)
        return lax.stop_gradient(value) if is_float(value) else value
