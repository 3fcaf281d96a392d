"""What jscg makes of a program, read off its plan."""

from __future__ import annotations

import jax
import jax.numpy as jnp

import jscg
from jscg._activity import active_variables, noisy_variables
from jscg._intercept import explicit_draws
from jscg._nodes import PATHWISE, SCORED
from jscg._plan import make_plan
from jscg._program import build


def planned(fun, params, estimators=None):
    """The verdict of jscg on `fun(params, key)`, and why: an error or the draws."""
    with explicit_draws():
        closed = jax.make_jaxpr(fun)(jnp.asarray(params), jax.random.key(0))
    program = build(closed)
    inputs = [False] * len(closed.consts) + [True, False]
    meet = active_variables(program, inputs) & noisy_variables(program, set())
    try:
        plan = make_plan(program, inputs, estimators)
    except jscg.JscgError as error:
        return "refused", str(error)
    scored = [n for n in plan.nodes if n.verdict == SCORED]
    if any(n.rule.observed and "source" not in n.operands() for n in scored):
        return "mended", scored
    if scored:
        return "scored", scored
    through = meet or any(n.verdict == PATHWISE for n in plan.nodes)
    return ("path" if through else "free"), plan.nodes
