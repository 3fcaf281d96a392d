"""What an error is about, in the program that it was raised for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from ._errors import JscgError
from ._paths import Flow, Spot
from ._program import Program


class Trail(NamedTuple):
    """What an error is about, in the program that it was raised for (see `Subject`).

    Attributes:
      flow: the program.
      draw: the spot of the draw; none if there is no such draw.
      fault: the spots of the equation because of which the program is refused.
      through: the operand by which it is reached, if it matters by which.
      keys: whether it is about what the draw is made with.
    """

    flow: Flow
    draw: list[Spot]
    fault: list[Spot]
    through: Any
    keys: bool


def follow(error: JscgError, program: Program, active_inputs: Sequence[bool], names: Any) -> None:
    """Lets an error know the program that it was raised for; see `Flow` for the arguments."""
    about = error.subject
    if about is not None:
        flow = Flow(program, active_inputs, names, [about.draw, about.fault])
        draw, fault = flow.wanted
        error.trail = Trail(flow, draw, fault, about.through, about.keys)
        error.add_note("jscg.explain() shows the way there, line by line.")
        error.subject = None  # parameters of equations may hold tracers
