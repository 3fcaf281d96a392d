"""The objective as a sum of its terms: how much each of them counts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ._frame import Frame
from ._program import Literal


def slopes_of(rw: Any, frame: Frame, atoms: Iterable[Any]) -> dict[Any, jax.Array]:
    """The derivative of the objective with respect to each of some terms, by its variable."""
    atoms = list(dict.fromkeys(atoms))
    values = [lax.stop_gradient(frame.env[a]) for a in atoms]

    def objective(values):
        return _combine(rw, frame, dict(zip(atoms, values, strict=True)))

    total, pull = jax.vjp(objective, values)
    (slopes,) = pull(jnp.ones_like(total))
    return dict(zip(atoms, map(lax.stop_gradient, slopes), strict=True))


def _combine(rw: Any, frame: Frame, terms: dict[Any, Any]) -> Any:
    """The objective made of its terms, without weights."""
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
