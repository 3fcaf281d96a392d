"""What the fitted baselines of a program add to its surrogate."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ._at_means import at_means
from ._fitted import Fitted
from ._frame import Expectation, Frame
from ._program import Literal
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
    atoms = list({t.atom: None for f in rw.plan.fitted.values() for t in f.terms})
    values = [lax.stop_gradient(frame.env[a]) for a in atoms]

    def objective(values):
        return _combine(rw, frame, dict(zip(atoms, values, strict=True)))

    total, pull = jax.vjp(objective, values)
    (slopes,) = pull(jnp.ones_like(total))
    out = {}
    for atom, value, slope in zip(atoms, values, slopes, strict=True):
        mean = frame.expectations.get(atom, Expectation(value, None))
        out[atom] = Values(lax.stop_gradient(slope), value, mean.value, mean.frozen)
    return out


def _combine(rw: Any, frame: Frame, terms: dict[Any, Any]) -> Any:
    """The objective as a sum of its terms, without weights."""
    made, linear = dict(terms), rw.shadows.linear

    def operand(v: Any, follow: bool) -> Any:
        known = follow and not isinstance(v, Literal) and v in made
        return made[v] if known else frame.read(v)

    for eqn in frame.program.eqns:
        for var in eqn.outvars:
            if var in linear and var not in made:
                args = [operand(v, i in linear[var]) for i, v in enumerate(eqn.invars)]
                made[var] = rw.bind_linear(eqn, args)[eqn.outvars.index(var)]
    return made[frame.program.outvars[0]]
