"""Cost nodes: the terms of the returned value, taken apart where that removes influence."""

from __future__ import annotations

import contextlib
import dataclasses
import sys
from collections.abc import Callable, Container
from typing import Any

from ._influence import InfluenceMap
from ._program import Literal, Program, split_scan
from ._relation import Influence
from ._splits import Splits


@dataclasses.dataclass(eq=False)
class CostNode:
    """One additive term of the returned value.

    Attributes:
      program: the program that computes it.
      atom: its variable (a literal in a branch whose being taken is influenced).
      influence: the draws that influence it, element by element.
    """

    program: Program
    atom: Any
    influence: Influence

    @property
    def aval(self) -> Any:
        """The type of its value."""
        return self.atom.aval


@dataclasses.dataclass
class Shadows:
    """Which values are computed a second time, as weighted sums of costs ("shadows").

    Attributes:
      costs: the cost nodes, by program and variable (None stands for a literal).
      linear: for a variable, the operands of its equation whose shadows it is made of.
      outputs: for each program, the positions of the outputs that have shadows.
      inputs: for each program, the positions of the inputs that have shadows.
    """

    costs: dict[Program, dict[Any, CostNode]]
    linear: dict[Any, tuple[int, ...]]
    outputs: dict[Program, set[int]]
    inputs: dict[Program, set[int]]


@contextlib.contextmanager
def _deep_recursion(depth: int):
    """Lets Python follow sums of many terms, each added to the last."""
    limit = sys.getrecursionlimit()
    sys.setrecursionlimit(limit + depth)
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


class CostFinder:
    """Finds the cost nodes of one output of a program, and what is computed as a shadow.

    Args:
      program: the program.
      influence: of its draws.
      keep_constants: as of `Splits`.
      whole: as of `Splits`.
      factors: as of `Splits`.
      better_inside: whether a cost that a loop stacks had better be weighted in the loop, though
        its steps are influenced alike; see `EnumerableAtItsStep`.
    """

    def __init__(
        self,
        program: Program,
        influence: InfluenceMap,
        keep_constants: bool = False,
        whole: Container[Any] = (),
        factors: InfluenceMap | None = None,
        better_inside: Callable[[CostNode, Any, dict[Any, int]], bool] = lambda *_: False,
    ):
        self.influence, self.better_inside = influence, better_inside
        self.splits = Splits(program, influence, keep_constants, whole, factors, self._inside)
        self.producers = self.splits.producers
        self.shadows = Shadows({}, {}, {}, {})
        with _deep_recursion(4 * sum(len(part.eqns) for part in program.walk())):
            self.mark_output(program, 0)

    def _inside(self, body: Program, atom: Any, stacked: Any) -> bool:
        return self.better_inside(self.cost(body, atom), stacked, self.producers[body])

    def cost(self, program: Program, atom: Any) -> CostNode:
        """A value as a cost node."""
        return CostNode(program, atom, self.splits.effective(program, atom))

    def mark(self, program: Program, atom: Any) -> None:
        if isinstance(atom, Literal):
            if self.splits.taken(program):
                self.shadows.costs.setdefault(program, {})[None] = self.cost(program, atom)
            return
        if self.is_marked(program, atom):
            return
        split = self.splits(program, atom)
        if split.reach is None and not split.carries:
            return
        if split.whole:
            self.shadows.costs.setdefault(program, {})[atom] = self.cost(program, atom)
            return
        index = self.producers[program].get(atom)
        if index is None:
            position = program.invars.index(atom)
            self.shadows.inputs.setdefault(program, set()).add(position)
            outer = self.splits.outer(program, atom)
            if self.splits.carry_position(program, atom) is None and outer is not None:
                self.mark(*outer)
            return
        eqn = program.eqns[index]
        if index not in program.subs:
            self.shadows.linear[atom] = split.parts
            for i in split.parts:
                self.mark(program, eqn.invars[i])
            return
        for sub in program.subs[index]:
            self.mark_output(sub, eqn.outvars.index(atom))

    def is_marked(self, program: Program, atom: Any) -> bool:
        return atom in self.shadows.linear or atom in self.shadows.costs.get(program, {})

    def mark_output(self, program: Program, position: int) -> None:
        outputs = self.shadows.outputs.setdefault(program, set())
        if position in outputs:
            return
        outputs.add(position)
        atom = program.outvars[position]
        self.mark(program, atom)
        if program.loop is None:
            return
        eqn = self.splits.holder(program)
        consts, init, _ = split_scan(eqn, list(eqn.invars))
        totals = {k for owner, k in self.splits(program, atom).carries if owner is program}
        for k in totals | ({position} if position < len(init) else set()):
            self.shadows.inputs.setdefault(program, set()).add(len(consts) + k)
            assert program.parent is not None
            self.mark(program.parent, init[k])
            self.mark_output(program, k)
