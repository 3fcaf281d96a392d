"""Through which operations a sum of costs may be taken apart.

An operation is linear in some of its operands when the others are influenced by no draw: then
the operation on a weighted cost is the weighted operation on the cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from ._program import Literal

# equation, which operands are influenced -> indices of the operands it is linear in
LINEAR: dict[str, Callable[[Any, list[bool]], tuple[int, ...]]] = {}


def _register(*names: str):
    def register(fun):
        LINEAR.update({name: fun for name in names})
        return fun

    return register


@_register("add", "add_any", "sub", "concatenate")
def _all(eqn, influenced):
    return tuple(range(len(eqn.invars)))


@_register(
    "neg",
    "reduce_sum",
    "reshape",
    "broadcast_in_dim",
    "squeeze",
    "transpose",
    "slice",
    "copy",
    "name",
    "rev",
    "cumsum",
    "convert_element_type",
    "reduce_precision",
    "baseline",
    "control_variate",
    "expectation",
)
def _first(eqn, influenced):
    return (0,)


@_register("div", "pad", "dynamic_slice", "gather")
def _first_alone(eqn, influenced):
    return () if any(influenced[1:]) else (0,)


@_register("dot_general")
def _weighted_sum(eqn, influenced):
    # Behind a product with a matrix, a term for each of its rows would have to be kept.
    operands = _bilinear(eqn, influenced)
    if operands:
        other = 1 - operands[0]
        contract, batch = (side[other] for side in eqn.params["dimension_numbers"])
        if len(contract) + len(batch) < len(eqn.invars[other].aval.shape):
            return ()
    return operands


@_register("mul")
def _bilinear(eqn, influenced):
    return (influenced.index(True),) if sum(influenced) == 1 else ()


@_register("select_n")
def _cases(eqn, influenced):
    return () if influenced[0] else tuple(range(1, len(eqn.invars)))


@_register("dynamic_update_slice")
def _update(eqn, influenced):
    return () if any(influenced[2:]) else (0, 1)


@_register("scatter-add", "scatter-sub")
def _scatter(eqn, influenced):
    return () if influenced[1] else (0, 2)


def linear_operands(eqn: Any, influenced: list[bool]) -> tuple[int, ...]:
    """Indices of the operands through which a cost may be followed; empty where it may not."""
    rule = LINEAR.get(eqn.primitive.name)
    if rule is None:
        return ()
    operands = rule(eqn, influenced)
    floats = all(jnp.issubdtype(eqn.invars[i].aval.dtype, jnp.inexact) for i in operands)
    return operands if floats else ()


# Linear as well, though costs are not followed through them: they would not get smaller.
_WHOLE: dict[str, Callable[[Any, list[bool]], tuple[int, ...]]] = {
    **dict.fromkeys(("stack", "optimization_barrier"), _all),
    **dict.fromkeys(("stop_gradient", "split", "unstack", "reduce_window_sum"), _first),
    **dict.fromkeys(("dot_general", "conv_general_dilated"), _bilinear),
}


def is_linear(eqn: Any, made: list[bool], influenced: list[bool] | None = None) -> bool:
    """Whether the results of an equation are linear in some of its operands, jointly.

    Args:
      eqn: the equation.
      made: for each operand, whether it is one of these.
      influenced: for each operand, whether it changes when these do; all do if not given.
    """
    influenced = influenced or [True] * len(made)
    rule = _WHOLE.get(eqn.primitive.name) or LINEAR.get(eqn.primitive.name)
    if rule is None:
        return False
    operands = rule(eqn, influenced)
    values = [v for v, m in zip(eqn.invars, made, strict=True) if m] + list(eqn.outvars)
    floats = all(jnp.issubdtype(v.aval.dtype, jnp.inexact) for v in values)
    return floats and all(i in operands for i, m in enumerate(made) if m)


def is_zero(program: Any, atom: Any, producers: dict[Any, int]) -> bool:
    """Whether a value is known to be all zeros (an accumulator before a loop)."""
    while not isinstance(atom, Literal):
        eqn = program.eqns[producers[atom]] if atom in producers else None
        if eqn is None or eqn.primitive.name not in {"broadcast_in_dim", "convert_element_type"}:
            return False
        atom = eqn.invars[0]
    return not jnp.ndim(atom.val) and float(atom.val) == 0.0
