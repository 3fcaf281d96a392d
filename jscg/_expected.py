"""Costs replaced by their exact expectation over a draw."""

from __future__ import annotations

import functools
import itertools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._compat import bind
from ._costs import CostNode
from ._enumerable import Enumeration
from ._frame import Expectation, Frame
from ._indices import SYMBOLIC, Pieces, fold
from ._primitives import MARKS, replay
from ._program import Literal
from ._sharding import like
from ._uniform import KEPT, Stack, Uniform, for_each
from ._weights import LogProb

# Outcomes of a draw that are a copy of the way to the cost each, where what is known leaves little
# of it; and how many equations all copies may be, each of which XLA compiles.
UNROLLED, MOST_COPIED = 2, 256
SUMS_AND_PRODUCTS = {"add", "add_any", "sub", "neg", "mul", "square", "reduce_sum", "dot_general"}


def expected(rw: Any, frame: Frame, cost: CostNode, enumerations: list[Enumeration]) -> Expectation:
    """The expectation of a cost over the draws that are enumerated."""
    path = sorted({i for e in enumerations for i in e.path})
    shape, dtype = tuple(cost.atom.aval.shape), cost.atom.aval.dtype
    *_, last = enumerations = sorted(enumerations, key=lambda e: e.outcomes)
    # At most: of the last draw, more outcomes are one copy anyway.
    copies = math.prod(e.outcomes for e in enumerations[:-1]) * min(last.outcomes, UNROLLED)
    together = enumerations if copies * len(path) > MOST_COPIED else [last]
    times, pieces = jnp.multiply, Pieces()
    if not all(polynomial(frame.program.eqns[i]) for i in path):
        times = finite_product

    def at(drawn: dict[Any, Any]) -> Any:
        env = dict(drawn)

        def replaced(atom):
            return not isinstance(atom, Literal) and atom in env

        def read(atom):
            return env[atom] if replaced(atom) else frame.read(atom)

        def told(atom):
            known = None if replaced(atom) else frame.known[atom]
            return read(atom) if known is None else known

        def filled(atom):
            value = read(atom)
            return value.fill(atom.aval) if isinstance(value, SYMBOLIC) else value

        for index in path:
            eqn = frame.program.eqns[index]
            folded = fold(eqn, [told(v) for v in eqn.invars], pieces)
            if folded is not None:
                env[eqn.outvars[0]] = folded
                continue
            args = [filled(v) for v in eqn.invars]
            outs = for_each(functools.partial(_run, eqn), args)
            env.update(zip(eqn.outvars, outs, strict=True))
        value = read(cost.atom)
        zero = isinstance(value, Uniform) and np.all(value.number == 0)
        return None if zero else filled(cost.atom)

    def chance(e: Enumeration, axes: tuple[int, ...], p: jax.Array) -> jax.Array:
        return LogProb(p, axes).lay_out(e.relation, shape).astype(dtype)

    def over(rest: list[Enumeration], drawn: dict[Any, Any]) -> list[tuple[Any, Any]]:
        """Probabilities and values of all outcomes; no value is zero for certain."""
        if rest == together and math.prod(e.outcomes for e in rest) > UNROLLED:
            return all_at_once(rest, drawn)
        first, *others = rest
        values, probs, axes = outcomes(rw, frame, first)
        known = isinstance(values, np.ndarray)
        found = []
        for x, p in zip(values, probs, strict=True):
            inner = drawn | {first.node.var: Uniform(x) if known else x}
            value = total(over(others, inner)) if others else at(inner)
            if value is not None:
                found.append((chance(first, axes, p), value))
        return found

    def all_at_once(rest: list[Enumeration], drawn: dict[Any, Any]) -> list[tuple[Any, Any]]:
        """The same by one copy of the path, of stacks of all joint outcomes."""
        places = np.indices([e.outcomes for e in rest]).reshape(len(rest), -1)
        inner, chances = dict(drawn), []
        for e, place in zip(rest, places, strict=True):
            values, probs, axes = outcomes(rw, frame, e)
            probs = jax.vmap(functools.partial(chance, e, axes))(jnp.asarray(probs))
            if len(rest) > 1:  # of one draw, the places are all of them in order
                values, probs = values[place], probs[place]
            known = isinstance(values, np.ndarray)
            inner[e.node.var] = Uniform(values) if known else Stack(values)
            chances.append(probs)
        value = at(inner)
        if value is None:
            return []
        whole = value.array if isinstance(value, Stack) else value
        whole = jnp.broadcast_to(whole, (places.shape[1], *shape))
        return [(functools.reduce(jnp.multiply, chances), whole)]

    def total(found: list[tuple[Any, Any]]) -> Any:
        products = [times(*each) for each in found]
        sums = [jnp.sum(x, 0) if x.ndim > len(shape) else x for x in products]
        return functools.reduce(jnp.add, sums) if sums else None

    found = over(enumerations, {})
    if not found:
        return Expectation(*[jnp.zeros(shape, dtype)] * 2)
    own = rw.plan.fitted.keys() & {e.node for e in enumerations}
    frozen = total([(p, lax.stop_gradient(value)) for p, value in found]) if own else None
    return Expectation(total(found), frozen)


def polynomial(eqn: Any) -> bool:
    """Whether a result is as finite as the operands.

    A cost that only such equations make of a draw is finite for all of its outcomes or for none.
    """
    if eqn.primitive.name == "convert_element_type":
        kinds = [v.aval.dtype for v in (*eqn.outvars, *eqn.invars)]
        return jnp.issubdtype(kinds[0], jnp.inexact) or not jnp.issubdtype(kinds[1], jnp.inexact)
    return eqn.primitive.name in SUMS_AND_PRODUCTS | KEPT


@jax.jit
def finite_product(prob: jax.Array, value: jax.Array) -> jax.Array:
    """Their product; an impossible outcome adds nothing, not even 0 * inf."""
    counts = (prob != 0) | jnp.isfinite(value)
    return prob * lax.select(counts, value, jnp.zeros_like(value))


def outcomes(rw: Any, frame: Frame, e: Enumeration) -> tuple[Any, Any, tuple[int, ...]]:
    """The joint outcomes of a draw, and the probability of each on the draw's aligned axes.

    Returns:
      For every outcome the number that all elements are, a vector of NumPy, or the value of the
      draw; for every outcome the probability; and which axes of the draw those of these are.
    """
    node, scorer = e.node, rw.scorers[e.node]
    if node not in frame.supports:
        assert node.outcomes is not None
        of_few = node.outcomes <= UNROLLED
        frame.supports[node] = scorer.support(frame.read) if of_few else scorer.table(frame.read)
    values, probs = frame.supports[node]
    aval, shape, dtype = node.var.aval, node.shape, node.var.aval.dtype
    axes = tuple(len(node.loops) + a for a in e.aligned)
    if len(e.aligned) == len(shape):  # one outcome for each element: no joint ones
        return values.astype(dtype), probs, axes
    mixed = [a for a in range(len(shape)) if a not in e.aligned]
    small = [1 if a in e.aligned else n for a, n in enumerate(shape)]
    count = math.prod(small)
    ways = np.array(list(itertools.product(range(len(values)), repeat=count)), int)
    table = jnp.moveaxis(jnp.asarray(probs), [1 + a for a in mixed], range(-len(mixed), 0))
    table = table.reshape(*table.shape[: 1 + len(axes)], count)
    joint = functools.reduce(jnp.multiply, [table[ways[:, m], ..., m] for m in range(count)])
    each = jnp.asarray(values[ways].reshape(-1, *small).astype(dtype))
    return jax.vmap(lambda x: like(jnp.broadcast_to(x, shape), aval))(each), joint, axes


def _run(eqn: Any, *args: Any) -> list[Any]:
    if eqn.primitive.name == "draw":
        return [replay(*args, **eqn.params)]
    return list(args[:1]) if eqn.primitive.name in MARKS else bind(eqn, *args)
