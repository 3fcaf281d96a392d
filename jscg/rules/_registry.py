"""The table of influence rules."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

AxisTransfer = tuple[int, float, float] | None
CUT = "cut"  # in the place of an operand's axes: the operand does not influence the output
Transfer = Any  # for one output: for each operand, CUT or a tuple of AxisTransfer


@dataclasses.dataclass(frozen=True)
class Rule:
    """How one primitive passes influence on.

    Attributes:
      transfers: equation -> for each output, for each operand, where its axes go.
      cheap: whether doing it again for every outcome of a draw costs next to nothing
        (elementwise work, reductions, moving data), so that costs behind it are enumerated.
    """

    transfers: Callable[[Any], list[list[Transfer]]]
    cheap: bool


RULES: dict[str, Rule] = {}
# Other primitives: equation -> the traced function that makes its value, and of which operands;
# None where that is not known.
INNER: dict[str, Callable[[Any], tuple[Any, list[int]] | None]] = {}


def rule(*names: str, cheap: bool = True):
    """Registers a function of an equation as the rule of the primitives called `names`."""

    def register(transfers):
        for name in names:
            RULES[name] = Rule(transfers, cheap)
        return transfers

    return register


def made_by(name: str):
    """Registers what gives the function that makes the value of the primitive called `name`."""

    def register(inner):
        INNER[name] = inner
        return inner

    return register


@functools.cache
def keep(ndim: int) -> tuple[AxisTransfer, ...]:
    """Every axis stays where it is."""
    return tuple((i, 0, 0) for i in range(ndim))


def shape_of(atom: Any) -> tuple[int, ...]:
    """The shape of a variable or literal."""
    return tuple(atom.aval.shape)
