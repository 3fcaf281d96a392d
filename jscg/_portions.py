"""In which portions a program is run again.

Most equations are touched by no plan.  They are run as they are, many in a row, and a jitted
function of the user in which nothing is touched stays one call.  What nobody needs is left out.
"""

from __future__ import annotations

import bisect
import itertools
from typing import Any, NamedTuple

from ._primitives import MARKS
from ._program import Literal, Program


class Unit(NamedTuple):
    """One equation, or a whole call.

    Attributes:
      index: of the (first) equation.
      eqn: what is run.
      anew: whether the rewrite runs it in its own way.
    """

    index: int
    eqn: Any
    anew: bool


def portions(rw: Any, program: Program) -> list[int | list[Any]]:
    """What to run, in order: the index of an equation to run anew, or equations to run as is."""
    out: list[int | list[Any]] = []
    for anew, units in itertools.groupby(_live(rw, program), key=lambda u: u.anew):
        if anew:
            out += [u.index for u in units]
        else:
            out.append([u.eqn for u in units])
    return out


def _live(rw: Any, program: Program) -> list[Unit]:
    """Units whose results are used, once sums of costs are computed as shadows."""
    shadows = rw.shadows
    outputs = shadows.outputs.get(program, set())
    root = program.parent is None
    read = _read_directly(rw, program)
    needed = read | {
        v
        for i, v in enumerate(program.outvars)
        if not isinstance(v, Literal) and not (root and i in outputs and rw.has_shadow(program, v))
    }
    live = []
    for unit in reversed(_units(rw, program, read)):
        eqn = unit.eqn
        held = unit.index in program.subs and unit.anew
        if (
            not needed.isdisjoint(eqn.outvars)
            or (eqn.effects and rw.keeps_effects)
            or held
            or not rw.baselines.keys().isdisjoint(eqn.outvars)
        ):
            live.append(unit)
            needed.update(variables(eqn.invars))
        elif eqn.outvars and (parts := shadows.linear.get(eqn.outvars[0])) is not None:
            # Only its shadow is used: its factors are needed.
            factors = [
                v
                for i, v in enumerate(eqn.invars)
                if i not in parts or not rw.has_shadow(program, v)
            ]
            needed.update(variables(factors))
    return live[::-1]


def _read_directly(rw: Any, program: Program) -> set[Any]:
    """Variables that costs and log-probs are made of."""
    read = set()
    for atom, cost in rw.shadows.costs.get(program, {}).items():
        if atom is not None:
            read.add(atom)
        for e in rw.plan.weights[cost].enumerations:
            for i in e.path:
                read.update(variables(program.eqns[i].invars))
    for edge in rw.edges.values():
        if edge.node.program is program:
            for i in [*edge.path, edge.index]:
                read.update(variables(program.eqns[i].invars))
    for fitted in rw.plan.fitted.values() if program is rw.plan.program else ():
        for i in fitted.run.path if fitted.run else ():
            read.update(variables(program.eqns[i].invars))
    for particles in rw.plan.particles.values() if program is rw.plan.program else ():
        for i in particles.tail:
            read.update(variables(program.eqns[i].invars))
    for scorer in rw.scorers.values():
        if scorer.node.program is program:
            read.update(variables(scorer.atoms))
            read.add(scorer.node.var)
    return read


def _units(rw: Any, program: Program, read: set[Any]) -> list[Unit]:
    """All equations, those of calls in which nothing is touched taken together."""
    producers = rw.plan.finder.producers[program]
    anew = {i for i, eqn in enumerate(program.eqns) if eqn.primitive.name in MARKS}
    anew.update(i for i in program.subs if rw.touched[program, i])
    anew.update(i for part, i in _places(rw) if part is program)
    linear = {producers[v] for v in rw.shadows.linear if v in producers}
    touched = sorted(anew | linear)
    looked_up = sorted(producers[v] for v in read if v in producers)

    def count(places: list[int], start: int, stop: int) -> int:
        return bisect.bisect_left(places, stop) - bisect.bisect_left(places, start)

    units, i = [], 0
    while i < len(program.eqns):
        for stop, eqn in reversed(program.calls.get(i, ())):
            inside = count(looked_up, i, stop) - len(read.intersection(eqn.outvars))
            if not inside and not count(touched, i, stop):
                units.append(Unit(i, eqn, False))
                i = stop
                break
        else:
            units.append(Unit(i, program.eqns[i], i in anew))
            i += 1
    return units


def _places(rw: Any) -> set[tuple[Program, int]]:
    """Equations that are run in a way of their own."""
    return rw.edges.keys() | rw.lifted | rw.passed | rw.plan.kinks.keys()


def variables(atoms) -> list[Any]:
    """Those that are no literals."""
    return [a for a in atoms if not isinstance(a, Literal)]
