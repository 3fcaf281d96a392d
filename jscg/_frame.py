"""The state of a program that is being run again."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax

from ._nodes import StochasticNode
from ._program import Literal, Program
from ._relation import Relation
from ._weights import LogProb, box, leave_one_out


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
      sums: sums of log-probs that were made for costs so far.
      boxes: the weights that were made of such sums.
      supports: of the draws that were enumerated so far, the outcomes and their probabilities.
    """

    program: Program
    env: dict[Any, Any]
    shadows: dict[Any, Any]
    scope: Scope
    raw: dict[StochasticNode, jax.Array]
    extra: Any
    sums: dict[Any, tuple[int, Any, Any]] = dataclasses.field(default_factory=dict)
    boxes: dict[Any, tuple[jax.Array, jax.Array]] = dataclasses.field(default_factory=dict)
    supports: dict[StochasticNode, Any] = dataclasses.field(default_factory=dict)

    def weight(
        self, parts: list[tuple[LogProb, Relation]], shape: tuple[int, ...], others: int | None
    ) -> jax.Array:
        """The box of log-probs as they influence a cost, in a shape that broadcasts to the cost's.

        The baseline is the mean of the boxes along axis `others` of the cost, if that is given.
        """
        bands = [relation[a] for part, relation in parts for a in part.axes]
        axes = sorted({b[0] for b in bands if b is not None and isinstance(b[0], int)})
        # Without the other axes of the cost, costs of all shapes share sums and boxes.
        places = {axis: place for place, axis in enumerate(axes)}
        closer = [(part, _rename(relation, places)) for part, relation in parts]
        total = self.sum(closer, tuple(shape[i] for i in axes))
        key = (id(total), None if others is None else places[others])
        if key not in self.boxes:
            made = box(total) if others is None else leave_one_out(total, places[others])
            self.boxes[key] = (made, total)
        return self.boxes[key][0].reshape([n if i in places else 1 for i, n in enumerate(shape)])

    def sum(self, parts: list[tuple[LogProb, Relation]], shape: tuple[int, ...]) -> Any:
        """Sums log-probs as they influence a cost; what an earlier cost summed is used again.

        Costs further down are influenced by the same draws and a few more, so that sums of
        prefixes are shared, and a program with n draws in a row needs n of them and not n^2.
        """
        number, total = -1, None
        for part, relation in parts:
            key = (number, id(part.array), tuple(relation[a] for a in part.axes), shape)
            if key not in self.sums:
                laid = part.lay_out(relation, shape)
                longer = laid if total is None else total + laid
                # The part is kept as well: its id must not be used again.
                self.sums[key] = (len(self.sums), longer, part.array)
            number, total, _ = self.sums[key]
        return total

    def read(self, atom: Any) -> Any:
        """The value of a variable or literal."""
        return atom.val if isinstance(atom, Literal) else self.env[atom]


def _rename(relation: Relation, places: dict[int, int]) -> Relation:
    """The relation with other numbers for the axes of the value, where it has those."""
    return tuple(
        None if b is None or b[0] not in places else (places[b[0]], *b[1:]) for b in relation
    )
