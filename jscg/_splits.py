"""Where splitting a value leads: the first pass of finding cost nodes.

From a value back through linear operations, loops' accumulators and stacked outputs included.  A
value stays whole where its parts would be influenced alike, so that as few and as small arrays as
possible are weighted.
"""

from __future__ import annotations

import collections
import dataclasses
from collections.abc import Callable, Container, Iterator
from typing import Any

from ._influence import InfluenceMap
from ._linear import is_zero, linear_operands
from ._program import CHECKPOINTS, Literal, Program, split_scan
from ._relation import NOTHING, Influence, join

MANY = -1


@dataclasses.dataclass(eq=False)
class Split:
    """How one variable is made of costs.

    Attributes:
      reach: how finely the costs below are influenced: a number that equal reaches share, MANY
        where they differ, None where there is no cost.
      carries: the (loop body, carry) pairs that it contains linearly.
      parts: for a linear equation, the indices of the operands to follow.
      constant: whether it also has a part that no draw influences.
      apart: whether the steps of a loop come apart in it.
      whole: whether it is a cost node itself.
    """

    reach: int | None
    carries: frozenset[tuple[Program, int]] = frozenset()
    parts: tuple[int, ...] = ()
    constant: bool = False
    apart: bool = False
    whole: bool = False

    def add(self, other: Split, constant: bool) -> None:
        """Takes the costs of `other` in."""
        if other.reach is not None and other.reach != self.reach:
            self.reach = other.reach if self.reach is None else MANY
        self.carries |= other.carries
        self.constant |= constant
        self.apart |= other.apart


class Splits:
    """Finds how values are split, each when it is asked for.

    Args:
      program: the program.
      influence: of its draws.
      keep_constants: whether what is added to a cost stays a part of it, though no draw
        influences it.
      whole: variables that are not taken apart.
      factors: what influences a product must not be in two of its factors; of all draws in
        `influence`, unless it is given.
      better_inside: whether a cost in the body of a loop had better be weighted there than where it
        is stacked, though its steps are influenced alike.
    """

    def __init__(
        self,
        program: Program,
        influence: InfluenceMap,
        keep_constants: bool,
        whole: Container[Any],
        factors: InfluenceMap | None,
        better_inside: Callable[[Program, Any, Any], bool],
    ):
        self.influence, self.keep_constants, self.whole = influence, keep_constants, whole
        self.better_inside = better_inside
        self.factors = factors if factors is not None else influence
        self.producers = {part: part.producers() for part in program.walk()}
        self.found: dict[Any, Split] = {}
        self.reach_of: dict[int, int] = {}
        self.numbers: dict[Any, int] = {}
        self.kept: list[Influence] = []

    def __call__(self, program: Program, atom: Any) -> Split:
        if isinstance(atom, Literal):
            influence = self.taken(program)
            return Split(self.reach(influence) if influence else None, constant=not influence)
        if atom not in self.found:
            influence = self.effective(program, atom)
            found: Split | None = Split(None, constant=True)
            if influence:
                found = None if atom in self.whole else self.follow(program, atom)
                mine = self.reach(influence)
                gains = found is not None and (found.constant or found.apart or found.reach != mine)
                if found is None or not (found.carries or gains):
                    found = Split(mine, whole=True)
            assert found is not None
            self.found[atom] = found
        return self.found[atom]

    # What influences a value, whether the branch it stands in is taken included.

    def taken(self, program: Program) -> Influence:
        out = NOTHING
        for part in program.path:
            out = join(out, self.influence.taken.get(part, NOTHING))
        return out

    def effective(self, program: Program, atom: Any) -> Influence:
        return join(self.influence[atom], self.taken(program))

    def reach(self, influence: Influence) -> int:
        """How finely a value is influenced, whatever its axes are called, as a number."""
        if id(influence) not in self.reach_of:
            related = collections.defaultdict(list)  # often all in the same way
            for node, relation in influence.items():
                related[relation].append(node)
            alike = collections.defaultdict(set)
            for relation, nodes in related.items():
                alike[tuple(None if b is None else b[1:] for b in relation)].update(nodes)
            bands = frozenset((b, frozenset(nodes)) for b, nodes in alike.items())
            self.reach_of[id(influence)] = self.numbers.setdefault(bands, len(self.numbers))
            self.kept.append(influence)  # or its id might be used again
        return self.reach_of[id(influence)]

    def follow(self, program: Program, atom: Any) -> Split | None:
        index = self.producers[program].get(atom)
        if index is None:
            return self.follow_input(program, atom)
        eqn = program.eqns[index]
        if index in program.subs:
            return self.follow_region(program, index, eqn.outvars.index(atom))
        influenced = [bool(self.factors[v]) for v in eqn.invars]
        if not any(influenced):
            influenced = [bool(self.influence[v]) for v in eqn.invars]
        operands = linear_operands(eqn, influenced)
        if not operands:
            return None
        found = Split(None, parts=operands)
        for i in operands:
            self.take(found, program, eqn.invars[i])
        return None if found.constant and self.keep_constants else found

    def take(self, found: Split, program: Program, atom: Any) -> None:
        part = self(program, atom)
        found.add(part, part.constant and not is_zero(program, atom, self.producers[program]))

    def follow_input(self, program: Program, atom: Any) -> Split | None:
        position = self.carry_position(program, atom)
        if position is not None:
            return Split(None, carries=frozenset([(program, position)]))
        outer = self.outer(program, atom)
        return None if outer is None else self(*outer)

    def carry_position(self, program: Program, atom: Any) -> int | None:
        """Which carry of the loop around it a variable is, if it is one as it comes in."""
        if program.loop is None or atom not in program.invars:
            return None
        consts, carries, _ = split_scan(self.holder(program), program.invars)
        position = program.invars.index(atom) - len(consts)
        return position if 0 <= position < len(carries) else None

    def holder(self, program: Program) -> Any:
        assert program.parent is not None
        return program.parent.eqns[program.at]

    def outer(self, program: Program, atom: Any) -> tuple[Program, Any] | None:
        """The operand outside that an input is, where weighting it outside is as good."""
        parent = program.parent
        if parent is None or (program.holder == "cond" and self.influence.taken[program]):
            return None
        if program.holder not in {"scan", "cond"} | CHECKPOINTS:
            return None
        position = program.invars.index(atom)
        operands = self.holder(program).invars
        return parent, operands[position + 1 if program.holder == "cond" else position]

    def follow_region(self, program: Program, index: int, position: int) -> Split | None:
        eqn, subs = program.eqns[index], program.subs[index]
        name = eqn.primitive.name
        if name == "scan":
            return self.follow_scan(program, eqn, subs[0], position)
        if name != "cond" and name not in CHECKPOINTS:
            return None
        found = Split(None)
        for sub in subs:
            self.take(found, sub, sub.outvars[position])
        return found

    def follow_scan(self, program, eqn, body: Program, position: int) -> Split | None:
        _, init, _ = split_scan(eqn, list(eqn.invars))
        found = Split(None)
        self.take(found, body, body.outvars[position])
        totals = {k for owner, k in found.carries if owner is body}
        if position < len(init):
            if not totals:
                return None  # only the last step's value is left: nothing was accumulated
            totals.add(position)
        done: set[int] = set()
        while totals - done:
            k = (totals - done).pop()
            done.add(k)
            self.take(found, body, body.outvars[k])
            self.take(found, program, init[k])
            totals |= {k for owner, k in found.carries if owner is body}
        found.carries = frozenset(c for c in found.carries if c[0] is not body)
        found.apart |= bool(done) or any(
            self.better_inside(body, cost, eqn.outvars[position])
            for cost in self.costs_within(body, body.outvars[position])
        )
        return None if found.constant and self.keep_constants else found

    def costs_within(self, program: Program, atom: Any) -> Iterator[Any]:
        """The variables of one program that are costs, and that a variable is made of."""
        todo = [atom]
        while todo:
            atom = todo.pop()
            if isinstance(atom, Literal):
                continue
            split = self(program, atom)
            if split.whole:
                yield atom
            if split.parts and atom in self.producers[program]:  # or it comes from outside
                eqn = program.eqns[self.producers[program][atom]]
                todo += [eqn.invars[i] for i in split.parts]
