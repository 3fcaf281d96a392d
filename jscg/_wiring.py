"""Which variables of one program are made of which."""

from __future__ import annotations

import itertools
from collections.abc import Container, Iterable
from typing import Any

from ._program import Literal, Program


class Wiring:
    """The equations of one program, without those in the programs within.

    Attributes:
      eqns: in order.
      producers: for a variable, the index of the equation that makes it.
    """

    def __init__(self, program: Program):
        self.eqns = program.eqns
        self.producers = program.producers()

    def depending(self, sources: Iterable[Any]) -> set[Any]:
        """Some variables, and all that they influence."""
        found = set(sources)
        for eqn in self.eqns if found else ():
            if any(among(v, found) for v in eqn.invars):
                found.update(eqn.outvars)
        return found

    def needed(self, targets: Iterable[Any], known: Container[Any]) -> list[int]:
        """The equations that make some variables of what is known, in order."""
        todo, wanted = list(targets), set()
        while todo:
            v = todo.pop()
            index = None if isinstance(v, Literal) or v in known else self.producers.get(v)
            if index is not None and index not in wanted:
                wanted.add(index)
                todo += self.eqns[index].invars
        return sorted(wanted)

    def read(self, eqns: list[int], targets: Iterable[Any] = ()) -> list[Any]:
        """The variables that equations read, or that are wanted, and that these do not make."""
        made = {v for i in eqns for v in self.eqns[i].outvars}
        atoms = [*itertools.chain(*(self.eqns[i].invars for i in eqns)), *targets]
        return list({v: None for v in atoms if not isinstance(v, Literal) and v not in made})


def among(v: Any, found: Container[Any]) -> bool:
    """Whether an operand is one of some variables."""
    return not isinstance(v, Literal) and v in found
