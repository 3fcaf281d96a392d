"""Runs at the means, as numbers: see `_mean_field` for what is run, and why."""

from __future__ import annotations

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
from ._thin import Thinner, one_of, samples_of
from ._uniform import Uniform

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
    fixed, equal = lax.stop_gradient(chances), 1
    if samples_of(run.node) > 1 and not run.lifted:
        thin = [one_of(p, 0).array for p in fixed]
        _, thinner = _run(rw, frame, run, outcomes[_ANY], thin)
        # Otherwise what differs from sample to sample would have one slope for all of them.
        if all(v in thinner.thin for v in costs):
            fixed, equal = thin, samples_of(run.node)
    edges = [edge for edge in run.edges.values() if edge.node is run.node]
    each = zip(*(edge.values(frame, scorer) for edge in edges), strict=True)
    counts = [not all(isinstance(x, Uniform) and not x.number for x in values) for values in each]

    def objective(weights: dict[int, jax.Array]) -> tuple[jax.Array, list[Any]]:
        every = [weights.get(k, p) for k, p in enumerate(fixed)]
        inner, _ = _run(rw, frame, run, outcomes[_ANY], every)
        found = [inner.read(v) for v in costs]
        each = [jnp.sum(x * slopes[v]) for v, x in zip(costs, found, strict=True)]
        return sum(each, jnp.float32(0)), found

    counting = {k: fixed[k] for k, more in enumerate(counts) if more}
    slope, found = lax.stop_gradient(jax.grad(objective, has_aux=True)(counting))
    value = frame.env[run.node.var]
    drawn = expected = jnp.zeros(run.node.shape, scorer.dtype)
    for k, s in slope.items():
        s = finite(s) / equal  # it is the sum over them
        drawn += jnp.where(value == outcomes[k].astype(value.dtype), s, 0)
        expected += s * chances[k]
    return AtMeans(dict(zip(costs, found, strict=True)), drawn, expected)


def _run(
    rw: Any, frame: Frame, run: MeanRun, outcome: Any, weights: list[jax.Array]
) -> tuple[Frame, Thinner]:
    """The frame of a run, with these weights of the outcomes of its draw."""
    program, node = frame.program, run.node
    inner = Frame(program, Fixed(frame.read), {}, frame.scope, {}, None)
    # No number depends on what was drawn, whatever the edges are.
    aval = node.var.aval
    inner.env[node.var] = like(jnp.full(aval.shape, outcome, aval.dtype), aval)
    inner.relaxed[node] = weights
    thinner = Thinner(program, run.path, inner.read)
    at_their_means = {n.position: n for n in run.below}
    pathwise = {n.position for n in rw.plan.nodes if n.verdict == PATHWISE and n.program is program}
    for index in [node.position, *run.path]:
        eqn = program.eqns[index]
        if index != node.position:
            made = thinner.run(index)
            if made is None:
                args = [inner.read(v) for v in eqn.invars]
                made = dict(zip(eqn.outvars, again(eqn, args, index in pathwise), strict=True))
            inner.env.update(made)
        if index in at_their_means:
            below = at_their_means[index]
            inner.relaxed[below] = thinner.support(below, rw.scorers[below])
        if index in run.lifted:
            run_lifted(inner, eqn)
        if index in run.edges:
            edge = run.edges[index]
            thinner.note(edge, edge.run(inner, rw.scorers[edge.node]))
    return inner, thinner


def again(eqn: Any, args: list[Any], pathwise: bool = False) -> list[Any]:
    """Runs an equation again, a draw with the same key."""
    if eqn.primitive.name != "draw":
        return args[:1] if eqn.primitive.name in MARKS else bind(eqn, *args)
    if not pathwise:
        args = [lax.stop_gradient(x) if is_float(x) else x for x in args]
    return [replay(*args, **eqn.params)]


def finite(x: Any) -> Any:
    """Zeros where it has overflowed, or has no number at the means."""
    return jnp.where(jnp.isfinite(x), x, 0)


class Fixed(dict):
    """Values as they were, without their derivatives, until they are computed anew."""

    def __init__(self, read: Callable[[Any], Any]):
        super().__init__()
        self._read = read

    def __missing__(self, atom: Any) -> Any:
        value = self._read(atom)
        return lax.stop_gradient(value) if is_float(value) else value
