"""What the fitted baselines of a program add to its surrogate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax.numpy as jnp
from jax import lax

from ._at_means import at_means
from ._fitted import Fitted
from ._frame import Expectation, Frame
from ._objective import slopes_of
from ._regression import Drawn, Values, fitted_term


def fitted_terms(rw: Any, frame: Frame) -> Iterator[Any]:
    """One term of value zero for all draws whose cells are the same."""
    together: dict[Any, list[Fitted]] = {}
    for fitted in rw.plan.fitted.values():
        together.setdefault((fitted.cells, fitted.shape), []).append(fitted)
    values = _values(rw, frame) if together else {}
    slopes = {atom: value.slope for atom, value in values.items()}
    means = {
        f.node: at_means(rw, frame, f.run, [t.atom for t in f.to_go], slopes)
        for f in rw.plan.fitted.values()
        if f.run
    }
    for fits in together.values():
        yield fitted_term(fits, values, means, [_drawn(rw, frame, f) for f in fits])


def _drawn(rw: Any, frame: Frame, fitted: Fitted) -> Drawn:
    baseline = rw.plan.baselines.get(fitted.node)
    log_prob = frame.raw[fitted.node]
    if baseline is None:
        return Drawn(log_prob, None, None)
    known = baseline.scale * baseline.laid_out(frame)
    learning = jnp.broadcast_to(baseline.learning(frame), log_prob.shape)
    return Drawn(log_prob, known, learning)


def _values(rw: Any, frame: Frame) -> dict[Any, Values]:
    """What is known of each term of the objective, by its variable."""
    slopes = slopes_of(rw, frame, (t.atom for f in rw.plan.fitted.values() for t in f.terms))
    out = {}
    for atom, slope in slopes.items():
        value = lax.stop_gradient(frame.env[atom])
        mean = frame.expectations.get(atom, Expectation(value, None))
        out[atom] = Values(slope, value, mean.value, mean.frozen)
    return out
