"""Primitives whose value is that of a function which they hold."""

from __future__ import annotations

from .._compat import expanded
from ._registry import made_by


@made_by("custom_linear_solve")
def solution(eqn):
    """The function that solves makes it; the others are for derivatives."""
    lengths = eqn.params["const_lengths"]
    first, count = lengths.matvec + lengths.vecmat, sum(lengths)
    places = [*range(first, first + lengths.solve), *range(count, len(eqn.invars))]
    return eqn.params["jaxprs"].solve, places


@made_by("call_hi_primitive")
def of_simpler_operations(eqn):
    """What it is made of, where that is known."""
    inner = expanded(eqn)
    return None if inner is None else (inner, [*range(len(eqn.invars))])
