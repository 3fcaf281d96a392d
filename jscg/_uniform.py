"""Arrays whose elements are all the same known number, such as an outcome of a draw.

Many outcomes are looked at together, on a first axis that the program does not see: then a known
array has one number for each of them, and of all others there is a stack.

Of `x * l` at the outcomes 0 and 1 nothing and l are left: what a person would have written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
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
class Stack:
    """An array for each of many outcomes.

    Attributes:
      array: all of them, outcomes first.
    """

    array: jax.Array


def for_each(fun: Callable[..., Any], args: Sequence[Any]) -> Any:
    """A function of arrays, of the arrays of every outcome where some are stacked."""
    axes = tuple(0 if isinstance(x, Stack) else None for x in args)
    if not any(axis == 0 for axis in axes):
        return fun(*args)
    found = jax.vmap(fun, axes)(*(x.array if isinstance(x, Stack) else x for x in args))
    return jax.tree.map(Stack, found)


@dataclasses.dataclass(frozen=True)
class Uniform:
    """An array of one number.

    Attributes:
      number: the number, of the dtype of the array; a vector if there is one for each outcome.
    """

    number: np.ndarray

    def __post_init__(self):
        """What is the same for all outcomes is one number."""
        number = np.asarray(self.number)
        if number.ndim and np.all(number == number[0]):
            object.__setattr__(self, "number", number[0])

    @property
    def single(self) -> bool:
        """Whether there is one number for all outcomes."""
        return not np.ndim(self.number)

    def fill(self, aval: Any) -> jax.Array | Stack:
        """The array itself, of the type of another."""
        number = self.number if self.single else Stack(jnp.asarray(self.number))
        return for_each(lambda x: like(jnp.full(aval.shape, x), aval), [number])


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
            if isinstance(one, Uniform) and one.single and one.number in (0, 1):
                if isinstance(other, Uniform) or not one.number:
                    return other if one.number else one
                if isinstance(other, Stack):
                    return other if np.shape(other.array)[1:] == out.shape else None
                return like(jnp.broadcast_to(jnp.asarray(other, out.dtype), out.shape), out)
    return None
