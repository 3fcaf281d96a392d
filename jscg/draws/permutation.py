"""Permutation: the draw passes the values of x through, so its derivative is x's own."""

from __future__ import annotations

from jscg.draws._family import Axes, Family, Static, register


def operand_axes(name: str, operand_ndim: int, out_ndim: int, static: Static) -> Axes:
    """None for the axis that is shuffled, every other axis aligned with itself."""
    if operand_ndim == 0:
        return ()
    shuffled = static.get("axis", 0) % operand_ndim
    return tuple(None if axis == shuffled else axis for axis in range(operand_ndim))


register(Family(name="permutation", operands=("x",), discrete=False, operand_axes=operand_axes))
