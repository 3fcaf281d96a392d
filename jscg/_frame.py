"""The state of a program that is being run again."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from ._nodes import StochasticNode
from ._program import Literal, Program
from ._weights import LogProb


@dataclasses.dataclass
class Scope:
    """Log-probs from outside of a program.

    Attributes:
      current: of draws that were made before, outside.
      past: of the earlier steps of a loop around it.
    """

    current: dict[StochasticNode, LogProb]
    past: dict[tuple[Any, StochasticNode], LogProb]


@dataclasses.dataclass
class Frame:
    """One program being run.

    Attributes:
      program: the program.
      env: its values.
      shadows: its weighted values.
      scope: the log-probs known so far.
      raw: log-probs of its own draws, with all axes.
      extra: terms to add to the result (baselines).
    """

    program: Program
    env: dict[Any, Any]
    shadows: dict[Any, Any]
    scope: Scope
    raw: dict[StochasticNode, jax.Array]
    extra: Any

    def read(self, atom: Any) -> Any:
        """The value of a variable or literal."""
        return atom.val if isinstance(atom, Literal) else self.env[atom]
