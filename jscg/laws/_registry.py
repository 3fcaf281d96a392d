"""What a law says, and the list of all laws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from jscg._program import Program


class Law(NamedTuple):
    """A draw in the place of a result of an equation.

    Attributes:
      program, index: of that equation.
      family: of the draw.
      operands: for each operand, a function of the result and of the inputs.
      inputs: variables.
      static: parameters of the draw.
      place: which result.
    """

    program: Program
    index: int
    family: str
    operands: dict[str, Callable[..., Any]]
    inputs: list[Any]
    static: tuple = ()
    place: int = 0

    @property
    def result(self) -> Any:
        """The variable that is drawn."""
        return self.program.eqns[self.index].outvars[self.place]


_first: list[Callable[..., Law | None]] = []
_last: list[Callable[..., Law | None]] = []


def law(*, last: bool = False):
    """Registers a function `(jump, source, active, uses) -> Law | None`.

    The jump stands in the program of the draw `source`; where the draw meets the parameters in a
    loop or branch only, it is the equation that holds that.
    """

    def register(fun):
        (_last if last else _first).append(fun)
        return fun

    return register


def all_laws() -> list[Callable[..., Law | None]]:
    """The functions, in the order in which they are asked."""
    return [*_first, *_last]
