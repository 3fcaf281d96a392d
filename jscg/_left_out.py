"""The costs of particles without one of them, as numbers: see `_particles`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ._at_means import Fixed, again, finite
from ._cells import aligned_axes
from ._frame import Frame
from ._nodes import StochasticNode
from ._objective import slopes_of
from ._particles import Particles
from ._relation import Relation
from ._weights import box


def left_out_terms(rw: Any, frame: Frame) -> Iterator[Any]:
    """One term of value zero for every draw of particles: it subtracts the draw's baseline."""
    every: dict[StochasticNode, Particles] = rw.plan.particles
    if not every:
        return
    slopes = slopes_of(rw, frame, (c.atom for p in every.values() for c in p.relations))
    known: dict[Any, dict[Any, Any]] = {}
    for node, particles in every.items():
        runs = known.setdefault(particles.runs, {})
        if not runs:
            runs |= _without_each(frame, particles, slopes)
        b = sum(
            _laid_out(particles, relation, runs[cost.atom])
            for cost, relation in particles.relations.items()
        )
        yield jnp.sum(b * (1.0 - box(frame.raw[node])))


def _without_each(frame: Frame, particles: Particles, slopes: dict[Any, Any]) -> dict[Any, Any]:
    """What costs add to the objective, for every particle with the mean of the others for it."""
    count, eqns = particles.count, [frame.program.eqns[i] for i in particles.tail]
    wanted = [v for eqn in eqns for v in eqn.outvars if v in slopes]

    def without(k):
        inner = Frame(frame.program, Fixed(frame.read), {}, frame.scope, {}, None)
        for v, place in particles.cut.items():
            value = inner.read(v)
            here = lax.broadcasted_iota(jnp.int32, value.shape, place) == k
            # A weight of zero has an infinite logarithm, which must not be subtracted from a sum.
            others = _wide(jnp.where(here, 0, value))
            mean = jnp.sum(others, place, keepdims=True) / (count - 1)
            inner.env[v] = jnp.where(here, mean.astype(value.dtype), value)
        for eqn in eqns:
            made = again(eqn, [inner.read(v) for v in eqn.invars])
            inner.env.update(zip(eqn.outvars, made, strict=True))
        return [_wide(inner.env[v]) * _wide(slopes[v]) for v in wanted]

    found = jax.vmap(without)(jnp.arange(count))
    return dict(zip(wanted, map(finite, found), strict=True))


def _laid_out(particles: Particles, relation: Relation, value: Any) -> Any:
    """What a cost adds, [particles, *shape of the cost], with all axes of the draw.

    Those of the cost along which the draw is not aligned with it are summed.
    """
    node = particles.node
    places = {i: own for own, i in aligned_axes(node, relation, value.shape[1:]).items()}
    value = jnp.sum(value, tuple(1 + i for i in range(value.ndim - 1) if i not in places))
    axes = [particles.axis, *(places[i] for i in sorted(places))]
    value = value.transpose(np.argsort(axes))
    return jnp.expand_dims(value, [a for a in range(len(node.shape)) if a not in axes])


def _wide(x: Any) -> Any:
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
