"""Arrays whose elements are all the same known number, such as an outcome of a draw.

Of `x * l` at the outcomes 0 and 1 nothing and l are left: what a person would have written.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ._primitives import MARKS
from ._program import MOVES
from ._sharding import like

KEPT = MARKS - {"draw"} | MOVES
# By these an index is made of one that may be negative; floats are left to the device.
COMPUTED = {"lt": np.less, "add": np.add, "sub": np.subtract}


@dataclasses.dataclass(frozen=True)
class Uniform:
    """An array of one number.

    Attributes:
      number: the number, of the dtype of the array.
    """

    number: np.ndarray

    def fill(self, aval: Any) -> jax.Array:
        """The array itself, of the type of another."""
        return like(jnp.full(aval.shape, self.number), aval)


def fold(eqn: Any, args: list[Any]) -> Any:
    """The result of an equation if it is uniform, or one of the operands; else None."""
    name, first, out = eqn.primitive.name, args[0], eqn.outvars[0].aval
    if isinstance(first, Uniform) and name in KEPT:
        return first
    if isinstance(first, Uniform) and name == "convert_element_type":
        return Uniform(first.number.astype(out.dtype))
    if name in COMPUTED and all(isinstance(x, Uniform) for x in args):
        numbers = [x.number for x in args]
        if all(number.dtype.kind in "iu" for number in numbers):
            return Uniform(COMPUTED[name](*numbers))
    if name == "mul":
        for one, other in (args, args[::-1]):
            if isinstance(one, Uniform) and one.number in (0, 1):
                if isinstance(other, Uniform) or not one.number:
                    return other if one.number else one
                return like(jnp.broadcast_to(jnp.asarray(other, out.dtype), out.shape), out)
    return None
