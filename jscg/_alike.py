"""Whether what is numbered by an axis is alike, but for what was drawn: particles, say.

Examples are not: something that is no draw differs from one to the next.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ._influence import draw_transfers
from ._program import CHECKPOINTS, CUSTOM, Literal, Program
from .rules import CUT, RULES


def alike(program: Program, axes: Mapping[Any, int]) -> bool:
    """Whether nothing but draws differs along an axis of some variables.

    It is a guess: what puts something at one place of the axis is taken for alike (`x.at[0].set`),
    and what jscg has no rule for is not.

    Args:
      program: where they are made.
      axes: of each of the variables one.
    """
    todo = [(program, v, axis) for v, axis in axes.items()]
    seen, producers = set(), {}
    while todo:
        part, v, axis = todo.pop()
        if isinstance(v, Literal) or (v, axis) in seen:
            continue
        seen.add((v, axis))
        if part not in producers:
            producers[part] = part.producers()
        index = producers[part].get(v)
        if index is None:
            outer = part.operand(v)
            around = part.parent
            if outer is None or around is None or part.holder not in CUSTOM | CHECKPOINTS:
                return False  # an argument
            todo.append((around, outer, axis))
            continue
        eqn = part.eqns[index]
        if index in part.subs:
            if eqn.primitive.name not in CUSTOM | CHECKPOINTS:
                return False
            sub = part.subs[index][0]
            todo.append((sub, sub.outvars[eqn.outvars.index(v)], axis))
            continue
        operands = _made_of(eqn, eqn.outvars.index(v), axis)
        if operands is None:
            return False
        todo += [(part, *operand) for operand in operands]
    return True


def _made_of(eqn: Any, place: int, axis: int) -> list[tuple[Any, int]] | None:
    """Of what an axis of a result is made, index by index: nothing if it is alike anyway.

    None where that is not known.
    """
    name = eqn.primitive.name
    if name == "broadcast_in_dim":
        (operand, *_), dimensions = eqn.invars, eqn.params["broadcast_dimensions"]
        if axis not in dimensions or operand.aval.shape[dimensions.index(axis)] == 1:
            return []
    if name == "draw":
        pairs = list(zip(eqn.invars, draw_transfers(eqn), strict=True))[1:]
    elif name in RULES:
        pairs = list(zip(eqn.invars, RULES[name].transfers(eqn)[place], strict=True))
    else:
        return None
    found = []
    for operand, transfer in pairs:
        for i, t in enumerate(() if transfer == CUT else transfer):
            if t is not None and t[0] == axis:
                if t[1:] != (0, 0):
                    return None
                found.append((operand, i))
    return found if found or name == "draw" else None
