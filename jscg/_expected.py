"""Costs replaced by their exact expectation over a draw."""

from __future__ import annotations

import functools
import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np

from ._compat import bind
from ._costs import CostNode
from ._enumerable import Enumeration
from ._frame import Frame
from ._primitives import MARKS, replay
from ._program import Literal
from ._weights import LogProb


def expected(rw: Any, frame: Frame, cost: CostNode, enumerations: list[Enumeration]) -> Any:
    """The expectation of a cost over the draws that are enumerated."""
    path = sorted({i for e in enumerations for i in e.path})
    shape = tuple(cost.atom.aval.shape)

    def at(drawn: dict[Any, Any]) -> Any:
        env = dict(drawn)

        def read(atom):
            return (
                env[atom] if not isinstance(atom, Literal) and atom in env else (frame.read(atom))
            )

        for index in path:
            eqn = frame.program.eqns[index]
            args = [read(v) for v in eqn.invars]
            if eqn.primitive.name == "draw":
                outs = [replay(*args, **eqn.params)]
            elif eqn.primitive.name in MARKS:
                outs = args[:1]
            else:
                outs = bind(eqn, *args)
            env.update(zip(eqn.outvars, outs, strict=True))
        return read(cost.atom)

    def over(rest: list[Enumeration], drawn: dict[Any, Any]) -> Any:
        if not rest:
            return at(drawn)
        first, *others = rest
        values, probs = outcomes(rw, frame, first)

        def term(x, p):
            weight = p.lay_out(first.relation, shape).astype(cost.atom.aval.dtype)
            inner = over(others, drawn | {first.node.var: x})
            # An impossible outcome adds nothing, not even 0 * inf.
            return weight * jnp.where((weight == 0) & ~jnp.isfinite(inner), 0, inner)

        terms = [term(x, LogProb(p, probs.axes)) for x, p in zip(values, probs.array, strict=True)]
        return functools.reduce(jnp.add, terms)

    return over(enumerations, {})


def outcomes(rw: Any, frame: Frame, e: Enumeration) -> tuple[list[Any], LogProb]:
    """The joint outcomes of a draw, and their probabilities on its aligned axes."""
    node = e.node
    values, probs = rw.scorers[node].support(frame.read)
    mixed = [a for a in range(len(node.shape)) if a not in e.aligned]
    sizes = [node.shape[a] for a in mixed]
    count = int(np.prod(sizes, dtype=int))
    if len(e.aligned) == len(node.shape):  # one outcome for each element: no joint ones
        axes = tuple(len(node.loops) + a for a in e.aligned)
        drawn = [jnp.full(node.var.aval.shape, v, node.var.aval.dtype) for v in values]
        return drawn, LogProb(probs, axes)
    ways = np.array(list(itertools.product(range(len(values)), repeat=count)), int)
    probs = jnp.moveaxis(probs, [1 + a for a in mixed], range(-len(mixed), 0))
    probs = probs.reshape(*probs.shape[: 1 + len(e.aligned)], count)
    joint = functools.reduce(jnp.multiply, [probs[ways[:, m], ..., m] for m in range(count)])
    axes = tuple(len(node.loops) + a for a in e.aligned)
    small = [1 if a in e.aligned else node.shape[a] for a in range(len(node.shape))]
    drawn = [
        jnp.broadcast_to(values[way].reshape(small), node.var.aval.shape).astype(
            node.var.aval.dtype
        )
        for way in ways
    ]
    return drawn, LogProb(joint, axes)
