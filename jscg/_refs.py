"""Mutable references (`jax.new_ref`): what is written to one is not followed."""

from __future__ import annotations

from typing import Any

from ._activity import propagate
from ._errors import BiasError
from ._program import Literal, Program
from ._source import at_line


def check_refs(program: Program, active: set[Any]) -> None:
    """Refuses references that hold what depends on a draw or on the parameters.

    Raises:
      BiasError: there is one, so that what is read from it would have no gradient.
    """
    writes = [
        eqn
        for part in program.walk()
        for index, eqn in enumerate(part.eqns)
        if index not in part.subs
        and (eqn.effects or eqn.primitive.name == "new_ref")
        and any(map(_is_ref, _around(eqn)))
    ]
    if not writes:
        return
    drawn: set[Any] = set()
    propagate(program, [False] * len(program.invars), drawn, _depends, everywhere=True)
    for eqn in writes:
        values = [v for v in eqn.invars if not (isinstance(v, Literal) or _is_ref(v))]
        if any(v in drawn or v in active for v in values):
            error = BiasError(
                f"jscg: a mutable reference (jax.new_ref) is written{at_line(eqn)} with a value "
                "that depends on a draw or on the arguments that the gradient is for.  jscg does "
                "not follow values through references, so that the gradient of what is read from "
                "it would silently be lost.\nWhat to do instead:\n"
                "  - carry the value: in the carry of a scan, or as a result\n"
                "  - write jscg.stop_influence(jax.lax.stop_gradient(value)), if it is a record on "
                "which the cost does not depend"
            )
            raise error.about(None, eqn)


def _depends(eqn: Any, flags: list[bool]) -> list[bool]:
    name = eqn.primitive.name
    return [(name == "draw" or any(flags)) and name != "stop_influence"] * len(eqn.outvars)


def _around(eqn: Any) -> list[Any]:
    return [*(v for v in eqn.invars if not isinstance(v, Literal)), *eqn.outvars]


def _is_ref(var: Any) -> bool:
    return hasattr(var.aval, "inner_aval")
